//! A certificate and its key, read from where they are kept and held against each other. What does not fit is never
//! handed on; when to read is the business of `tls.rs`.

use std::path::Path;
use std::time::SystemTime;

use data_encoding::BASE64;
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::{Error, Origin, PemFiles};
use crate::id::SecretName;
use crate::secrets::Found;

/// A pair that fits, and what it was read from.
pub(super) struct Pair {
    pub(super) key: CertifiedKey,
    pub(super) seen: Seen,
}

/// What tells that a pair was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// When each file was changed, and its size.
    Files([Stamp; 2]),
    /// The version in the vault; nothing before it was asked.
    Vault(Option<String>),
}

pub(super) type Stamp = Option<(SystemTime, u64)>;

impl Seen {
    /// Whether this look is a reason to read. A vault tells only when it is read.
    pub(super) fn is_news_after(&self, before: &Self) -> bool {
        match self {
            Self::Files(_) => self != before,
            Self::Vault(_) => true,
        }
    }
}

impl Origin {
    /// How the pair looks from outside.
    pub(super) async fn look(&self) -> Seen {
        match self {
            Self::Files(PemFiles { cert, key }) => Seen::Files([stamp(cert).await, stamp(key).await]),
            Self::Vault { .. } => Seen::Vault(None),
        }
    }

    /// The pair, its halves held against each other.
    pub(super) async fn read(&self, looks: Seen, provider: &CryptoProvider) -> Result<Pair, Error> {
        match self {
            Self::Files(files) => Ok(Pair { key: from_files(files, provider).await?, seen: looks }),
            Self::Vault { name, vault } => {
                let found = vault.look(name, None).await.map_err(|cause| Error::Vault { name: name.clone(), cause })?;
                let key = from_vault(name, &found, provider)?;
                Ok(Pair { key, seen: Seen::Vault(found.version) })
            }
        }
    }
}

async fn from_files(files: &PemFiles, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let PemFiles { cert, key } = files;
    let place = |path: &Path| format!("`{}`", path.display());
    let chain = certificates(&place(cert), &read_file(cert).await?)?;
    let private = private_key(&place(key), &read_file(key).await?)?;
    CertifiedKey::from_der(chain, private, provider).map_err(|cause| Error::Pair {
        cert: place(cert),
        key: place(key),
        cause,
    })
}

/// The secret that stands behind a certificate of a vault: PEM, or PKCS#12 in base64 without a password.
fn from_vault(name: &SecretName, found: &Found, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let place = format!("`{name}` in the key vault");
    let bytes = found.value.expose();
    let is_pem = match found.content_type.as_deref() {
        Some("application/x-pem-file") => true,
        Some("application/x-pkcs12") => false,
        // Somebody put it there by hand.
        _ => bytes.trim_ascii_start().starts_with(b"-----BEGIN"),
    };
    let (mut chain, private) = if is_pem {
        (certificates(&place, bytes)?, private_key(&place, bytes)?)
    } else {
        pkcs12(bytes).map_err(|why| Error::Form { name: name.clone(), why })?
    };
    let mut refused = None;
    // A PEM that was merged by hand may begin with another certificate of the chain.
    for own in 0..chain.len() {
        chain.swap(0, own);
        match CertifiedKey::from_der(chain.clone(), private.clone_key(), provider) {
            Ok(key) => return Ok(key),
            Err(cause) => refused = refused.or(Some(cause)),
        }
        chain.swap(0, own);
    }
    let cause = refused.unwrap_or(rustls::Error::NoCertificatesPresented);
    Err(Error::Pair { cert: place.clone(), key: place, cause })
}

type Parts = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The chain and the key of a PKCS#12 file in base64.
fn pkcs12(text: &[u8]) -> Result<Parts, String> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = BASE64.decode(&text).map_err(|error| format!("it is neither PEM nor base64 ({error})"))?;
    let store = KeyStore::from_pkcs12(&der, "", Pkcs12ImportPolicy::Relaxed)
        .map_err(|error| format!("it is no PKCS#12 without a password ({error})"))?;
    let (_, pair) = store.private_key_chain().ok_or("the PKCS#12 holds no private key with its certificate")?;
    let chain = pair.certs().iter().map(|one| CertificateDer::from(one.as_der().to_vec())).collect();
    Ok((chain, PrivatePkcs8KeyDer::from(pair.key().as_der().to_vec()).into()))
}

fn certificates(place: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |cause: Option<pem::Error>| Error::Pem {
        place: place.to_owned(),
        wanted: "certificate",
        block: "CERTIFICATE",
        cause,
    };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|cause| wrong(Some(cause)))?;
    if chain.is_empty() { Err(wrong(None)) } else { Ok(chain) }
}

fn private_key(place: &str, text: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(text).map_err(|cause| Error::Pem {
        place: place.to_owned(),
        wanted: "private key",
        block: "PRIVATE KEY",
        cause: Some(cause),
    })
}

async fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(path).await.map_err(|cause| Error::Read { path: path.to_owned(), cause })
}

async fn stamp(path: &Path) -> Stamp {
    let meta = tokio::fs::metadata(path).await.ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use p12_keystore::{Certificate, KeyStoreEntry, PrivateKey, PrivateKeyChain};
    use rcgen::{CertifiedKey as Generated, KeyPair, generate_simple_self_signed};

    use super::*;

    fn generated() -> Generated<KeyPair> {
        generate_simple_self_signed(["hooks.example.com".to_owned()]).unwrap()
    }

    fn pfx(chain: &[&Generated<KeyPair>], key: &KeyPair) -> String {
        let certs = chain.iter().map(|one| Certificate::from_der(one.cert.der()).unwrap());
        let key = PrivateKey::from_der(&key.serialize_der()).unwrap();
        let mut store = KeyStore::new();
        store.add_entry("door", KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new("1", key, certs)));
        BASE64.encode(&store.writer("").write().unwrap())
    }

    const PEM: Option<&str> = Some("application/x-pem-file");
    const PFX: Option<&str> = Some("application/x-pkcs12");

    #[track_caller]
    fn check(content_type: Option<&str>, value: &str, expected: Result<&Generated<KeyPair>, &str>) {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let found = Found { content_type: content_type.map(str::to_owned), ..Found::of(value) };
        let read = from_vault(&SecretName::new("door").unwrap(), &found, &provider);
        match (read, expected) {
            (Ok(key), Ok(expected)) => assert_eq!(&key.cert[0], expected.cert.der()),
            (Err(error), Err(expected)) => {
                let text = crate::azure::chain(&error);
                assert!(text.contains(expected), "{text}");
            }
            (read, _) => panic!("{:?}", read.map(|_| "a pair")),
        }
    }

    #[test]
    fn what_a_vault_keeps_behind_a_certificate() {
        let (one, two) = (generated(), generated());
        let key = one.signing_key.serialize_pem();
        let pem = |parts: &[&str]| parts.concat();
        check(PEM, &pem(&[&key, &one.cert.pem()]), Ok(&one));
        check(None, &pem(&[&key, &one.cert.pem()]), Ok(&one));
        check(PEM, &pem(&[&two.cert.pem(), &one.cert.pem(), &key]), Ok(&one));
        check(PFX, &pfx(&[&one], &one.signing_key), Ok(&one));
        check(None, &pfx(&[&one], &one.signing_key), Ok(&one));
        check(PEM, &pem(&[&key, &two.cert.pem()]), Err("KeyMismatch"));
        check(PFX, &pfx(&[&two], &one.signing_key), Err("cannot be used with the certificate"));
        check(PEM, &one.cert.pem(), Err("holds no private key"));
        check(PEM, &key, Err("holds no certificate"));
        check(PFX, "not base64!", Err("neither PEM nor base64"));
        check(PFX, "AAAA", Err("no PKCS#12"));
        check(None, "hello", Err("is no certificate with its key"));
    }
}
