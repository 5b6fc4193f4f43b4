//! Bearer tokens of the control door: JWTs signed with `JWT_SECRET` (RFC 7519, by the advice of RFC 8725). Minting and
//! checking stand side by side so that they cannot drift apart.
//!
//! The algorithm is ours to say, never the token's: HS256 and nothing else. Keys that a token points to are not looked
//! at. The library checks the signature; the claims are held against the clock that is passed in.

use std::fmt;
use std::time::Duration;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Number, Value, json};

use crate::clock::Timestamp;
use crate::domain::secret::SecretValue;
use crate::gateway::{Scope, Scopes};
use crate::limits;

/// Why there is no key, or no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A short secret can be found by trying.
    #[error(
        "`JWT_SECRET` has {found} bytes and needs at least {}: make one with `openssl rand -hex 32`",
        limits::JWT_SECRET_BYTES_MIN
    )]
    ShortSecret { found: usize },
    /// The library could not sign.
    #[error("cannot sign the token: {0}")]
    Sign(String),
}

/// Why a token is not accepted. The sender of a token whose signature holds is told; anybody else hears
/// [`Refused::Invalid`] and nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a token, not signed by us, or not in the way that we sign.
    #[error("the token is not one that this gateway accepts")]
    Invalid,
    /// The claims are not a JSON object, or one of them is not of its type.
    #[error("the token's claims cannot be read")]
    Claims,
    /// A token that lives for ever cannot be taken back.
    #[error("the token has no `exp` claim")]
    NoExpiry,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet; check the clocks")]
    TooEarly,
    /// Nobody to write into the audit.
    #[error("the token has no `sub` claim")]
    NoSubject,
    /// Issued by somebody else than settings name.
    #[error("the token's `iss` claim is not the issuer that the settings name")]
    Issuer,
    /// Meant for another service.
    #[error("the token's `aud` claim does not name this gateway")]
    Audience,
}

/// Who a good token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The `sub` claim.
    pub subject: String,
    /// The `scope` claim.
    pub scopes: Scopes,
}

/// The key, and what tokens must say beside it.
#[derive(Clone)]
pub struct TokenKey {
    verifying: DecodingKey,
    signing: EncodingKey,
    issuer: Option<String>,
    audience: Option<String>,
}

impl TokenKey {
    /// Takes the secret; refuses one shorter than [`limits::JWT_SECRET_BYTES_MIN`].
    pub fn new(secret: &SecretValue) -> Result<Self, Error> {
        let bytes = secret.expose();
        if bytes.len() < limits::JWT_SECRET_BYTES_MIN {
            return Err(Error::ShortSecret { found: bytes.len() });
        }
        let (verifying, signing) = (DecodingKey::from_secret(bytes), EncodingKey::from_secret(bytes));
        Ok(Self { verifying, signing, issuer: None, audience: None })
    }

    /// Wants this `iss` claim, and writes it into what is minted.
    #[must_use]
    pub fn issuer(mut self, issuer: Option<String>) -> Self {
        self.issuer = issuer;
        self
    }

    /// Wants this in the `aud` claim, and writes it into what is minted. Without it a token that names any audience is
    /// refused (RFC 7519, section 4.1.3).
    #[must_use]
    pub fn audience(mut self, audience: Option<String>) -> Self {
        self.audience = audience;
        self
    }

    /// A token for `subject` with these scopes, good from `now` for `ttl`.
    pub fn mint(&self, subject: &str, scopes: &[Scope], ttl: Duration, now: Timestamp) -> Result<String, Error> {
        let words: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
        let mut claims = json!({
            "sub": subject,
            "scope": words.join(" "),
            "iat": now.as_secs(),
            "exp": now.plus(ttl).as_secs(),
            "jti": HEXLOWER.encode(&rand::random::<[u8; 8]>()),
        });
        for (name, value) in [("iss", &self.issuer), ("aud", &self.audience)] {
            if let Some(value) = value {
                claims[name] = json!(value);
            }
        }
        let head = json!({ "alg": "HS256", "typ": "JWT" });
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&head), part(&claims));
        let signature = crypto::sign(signed.as_bytes(), &self.signing, Algorithm::HS256);
        Ok(format!("{signed}.{}", signature.map_err(|error| Error::Sign(error.to_string()))?))
    }

    /// Checks a token at `now`.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Bearer, Refused> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(Refused::Invalid);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Invalid)?;
        let (head, claims) = signed.split_once('.').ok_or(Refused::Invalid)?;
        head_is_ours(&read(head).ok_or(Refused::Invalid)?)?;
        let holds = crypto::verify(signature, signed.as_bytes(), &self.verifying, Algorithm::HS256);
        if !matches!(holds, Ok(true)) {
            return Err(Refused::Invalid);
        }
        self.check(read(claims).ok_or(Refused::Claims)?, now)
    }

    fn check(&self, claims: Claims, now: Timestamp) -> Result<Bearer, Refused> {
        let expiry = instant(&claims.exp.ok_or(Refused::NoExpiry)?)?;
        if now >= expiry {
            return Err(Refused::Expired);
        }
        let not_before = claims.nbf.as_ref().map(instant).transpose()?;
        if not_before.is_some_and(|at| now.plus(limits::TOKEN_LEEWAY) < at) {
            return Err(Refused::TooEarly);
        }
        if self.issuer.is_some() && self.issuer != claims.iss {
            return Err(Refused::Issuer);
        }
        if !names(claims.aud.as_ref(), self.audience.as_deref())? {
            return Err(Refused::Audience);
        }
        let subject = claims.sub.filter(|sub| !sub.trim().is_empty()).ok_or(Refused::NoSubject)?;
        Ok(Bearer { subject, scopes: Scopes::parse(&claims.scope.unwrap_or_default()) })
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// The members of a token's head that decide (RFC 7515, section 4.1). One that occurs twice is an error.
#[derive(Debug, Deserialize)]
struct Head {
    alg: String,
    typ: Option<String>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
}

/// The claims that are looked at (RFC 7519, section 4.1; RFC 9068, section 2.2.3). One that occurs twice is an error.
#[derive(Debug, Deserialize)]
struct Claims {
    exp: Option<Number>,
    nbf: Option<Number>,
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Value>,
    scope: Option<String>,
}

fn read<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64URL_NOPAD.decode(part.as_bytes()).ok()?).ok()
}

fn head_is_ours(head: &Head) -> Result<(), Refused> {
    let kind = head.typ.as_deref().map(str::to_ascii_lowercase);
    let kind = kind.as_deref().map(|kind| kind.strip_prefix("application/").unwrap_or(kind));
    let kind_is_ours = matches!(kind, None | Some("jwt" | "at+jwt"));
    // What `crit` lists must be understood, and we understand none of it (RFC 7515, section 4.1.11).
    let plain = head.crit.is_none() && head.b64.is_none();
    if head.alg == "HS256" && kind_is_ours && plain { Ok(()) } else { Err(Refused::Invalid) }
}

/// A `NumericDate`: seconds since the Unix epoch, which may have a fraction.
fn instant(number: &Number) -> Result<Timestamp, Refused> {
    if let Some(secs) = number.as_i64() {
        return Ok(Timestamp::from_secs(secs));
    }
    let secs = number.as_f64().filter(|secs| secs.is_finite()).ok_or(Refused::Claims)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a cast of a float saturates, and the ends of time are far off"
    )]
    let millis = (secs * 1000.0).floor() as i64;
    Ok(Timestamp::from_millis(millis))
}

/// Whether an `aud` claim, one name or a list, is for us.
fn names(claim: Option<&Value>, audience: Option<&str>) -> Result<bool, Refused> {
    Ok(match (claim, audience) {
        (None, wanted) => wanted.is_none(),
        (Some(_), None) => false,
        (Some(Value::String(name)), Some(wanted)) => name == wanted,
        (Some(Value::Array(list)), Some(wanted)) => list.iter().any(|name| name == wanted),
        (Some(_), Some(_)) => return Err(Refused::Claims),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: Timestamp = Timestamp::from_secs(1_795_338_000);

    fn key() -> TokenKey {
        TokenKey::new(&SecretValue::new(SECRET)).unwrap()
    }

    /// A token with this head and these claims as they are written, signed by this secret.
    fn token(head: &str, claims: &str, secret: &[u8], algorithm: Algorithm) -> String {
        let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let signed = format!("{}.{}", part(head), part(claims));
        let signature = crypto::sign(signed.as_bytes(), &EncodingKey::from_secret(secret), algorithm).unwrap();
        format!("{signed}.{signature}")
    }

    const HEAD: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    fn claims(head: &str, claims: &str) -> Result<Bearer, Refused> {
        key().verify(&token(head, claims, SECRET, Algorithm::HS256), NOW)
    }

    #[test]
    fn what_is_minted_is_accepted() {
        let key = key().issuer(Some("clawhook".into())).audience(Some("shop".into()));
        let minted = key.mint("ops", &[Scope::RunsRead, Scope::Admin], Duration::from_mins(1), NOW).unwrap();
        let bearer = key.verify(&minted, NOW).unwrap();
        assert_eq!(bearer, Bearer { subject: "ops".into(), scopes: Scopes::parse("runs:read admin") });
        assert_eq!(key.verify(&minted, NOW.plus(Duration::from_secs(59))), Ok(bearer));
        assert_eq!(key.verify(&minted, NOW.plus(Duration::from_mins(1))), Err(Refused::Expired));
    }

    #[test]
    fn secrets_must_be_long() {
        assert_eq!(TokenKey::new(&SecretValue::new(&SECRET[1..])).map(|_| ()), Err(Error::ShortSecret { found: 31 }));
    }

    #[test]
    fn heads() {
        let good = r#"{"sub":"ops","exp":1795338001}"#;
        let check = |head: &str, ok: bool| assert_eq!(claims(head, good).is_ok(), ok, "{head}");
        check(HEAD, true);
        check(r#"{"alg":"HS256"}"#, true);
        check(r#"{"alg":"HS256","typ":"at+jwt"}"#, true);
        check(r#"{"alg":"HS256","typ":"application/AT+JWT","kid":"x"}"#, true);
        check(r#"{"alg":"HS256","typ":"dpop+jwt"}"#, false);
        check(r#"{"alg":"HS256","typ":"application/"}"#, false);
        check(r#"{"alg":"HS256","typ":5}"#, false);
        check(r#"{"alg":"HS256","crit":["exp"]}"#, false);
        check(r#"{"alg":"HS256","b64":false}"#, false);
        check(r#"{"alg":"HS256","alg":"HS256"}"#, false);
        check(r#"{"alg":"hs256"}"#, false);
        check(r#"{"alg":"HS384"}"#, false);
        check(r#"{"alg":"RS256"}"#, false);
        check(r#"{"alg":"none"}"#, false);
        check(r#"{"typ":"JWT"}"#, false);
        check("[]", false);
    }

    #[test]
    fn signatures() {
        let good = r#"{"sub":"ops","exp":1795338001}"#;
        let signed = token(HEAD, good, SECRET, Algorithm::HS256);
        let check = |token: &str, ok: bool| assert_eq!(key().verify(token, NOW).is_ok(), ok, "{token}");
        check(&signed, true);
        check(&token(HEAD, good, b"another-secret-another-secret-00", Algorithm::HS256), false);
        check(&token(HEAD, good, SECRET, Algorithm::HS512), false);
        let (body, signature) = signed.rsplit_once('.').unwrap();
        check(&format!("{body}."), false);
        check(body, false);
        check(&format!("{body}.{signature}."), false);
        check(&format!("{body}.{signature}="), false);
        check(&format!(".{body}.{signature}"), false);
        check(&format!("{body}.{}", &signature[..20]), false);
        let none =
            format!("{}.{}.", BASE64URL_NOPAD.encode(br#"{"alg":"none"}"#), BASE64URL_NOPAD.encode(good.as_bytes()));
        check(&none, false);
        check("", false);
        check("..", false);
        check(&"a".repeat(limits::TOKEN_BYTES_MAX + 1), false);
    }

    #[test]
    fn times() {
        let check = |text: &str, expected: Result<(), Refused>| {
            let text = format!(r#"{{"sub":"ops",{text}}}"#);
            assert_eq!(claims(HEAD, &text).map(|_| ()), expected, "{text}");
        };
        check(r#""exp":1795338001"#, Ok(()));
        check(r#""exp":1795338000.5"#, Ok(()));
        check(r#""exp":1795338000"#, Err(Refused::Expired));
        check(r#""exp":-5"#, Err(Refused::Expired));
        check(r#""exp":1e300"#, Ok(()));
        check(r#""exp":99999999999999999999999999"#, Ok(()));
        check(r#""exp":"1795338001""#, Err(Refused::Claims));
        check(r#""exp":true"#, Err(Refused::Claims));
        check(r#""exp":1795338001,"exp":1795338001"#, Err(Refused::Claims));
        check(r#""iat":1"#, Err(Refused::NoExpiry));
        check(r#""exp":null"#, Err(Refused::NoExpiry));
        check(r#""exp":1795339000,"nbf":1795338030"#, Ok(()));
        check(r#""exp":1795339000,"nbf":1795338031"#, Err(Refused::TooEarly));
    }

    #[test]
    fn who_and_for_whom() {
        let bound = key().issuer(Some("us".into())).audience(Some("shop".into()));
        let check = |key: &TokenKey, text: &str, expected: Result<(), Refused>| {
            let text = format!(r#"{{"exp":1795338001,{text}}}"#);
            let found = key.verify(&token(HEAD, &text, SECRET, Algorithm::HS256), NOW);
            assert_eq!(found.map(|_| ()), expected, "{text}");
        };
        check(&key(), r#""sub":"ops""#, Ok(()));
        check(&key(), r#""sub":"ops","iss":"anybody""#, Ok(()));
        check(&key(), r#""sub":" ""#, Err(Refused::NoSubject));
        check(&key(), r#""jti":"x""#, Err(Refused::NoSubject));
        check(&key(), r#""sub":7"#, Err(Refused::Claims));
        check(&key(), r#""sub":"ops","scope":["admin"]"#, Err(Refused::Claims));
        check(&key(), r#""sub":"ops","aud":"shop""#, Err(Refused::Audience));
        check(&bound, r#""sub":"ops","iss":"us","aud":"shop""#, Ok(()));
        check(&bound, r#""sub":"ops","iss":"us","aud":["other","shop"]"#, Ok(()));
        check(&bound, r#""sub":"ops","iss":"us","aud":[]"#, Err(Refused::Audience));
        check(&bound, r#""sub":"ops","iss":"us","aud":"Shop""#, Err(Refused::Audience));
        check(&bound, r#""sub":"ops","iss":"us""#, Err(Refused::Audience));
        check(&bound, r#""sub":"ops","iss":"us","aud":5"#, Err(Refused::Claims));
        check(&bound, r#""sub":"ops","iss":"them","aud":"shop""#, Err(Refused::Issuer));
        check(&bound, r#""sub":"ops","aud":"shop""#, Err(Refused::Issuer));
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", key()), "TokenKey { issuer: None, audience: None, .. }");
    }
}
