//! The certificate of the hooks door: read from PEM files, swapped when they change, never dropping a connection.
//!
//! A connection keeps the certificate that it was opened with; the next one gets the new pair. A pair that cannot be
//! used is reported and the old one stays. TLS 1.2 and 1.3 only (RFC 8996 retires the rest), one crypto provider that
//! is named here, never the process default. This module asks no client for a certificate and obtains none.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits;

/// Why a pair of certificate and key is not used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not there, or is not ours to read.
    #[error("cannot read `{}`: check that the file is there and that the gateway's user may read it", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// The file is no PEM, or holds something else.
    #[error("`{}` holds no {wanted} in PEM form: it wants a block that starts with `-----BEGIN {block}-----`", path.display())]
    Pem {
        path: PathBuf,
        wanted: &'static str,
        block: &'static str,
        #[source]
        cause: Option<pem::Error>,
    },
    /// The two files do not fit together, or the key is of a kind that is not supported.
    #[error("the key in `{}` cannot be used with the certificate in `{}`: give the key that the certificate was made for", key.display(), cert.display())]
    Pair {
        cert: PathBuf,
        key: PathBuf,
        #[source]
        cause: rustls::Error,
    },
    /// The crypto provider lacks what the chosen TLS versions need.
    #[error("cannot set up TLS")]
    Setup(#[source] rustls::Error),
}

/// Where the pair is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFiles {
    /// The certificate, then the certificates that lead to its root (`fullchain.pem`).
    pub cert: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// The certificate in force. Shared by every listener and by the watcher.
pub struct Certificate {
    files: PemFiles,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
    /// How the files looked before they were last read, whether or not they could be used.
    seen: Mutex<Stamps>,
}

/// What tells that a file was replaced: when it was changed, and its size.
type Stamp = Option<(SystemTime, u64)>;
type Stamps = [Stamp; 2];

impl Certificate {
    /// Reads the pair for the first time.
    pub async fn load(files: PemFiles) -> Result<Arc<Self>, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let seen = stamps(&files).await;
        let current = read(&files, &provider).await?;
        Ok(Arc::new(Self { files, provider, current: ArcSwap::from_pointee(current), seen: Mutex::new(seen) }))
    }

    /// Reads the pair again, whatever the files look like. On an error the old pair stays in force.
    pub async fn reload(&self) -> Result<(), Error> {
        // Looked at before reading: a change that comes while we read is noticed by the next look.
        let stamps = stamps(&self.files).await;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamps;
        let fresh = read(&self.files, &self.provider).await?;
        self.current.store(Arc::new(fresh));
        tracing::info!(tls.cert = %self.files.cert.display(), "the certificate `{}` is in force", self.files.cert.display());
        Ok(())
    }

    /// The settings of a listener that answers with this certificate. ALPN is the listener's own business.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, Error> {
        let config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(Error::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        Ok(config)
    }

    /// Looks at the files every [`limits::TLS_POLL`] until `stop`, and reloads the pair when one of them changed.
    pub fn watch(self: &Arc<Self>, tracker: &TaskTracker, stop: CancellationToken) {
        let certificate = self.clone();
        tracker.spawn(async move {
            let mut tick = tokio::time::interval(limits::TLS_POLL);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while stop.run_until_cancelled(tick.tick()).await.is_some() {
                certificate.look().await;
            }
        });
    }

    /// One look at the files. Tools replace the two one after the other, so a pair that does not fit may be half of
    /// a rotation: it is reported, and looked at again when a file changes.
    async fn look(&self) {
        let now = stamps(&self.files).await;
        let changed = *self.seen.lock().unwrap_or_else(PoisonError::into_inner) != now;
        if changed && let Err(error) = self.reload().await {
            let why = with_sources(&error);
            tracing::error!(tls.error = %why, "the changed certificate is not used, the old one stays in force: {why}");
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // One certificate whatever name was asked for: who calls by address or by an old name gets to see why it fails.
        Some(self.current.load_full())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

async fn read(files: &PemFiles, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let chain = certificates(&files.cert, &read_file(&files.cert).await?)?;
    let key = PrivateKeyDer::from_pem_slice(&read_file(&files.key).await?).map_err(|cause| Error::Pem {
        path: files.key.clone(),
        wanted: "private key",
        block: "PRIVATE KEY",
        cause: Some(cause),
    })?;
    CertifiedKey::from_der(chain, key, provider).map_err(|cause| Error::Pair {
        cert: files.cert.clone(),
        key: files.key.clone(),
        cause,
    })
}

fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |cause| Error::Pem { path: path.to_owned(), wanted: "certificate", block: "CERTIFICATE", cause };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|cause| wrong(Some(cause)))?;
    if chain.is_empty() { Err(wrong(None)) } else { Ok(chain) }
}

async fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(path).await.map_err(|cause| Error::Read { path: path.to_owned(), cause })
}

async fn stamps(files: &PemFiles) -> Stamps {
    [stamp(&files.cert).await, stamp(&files.key).await]
}

async fn stamp(path: &Path) -> Stamp {
    let meta = tokio::fs::metadata(path).await.ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use rcgen::{CertifiedKey as Generated, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;

    fn pair() -> Generated<rcgen::KeyPair> {
        generate_simple_self_signed(["hooks.example.com".to_owned()]).unwrap()
    }

    fn write(folder: &TempDir, cert: &str, key: &str) -> PemFiles {
        let files = PemFiles { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key).unwrap();
        files
    }

    async fn check_refused(cert: &str, key: &str, message: &str) {
        let folder = TempDir::new().unwrap();
        let error = Certificate::load(write(&folder, cert, key)).await.unwrap_err();
        let text = with_sources(&error);
        assert!(text.contains(message), "{text}");
    }

    #[tokio::test]
    async fn pairs_that_cannot_be_used() {
        let (one, two) = (pair(), pair());
        let (cert, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        check_refused("", &key, "holds no certificate").await;
        check_refused(&key, &key, "holds no certificate").await;
        check_refused("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", &key, "holds no certificate")
            .await;
        check_refused(&cert, "", "holds no private key").await;
        check_refused(&cert, &cert, "holds no private key").await;
        check_refused(&cert, &two.signing_key.serialize_pem(), "KeyMismatch").await;
        let files = PemFiles { cert: "/nowhere/cert.pem".into(), key: "/nowhere/key.pem".into() };
        let error = Certificate::load(files).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot read `/nowhere/cert.pem`"), "{error}");
    }

    #[tokio::test]
    async fn a_pair_is_swapped_only_when_both_halves_fit() {
        let folder = TempDir::new().unwrap();
        let (one, two) = (pair(), pair());
        let files = write(&folder, &one.cert.pem(), &one.signing_key.serialize_pem());
        let certificate = Certificate::load(files.clone()).await.unwrap();
        let der = || certificate.current.load().cert[0].to_vec();
        certificate.look().await;
        assert_eq!(der(), one.cert.der().to_vec());
        // Half of a rotation: sizes are given a difference, as clocks of file systems are coarse.
        std::fs::write(&files.cert, two.cert.pem() + "\n").unwrap();
        certificate.look().await;
        assert_eq!(der(), one.cert.der().to_vec());
        std::fs::write(&files.key, two.signing_key.serialize_pem() + "\n").unwrap();
        certificate.look().await;
        assert_eq!(der(), two.cert.der().to_vec());
        // The files vanish for a moment.
        std::fs::remove_file(&files.key).unwrap();
        certificate.look().await;
        assert_eq!(der(), two.cert.der().to_vec());
        assert!(certificate.reload().await.is_err());
    }

    #[tokio::test]
    async fn old_versions_of_tls_are_not_offered() {
        let folder = TempDir::new().unwrap();
        let one = pair();
        let files = write(&folder, &one.cert.pem(), &one.signing_key.serialize_pem());
        let config = Certificate::load(files).await.unwrap().server_config().unwrap();
        let suites = &config.crypto_provider().cipher_suites;
        assert!(suites.iter().all(|suite| [&TLS12.version, &TLS13.version].contains(&&suite.version().version)));
    }
}
