//! `mtls`: a client certificate of the TLS connection itself (RFC 8446, section 4.4.2). The hooks door asks for one and demands
//! none; whether the one that came is good is each route's own affair, and is judged here, on every request.
//!
//! The chain must lead to an authority of the route, be in force now, and be made for clients; then a name or a fingerprint
//! of the route must fit. It proves who has connected, and TLS protects what was sent on the way. Behind a proxy that ends TLS
//! no certificate comes through, and nothing is believed that a header says of one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER_PERMISSIVE;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::inbound::{Inbound, Proof, Reject, Verdict};
use super::keys::{KeyError, Keys};
use super::params::{self, ConfigError, OneOrMany};
use super::{Built, Check, Making, Scheme, SchemeKind, SecretSlot};
use crate::clock::Timestamp;

const CA: &str = "ca";

pub(super) const SCHEME: SchemeKind = SchemeKind {
    name: "mtls",
    summary: "A client certificate of the TLS connection: its chain, dates and purpose, then a name or a fingerprint. Not behind \
              a proxy that ends TLS.",
    secrets: &[SecretSlot {
        name: CA,
        summary: "The authorities in PEM, where they are kept in a secret source, such as a file, and not in `ca_pem`",
    }],
    making: Making::Code { schema: || schema_for!(Params), build },
};

/// The parameters of `mtls`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Params {
    /// The authorities that the client's certificate may come from, in PEM; a list while one is replaced by another.
    ca_pem: Option<OneOrMany>,
    /// Common names (CN) of the subject that may call, letter for letter.
    subjects: Option<OneOrMany>,
    /// Alternative names (SAN) that may call: DNS names, addresses, URIs such as `spiffe://…`, mail addresses.
    sans: Option<OneOrMany>,
    /// SHA-256 fingerprints of certificates that may call, in hex, with or without colons.
    fingerprints: Option<OneOrMany>,
}

fn build(with: &Map<String, Value>) -> Built {
    let Params { ca_pem, subjects, sans, fingerprints } = params::read(with)?;
    let list = |texts: Option<OneOrMany>| texts.map(|texts| texts.as_slice().to_vec()).unwrap_or_default();
    let mut problems = Vec::new();
    let mut authorities = Vec::new();
    for pem in list(ca_pem) {
        match authority(pem.as_bytes()) {
            Ok(authority) => authorities.push(authority),
            Err(why) => {
                let help = "paste the authority's certificate, from `-----BEGIN CERTIFICATE-----` on";
                problems.push(ConfigError::new("ca_pem", format!("an entry {why}"), help));
            }
        }
    }
    let mut pins = Pins { subjects: list(subjects), sans: list(sans), fingerprints: Vec::new() };
    for (key, names) in [("subjects", &pins.subjects), ("sans", &pins.sans)] {
        if names.iter().any(String::is_empty) {
            problems.push(ConfigError::new(
                key,
                "an empty name is nobody's",
                "write the name as the certificate has it",
            ));
        }
    }
    for text in list(fingerprints) {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.replace(':', "").as_bytes()).ok();
        if let Some(bytes) = bytes.filter(|bytes| bytes.len() == digest::SHA256_OUTPUT_LEN) {
            pins.fingerprints.push(bytes);
        } else {
            let help = "write what `openssl x509 -noout -fingerprint -sha256 -in client.pem` prints";
            let message = format!("`{text}` is not a SHA-256 fingerprint of 64 hex digits");
            problems.push(ConfigError::new("fingerprints", message, help));
        }
    }
    if problems.is_empty() && pins.subjects.is_empty() && pins.sans.is_empty() && pins.fingerprints.is_empty() {
        let message = "every certificate of the authority would be let in, whoever it was made for";
        problems.push(ConfigError::new("", message, "name who may call under `subjects`, `sans` or `fingerprints`"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Box::new(Mtls(Arc::new(Rule { authorities, pins }))))
}

/// What judges chains to the authorities of one PEM text.
type Authority = Arc<dyn ClientCertVerifier>;

/// Reads the authorities of a PEM text, or says what is wrong with it.
fn authority(pem: &[u8]) -> Result<Authority, &'static str> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| "is not PEM")?;
        roots.add(certificate).map_err(|_| "holds a certificate that cannot be read")?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|_| "holds no certificate")
}

struct Rule {
    authorities: Vec<Authority>,
    pins: Pins,
}

/// Who may call: any of them fits.
struct Pins {
    subjects: Vec<String>,
    sans: Vec<String>,
    fingerprints: Vec<Vec<u8>>,
}

struct Mtls(Arc<Rule>);

impl Scheme for Mtls {
    fn needs(&self) -> Vec<&'static str> {
        if self.0.authorities.is_empty() { vec![CA] } else { Vec::new() }
    }

    fn wants_client_certificate(&self) -> bool {
        true
    }

    fn prepare(&self, keys: &Keys<'_>) -> Result<Box<dyn Check>, KeyError> {
        let mut authorities = self.0.authorities.clone();
        for (place, pem) in keys.get(CA)?.iter().enumerate() {
            let bad = |problem| KeyError::Bad { name: CA, place, problem };
            authorities.push(authority(pem).map_err(bad)?);
        }
        Ok(Box::new(Keyed { rule: Arc::clone(&self.0), authorities }))
    }
}

struct Keyed {
    rule: Arc<Rule>,
    authorities: Vec<Authority>,
}

impl Check for Keyed {
    fn verify(&self, request: &Inbound<'_>) -> Result<Verdict, Reject> {
        let [leaf, between @ ..] = request.client_chain else { return Err(Reject::NoClientCertificate) };
        let key_index = self.trusted(leaf, between, request.received_at)?;
        let (_, certificate) = x509_parser::parse_x509_certificate(leaf).map_err(|_| untrusted("it cannot be read"))?;
        if !self.rule.pins.fit(leaf, &certificate) {
            return Err(Reject::UnknownClient);
        }
        Ok(Verdict::Deliver(Proof { key_index, ..Proof::default() }))
    }
}

fn untrusted(why: &'static str) -> Reject {
    Reject::UntrustedCertificate { why }
}

impl Keyed {
    /// The place of the first authority that vouches for the chain now.
    fn trusted(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<usize, Reject> {
        let now = u64::try_from(now.as_secs()).map_err(|_| untrusted("the clock is wrong"))?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let mut why = "no authority of the route vouches for it";
        for (place, authority) in self.authorities.iter().enumerate() {
            match authority.verify_client_cert(leaf, between, now) {
                Ok(_) => return Ok(place),
                // A stranger's authority says nothing; the right one says what is wrong.
                Err(rustls::Error::InvalidCertificate(cause)) => why = told(&cause).unwrap_or(why),
                Err(_) => {}
            }
        }
        Err(untrusted(why))
    }
}

/// What an authority that knows a certificate has against it.
fn told(cause: &CertificateError) -> Option<&'static str> {
    match cause {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Some("it has expired"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Some("it is not valid yet"),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Some("it is not made for clients: its extended key usage lacks clientAuth")
        }
        _ => None,
    }
}

impl Pins {
    fn fit(&self, leaf: &CertificateDer<'_>, certificate: &X509Certificate<'_>) -> bool {
        let print = digest::digest(&digest::SHA256, leaf);
        if self.fingerprints.iter().any(|known| known == print.as_ref()) {
            return true;
        }
        let mut names = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        if names.any(|name| self.subjects.iter().any(|known| known == name)) {
            return true;
        }
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
        names.value.general_names.iter().any(|name| self.sans.iter().any(|known| is_named(name, known)))
    }
}

/// Whether an alternative name (RFC 5280, section 4.2.1.6) is this one. Only DNS names have no case, and a wildcard in a
/// certificate is one name as well: it does not stand for others.
fn is_named(name: &GeneralName<'_>, known: &str) -> bool {
    match name {
        GeneralName::DNSName(name) => name.eq_ignore_ascii_case(known),
        GeneralName::URI(name) | GeneralName::RFC822Name(name) => *name == known,
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from);
            let address = v4.or_else(|| <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from));
            address.is_some() && known.parse().ok() == address
        }
        _ => false,
    }
}
