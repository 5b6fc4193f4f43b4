//! The signing certificates of SNS: kept by URL, and held against the authorities and the time at every message.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::clock::Timestamp;
use crate::limits;
use crate::signature::Reject;

/// The names that Amazon writes into the certificates, beside the host that they come from.
const NAMES: [&str; 2] = ["sns.amazonaws.com", "sns.amazonaws.com.cn"];

/// The authorities of the machine, read once.
static MACHINE: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
});

/// Certificates by URL, the leaf first.
pub(super) struct Certificates {
    verifier: Arc<WebPkiServerVerifier>,
    known: Mutex<HashMap<String, Arc<[CertificateDer<'static>]>>>,
}

impl Certificates {
    /// Trusts the authorities in `pem`, or else those of the machine.
    pub(super) fn new(pem: Option<&str>) -> Result<Self, String> {
        let roots = match pem {
            None => Arc::clone(&MACHINE),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|error| error.to_string())?;
                    roots.add(certificate).map_err(|error| error.to_string())?;
                }
                Arc::new(roots)
            }
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        let verifier = verifier.map_err(|_| "there is no authority to trust".to_owned())?;
        Ok(Self { verifier, known: Mutex::default() })
    }

    pub(super) fn knows(&self, url: &str) -> bool {
        self.known().contains_key(url)
    }

    /// Keeps what a URL answered; false when it is not certificates in PEM.
    pub(super) fn learn(&self, url: &str, pem: &[u8]) -> bool {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let Some(chain) = chain.ok().filter(|chain| !chain.is_empty()) else { return false };
        let mut known = self.known();
        // Amazon has one for each region and changes it about once a year.
        if known.len() >= limits::SIGNING_CERTIFICATES_MAX {
            known.clear();
        }
        known.insert(url.to_owned(), chain.into());
        true
    }

    /// The public key of the certificate behind a URL, if it comes from an authority that is trusted, is Amazon's, and
    /// is in force.
    pub(super) fn key(&self, url: &str, host: &str, now: Timestamp) -> Result<Vec<u8>, Reject> {
        let chain =
            self.known().get(url).cloned().ok_or(Reject::UntrustedCertificate { why: "it is not known here" })?;
        let untrusted = |why| Reject::UntrustedCertificate { why };
        let [leaf, intermediates @ ..] = &*chain else { return Err(untrusted("it is empty")) };
        let now = u64::try_from(now.as_secs()).map_err(|_| untrusted("the clock is wrong"))?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let trusted = NAMES.into_iter().chain([host]).any(|name| {
            let name = ServerName::try_from(name);
            name.is_ok_and(|name| self.verifier.verify_server_cert(leaf, intermediates, &name, &[], now).is_ok())
        });
        if !trusted {
            return Err(untrusted("no trusted authority vouches for it now"));
        }
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|_| untrusted("it cannot be read"))?;
        Ok(parsed.public_key().subject_public_key.data.to_vec())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<[CertificateDer<'static>]>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
