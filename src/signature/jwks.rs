//! The public keys of a token issuer (RFC 7517), ready to verify with. Secret keys do not belong in a file and are
//! refused here.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, EcdsaVerificationAlgorithm,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents,
};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use super::jwt::Algorithm;
use super::params::ConfigError;
use crate::limits;

/// Keys by id and algorithm.
pub(super) struct KeySet(Vec<SetKey>);

struct SetKey {
    kid: Option<String>,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl KeySet {
    /// The keys that fit one of the algorithms. Keys of unknown types and for encryption are passed over, as
    /// RFC 7517, section 5 asks; a key that should fit and is broken is an error.
    pub(super) fn read(set: &serde_json::Value, algorithms: &[Algorithm]) -> Result<Self, Vec<ConfigError>> {
        let wrong =
            |path: &str, message: String| ConfigError::new(path, message, "copy the issuer's `jwks_uri` document");
        let jwks: Vec<Jwk> = Jwks::deserialize(set).map_err(|cause| vec![wrong("jwks", cause.to_string())])?.keys;
        let mut keys = Vec::new();
        let mut problems = Vec::new();
        for (place, jwk) in jwks.iter().enumerate() {
            for algorithm in algorithms.iter().copied().filter(|algorithm| jwk.fits(*algorithm)) {
                match jwk.public_key(algorithm) {
                    Ok(key) => keys.push(SetKey { kid: jwk.kid.clone(), algorithm, key }),
                    Err(message) => problems.push(wrong(&format!("jwks.keys[{place}]"), message.into())),
                }
            }
            if jwk.kty == "oct" || jwk.d.is_some() {
                let help = "remove it from the file; a shared key is the secret `hs_secret`";
                problems.push(ConfigError::new(&format!("jwks.keys[{place}]"), "this key is a secret one", help));
            }
        }
        if keys.is_empty() && problems.is_empty() {
            problems.push(wrong("jwks", "no key of the set fits one of `algorithms`".into()));
        }
        if problems.is_empty() { Ok(Self(keys)) } else { Err(problems) }
    }

    /// The keys that can be used, of a set that an issuer published: one that is broken is the issuer's business, and
    /// must not take the others away. Nothing when none is left.
    pub(super) fn read_usable(set: &serde_json::Value, algorithms: &[Algorithm]) -> Option<Self> {
        let items = set.get("keys")?.as_array()?;
        let jwks = items.iter().filter_map(|item| Jwk::deserialize(item).ok()).filter(|jwk| jwk.d.is_none());
        let pairs = jwks.flat_map(|jwk| algorithms.iter().map(move |algorithm| (jwk.clone(), *algorithm)));
        let keys = pairs.filter(|(jwk, algorithm)| jwk.fits(*algorithm)).filter_map(|(jwk, algorithm)| {
            Some(SetKey { key: jwk.public_key(algorithm).ok()?, kid: jwk.kid, algorithm })
        });
        let keys: Vec<_> = keys.take(limits::ISSUER_KEYS_MAX).collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The keys with this id, if any, whatever their algorithm. A token without `kid` means keys without one.
    pub(super) fn with_kid(&self, kid: Option<&str>) -> impl Iterator<Item = (Algorithm, &ParsedPublicKey)> {
        self.0.iter().filter(move |key| key.kid.as_deref() == kid).map(|key| (key.algorithm, &key.key))
    }
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

/// The members of RFC 7517, section 4 and RFC 7518, section 6 that matter here; others are ignored.
#[derive(Clone, Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<String>,
}

/// What an algorithm needs of a key.
enum Family {
    Rsa(&'static RsaParameters),
    Ec { crv: &'static str, coordinate_bytes: usize, curve: &'static EcdsaVerificationAlgorithm },
    Ed25519,
}

impl Family {
    fn of(algorithm: Algorithm) -> Option<Self> {
        Some(match algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => return None,
            Algorithm::Rs256 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => Self::Rsa(&RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => Self::Rsa(&RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => Self::Rsa(&RSA_PSS_2048_8192_SHA512),
            Algorithm::Es256 => Self::Ec { crv: "P-256", coordinate_bytes: 32, curve: &ECDSA_P256_SHA256_FIXED },
            Algorithm::Es384 => Self::Ec { crv: "P-384", coordinate_bytes: 48, curve: &ECDSA_P384_SHA384_FIXED },
            Algorithm::Es512 => Self::Ec { crv: "P-521", coordinate_bytes: 66, curve: &ECDSA_P521_SHA512_FIXED },
            Algorithm::EdDsa => Self::Ed25519,
        })
    }
}

/// Smallest RSA modulus, bytes (RFC 7518, section 3.3: 2048 bits).
const MODULUS_BYTES_MIN: usize = 256;

impl Jwk {
    /// The key is of the algorithm's type and for signatures, and does not say that it is for another algorithm.
    fn fits(&self, algorithm: Algorithm) -> bool {
        let typed = match Family::of(algorithm) {
            None => false,
            Some(Family::Rsa(_)) => self.kty == "RSA",
            Some(Family::Ec { crv, .. }) => self.kty == "EC" && self.crv.as_deref() == Some(crv),
            Some(Family::Ed25519) => self.kty == "OKP" && self.crv.as_deref() == Some("Ed25519"),
        };
        typed
            && self.alg.as_deref().is_none_or(|alg| alg == algorithm.name())
            && self.r#use.as_deref().is_none_or(|purpose| purpose == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"))
    }

    fn public_key(&self, algorithm: Algorithm) -> Result<ParsedPublicKey, &'static str> {
        let member = |text: &Option<String>, message| {
            text.as_ref().and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok()).ok_or(message)
        };
        match Family::of(algorithm) {
            None => Err("a shared key cannot stand in a set"),
            Some(Family::Rsa(params)) => {
                let n = member(&self.n, "`n` is not unpadded base64url")?;
                let e = member(&self.e, "`e` is not unpadded base64url")?;
                // Java's BigInteger puts a zero byte in front.
                let n = &n[n.iter().take_while(|byte| **byte == 0).count()..];
                if n.len() < MODULUS_BYTES_MIN {
                    return Err("the RSA key is shorter than 2048 bits");
                }
                let key = RsaPublicKeyComponents { n, e: &e }.to_parsed_public_key(params);
                key.map_err(|_| "`n` and `e` are no RSA key")
            }
            Some(Family::Ec { coordinate_bytes, curve, .. }) => {
                let x = member(&self.x, "`x` is not unpadded base64url")?;
                let y = member(&self.y, "`y` is not unpadded base64url")?;
                if x.len() != coordinate_bytes || y.len() != coordinate_bytes {
                    return Err("`x` or `y` is not as long as its curve wants");
                }
                // The uncompressed point of SEC 1, section 2.3.3.
                let point = [&[4][..], &x, &y].concat();
                ParsedPublicKey::new(curve, point).map_err(|_| "`x` and `y` are not on the curve")
            }
            Some(Family::Ed25519) => {
                let x = member(&self.x, "`x` is not unpadded base64url")?;
                ParsedPublicKey::new(&ED25519, x).map_err(|_| "`x` is no Ed25519 key")
            }
        }
    }
}
