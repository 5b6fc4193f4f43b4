//! The certificate of a door: read from PEM files or from a key vault, swapped when it changes, never dropping a
//! connection.
//!
//! A connection keeps the certificate that it was opened with; the next one gets the new pair. A pair that cannot be
//! used is reported and the old one stays. TLS 1.2 and 1.3 only (RFC 8996 retires the rest), one crypto provider that
//! is named here, never the process default. This module obtains no certificate. It asks clients for theirs when it is told to,
//! and leaves it to others to judge them.

mod client;
mod pair;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::client::AnyClient;
pub use self::client::{Asks, ClientChain};
use self::pair::{Pair, Seen};
use crate::azure::chain;
use crate::clock::{Clock, Timestamp};
use crate::domain::secret;
use crate::id::SecretName;
use crate::limits;
use crate::secrets::Vault;

/// Unix time at which the certificate of a door ends, seconds.
const EXPIRES: &str = "clawhook_tls_certificate_expires_seconds";

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
    #[error("{place} holds no {wanted} in PEM form: it wants a block that starts with `-----BEGIN {block}-----`")]
    Pem {
        place: String,
        wanted: &'static str,
        block: &'static str,
        #[source]
        cause: Option<pem::Error>,
    },
    /// The key and the certificate do not fit together, or the key is of a kind that is not supported.
    #[error(
        "the key in {key} cannot be used with the certificate in {cert}: give the key that the certificate was made for"
    )]
    Pair {
        cert: String,
        key: String,
        #[source]
        cause: rustls::Error,
    },
    /// The vault does not give it.
    #[error("cannot get the certificate `{name}` from the key vault: {}", why(cause))]
    Vault { name: SecretName, cause: secret::Error },
    /// What the vault gives is no certificate with its key.
    #[error(
        "the secret `{name}` in the key vault is no certificate with its key: {why}; `key_vault_certificate` names a \
         certificate of the vault whose policy lets its key be exported"
    )]
    Form { name: SecretName, why: String },
    /// The crypto provider lacks what the chosen TLS versions need.
    #[error("cannot set up TLS")]
    Setup(#[source] rustls::Error),
}

/// Where the pair is kept.
#[derive(Debug, Clone)]
pub enum Origin {
    /// In two files.
    Files(PemFiles),
    /// In a vault, under the name of a certificate: the secret of the same name holds the key too.
    Vault { name: SecretName, vault: Arc<Vault> },
}

/// The two files of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFiles {
    /// The certificate, then the certificates that lead to its root (`fullchain.pem`).
    pub cert: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// What a certificate is loaded for.
#[derive(Debug, Clone)]
pub struct Use {
    /// The door, as metrics and logs call it.
    pub door: &'static str,
    /// Tells how much time is left.
    pub clock: Arc<dyn Clock>,
}

/// The certificate in force. Shared by every listener and by the watcher.
pub struct Certificate {
    origin: Origin,
    used: Use,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
    /// What was last read, whether or not it could be used.
    seen: Mutex<Seen>,
}

impl Certificate {
    /// Reads the pair for the first time.
    pub async fn load(origin: Origin, used: Use) -> Result<Arc<Self>, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let seen = origin.look().await;
        let Pair { key, seen } = origin.read(seen, &provider).await?;
        show_end(&used, &key);
        Ok(Arc::new(Self { origin, used, provider, current: ArcSwap::from_pointee(key), seen: Mutex::new(seen) }))
    }

    /// Reads the pair again. On an error the old pair stays in force.
    pub async fn reload(&self) -> Result<(), Error> {
        // Looked at before reading: a change that comes while we read is noticed by the next look.
        let looks = self.origin.look().await;
        self.set_seen(looks.clone());
        let Pair { key, seen } = self.origin.read(looks, &self.provider).await?;
        self.set_seen(seen);
        if key.cert == self.current.load().cert {
            return Ok(());
        }
        show_end(&self.used, &key);
        self.current.store(Arc::new(key));
        let Use { door, .. } = self.used;
        tracing::info!(tls.door = door, tls.origin = %self.origin, "the {door} door has a new certificate, from {}", self.origin);
        Ok(())
    }

    /// When the certificate ends; nothing when it does not say.
    pub fn ends_at(&self) -> Option<Timestamp> {
        end_of(&self.current.load())
    }

    /// Certificates in the chain, the door's own included.
    pub fn chain_length(&self) -> usize {
        self.current.load().cert.len()
    }

    /// The settings of a listener that answers with this certificate, and asks clients for theirs while `asks` says so. ALPN
    /// is the listener's own business.
    pub fn server_config(self: &Arc<Self>, asks: Option<Asks>) -> Result<ServerConfig, Error> {
        let config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(Error::Setup)?
            .with_client_cert_verifier(match asks {
                Some(asks) => Arc::new(AnyClient::new(asks, &self.provider)),
                None => WebPkiClientVerifier::no_client_auth(),
            })
            .with_cert_resolver(self.clone());
        Ok(config)
    }

    /// Looks whether the pair was renewed, until `stop`: at files every [`limits::TLS_POLL`], into a vault every
    /// [`limits::TLS_VAULT_POLL`] and whenever `asked` changes. Warns when the certificate ends soon.
    pub fn watch(self: &Arc<Self>, tracker: &TaskTracker, stop: CancellationToken, mut asked: watch::Receiver<()>) {
        let certificate = self.clone();
        tracker.spawn(async move {
            let poll = certificate.origin.poll();
            let mut tick = tokio::time::interval_at(Instant::now() + poll, poll);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut warned = certificate.warn().then(Instant::now);
            loop {
                let woken = async {
                    tokio::select! {
                        _ = tick.tick() => {}
                        // Whoever asks may go away first; then only the clock is left.
                        Ok(()) = asked.changed() => {}
                    }
                };
                if stop.run_until_cancelled(woken).await.is_none() {
                    return;
                }
                certificate.look().await;
                if warned.is_none_or(|at: Instant| at.elapsed() >= limits::TLS_WARN_EVERY) && certificate.warn() {
                    warned = Some(Instant::now());
                }
            }
        });
    }

    /// One look. Tools replace files one after the other, so a pair that does not fit may be half of a rotation: it
    /// is reported, and looked at again when a file changes.
    async fn look(&self) {
        if self.origin.look().await.is_news_after(&self.seen())
            && let Err(error) = self.reload().await
        {
            let (why, door) = (chain(&error), self.used.door);
            tracing::error!(
                tls.door = door,
                tls.error = %why,
                "the {door} door has no new certificate, the old one stays in force: {why}"
            );
        }
    }

    /// Warns when the certificate ends soon; whether it did.
    fn warn(&self) -> bool {
        let Use { door, clock } = &self.used;
        let Some(ends) = end_of(&self.current.load()) else { return false };
        let Some(warning) = warning(ends, clock.now()) else { return false };
        tracing::warn!(tls.door = door, tls.ends = %ends, "the certificate of the {door} door, from {}, {warning}", self.origin);
        true
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_seen(&self, seen: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
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
        f.debug_struct("Certificate").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Origin {
    fn poll(&self) -> Duration {
        match self {
            Self::Files(_) => limits::TLS_POLL,
            Self::Vault { .. } => limits::TLS_VAULT_POLL,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(PemFiles { cert, .. }) => write!(f, "`{}`", cert.display()),
            Self::Vault { name, .. } => write!(f, "`{name}` in the key vault"),
        }
    }
}

/// Why the vault does not give a certificate. A secret of its name would be set; a certificate is imported.
fn why(cause: &secret::Error) -> String {
    match cause {
        secret::Error::Missing { name, .. } => format!(
            "it has none of this name; az keyvault certificate import --vault-name VAULT --name {name} --file FILE.pfx"
        ),
        secret::Error::Barred { bar: bar @ secret::Bar::Expired(_), .. } => {
            format!("{bar}; renew it: az keyvault certificate create or import makes a new version")
        }
        other => other.to_string(),
    }
}

/// When the first certificate of the chain, which is the door's own, ends.
fn end_of(key: &CertifiedKey) -> Option<Timestamp> {
    let (_, certificate) = x509_parser::parse_x509_certificate(key.cert.first()?).ok()?;
    Some(Timestamp::from_secs(certificate.validity().not_after.timestamp()))
}

fn show_end(used: &Use, key: &CertifiedKey) {
    if let Some(ends) = end_of(key) {
        #[expect(clippy::cast_precision_loss, reason = "seconds of an epoch fit a float for millions of years")]
        metrics::gauge!(EXPIRES, "door" => used.door).set(ends.as_secs() as f64);
    }
}

/// What to say of a certificate that ends then.
fn warning(ends: Timestamp, now: Timestamp) -> Option<String> {
    let left = ends.since(now);
    if left.is_zero() {
        return Some(format!("ended at {ends}: senders refuse this door; renew it"));
    }
    let days = left.as_secs() / (24 * 60 * 60);
    (left < limits::TLS_WARN_BEFORE).then(|| format!("ends at {ends}, in {days} days: renew it"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use rcgen::{CertifiedKey as Generated, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;
    use crate::clock::SystemClock;

    fn pair() -> Generated<rcgen::KeyPair> {
        generate_simple_self_signed(["hooks.example.com".to_owned()]).unwrap()
    }

    fn write(folder: &TempDir, cert: &str, key: &str) -> PemFiles {
        let files = PemFiles { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key).unwrap();
        files
    }

    async fn load(files: PemFiles) -> Result<Arc<Certificate>, Error> {
        Certificate::load(Origin::Files(files), Use { door: "hooks", clock: Arc::new(SystemClock) }).await
    }

    async fn check_refused(cert: &str, key: &str, message: &str) {
        let folder = TempDir::new().unwrap();
        let error = load(write(&folder, cert, key)).await.unwrap_err();
        let text = chain(&error);
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
        let error = load(files).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot read `/nowhere/cert.pem`"), "{error}");
    }

    #[tokio::test]
    async fn a_pair_is_swapped_only_when_both_halves_fit() {
        let folder = TempDir::new().unwrap();
        let (one, two) = (pair(), pair());
        let files = write(&folder, &one.cert.pem(), &one.signing_key.serialize_pem());
        let certificate = load(files.clone()).await.unwrap();
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
        let config = load(files).await.unwrap().server_config(None).unwrap();
        let suites = &config.crypto_provider().cipher_suites;
        assert!(suites.iter().all(|suite| [&TLS12.version, &TLS13.version].contains(&&suite.version().version)));
    }

    #[test]
    fn warnings_begin_in_time() {
        let (day, ends) = (24 * 60 * 60, Timestamp::from_secs(100 * 24 * 60 * 60));
        let check = |now: i64, said: Option<&str>| {
            let warning = warning(ends, Timestamp::from_secs(now));
            assert_eq!(warning.is_some(), said.is_some(), "{warning:?}");
            assert!(warning.unwrap_or_default().contains(said.unwrap_or_default()));
        };
        check(86 * day, None);
        check(86 * day + 1, Some("in 13 days"));
        check(100 * day - 1, Some("in 0 days"));
        check(100 * day, Some("ended at"));
        check(200 * day, Some("ended at"));
    }
}
