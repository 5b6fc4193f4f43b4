//! Where the public keys of a token's issuer come from: written into the route, or fetched from the issuer and kept.
//!
//! Nothing is fetched here: [`IssuerKeys::wants`] says what is missing, and whoever may call out brings it to
//! [`IssuerKeys::learn`]. The address is the route's, never the token's, and a token with a made-up key id makes us ask
//! once a minute at most.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::Missing;
use super::jwks::KeySet;
use super::jwt::Algorithm;
use super::params::ConfigError;
use crate::clock::Timestamp;
use crate::limits;

/// The public keys of an issuer.
pub(super) enum IssuerKeys {
    /// As they stand in the route.
    Written(Arc<KeySet>),
    /// As its address answered last.
    Fetched { url: String, algorithms: Vec<Algorithm>, kept: Mutex<Kept> },
}

/// What an issuer's address answered.
#[derive(Default)]
pub(super) struct Kept {
    keys: Option<Arc<KeySet>>,
    read_at: Option<Timestamp>,
    asked_at: Option<Timestamp>,
}

impl IssuerKeys {
    /// Reads `jwks` or `jwks_url`, of which there has to be one.
    pub(super) fn build(
        jwks: Option<&Value>,
        url: Option<String>,
        algorithms: &[Algorithm],
    ) -> Result<Self, Vec<ConfigError>> {
        match (jwks, url) {
            (Some(set), None) => KeySet::read(set, algorithms).map(|keys| Self::Written(Arc::new(keys))),
            (None, Some(url)) => {
                if Url::parse(&url).is_ok_and(|parsed| parsed.scheme() == "https" && parsed.username().is_empty()) {
                    return Ok(Self::Fetched { url, algorithms: algorithms.to_vec(), kept: Mutex::default() });
                }
                let message = "keys that come over a line that anybody can write to prove nothing";
                let help = "write the issuer's `jwks_uri`, which begins with `https://`";
                Err(vec![ConfigError::new("jwks_url", message, help)])
            }
            (Some(_), Some(_)) => {
                let message = "keys are both written and fetched, and which of them count is not clear";
                Err(vec![ConfigError::new("jwks_url", message, "keep either `jwks` or `jwks_url`")])
            }
            (None, None) => {
                let help =
                    "add `jwks_url: https://…`, the issuer's `jwks_uri`, or paste the document behind it as `jwks`";
                Err(vec![ConfigError::new("jwks", "there is no public key to verify with", help)])
            }
        }
    }

    /// The keys, as far as they are known.
    pub(super) fn known(&self) -> Option<Arc<KeySet>> {
        match self {
            Self::Written(keys) => Some(Arc::clone(keys)),
            Self::Fetched { kept, .. } => kept.lock().unwrap_or_else(PoisonError::into_inner).keys.clone(),
        }
    }

    /// What is missing to judge a token that names this key.
    pub(super) fn wants(&self, kid: Option<&str>, now: Timestamp) -> Option<Missing> {
        let Self::Fetched { url, kept, .. } = self else { return None };
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = |since: Option<Timestamp>, span: Duration| since.is_none_or(|since| now >= since.plus(span));
        let Some(keys) = &kept.keys else { return Some(Missing { url: url.clone(), needed: true }) };
        let is_known = keys.with_kid(kid).next().is_some();
        let is_old = passed(kept.read_at, limits::ISSUER_KEYS_KEPT);
        let may_ask = passed(kept.asked_at, limits::ISSUER_KEYS_ASK_AGAIN);
        (may_ask && (!is_known || is_old)).then(|| Missing { url: url.clone(), needed: !is_known })
    }

    /// Takes what the address answered at `now`; false when there is no key in it, and those before stay.
    pub(super) fn learn(&self, answer: &[u8], now: Timestamp) -> bool {
        let Self::Fetched { algorithms, kept, .. } = self else { return false };
        let set: Option<Value> = serde_json::from_slice(answer).ok();
        let keys = set.and_then(|set| KeySet::read_usable(&set, algorithms));
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.asked_at = Some(now);
        let Some(keys) = keys else { return false };
        (kept.keys, kept.read_at) = (Some(Arc::new(keys)), Some(now));
        true
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn set(kids: &[&str]) -> Vec<u8> {
        // The key of RFC 8037, appendix A.2.
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let keys: Vec<_> =
            kids.iter().map(|kid| json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x })).collect();
        json!({ "keys": keys }).to_string().into_bytes()
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn keys_are_asked_for_when_they_are_missing_or_old_and_seldom() {
        let url = "https://login.example.com/keys";
        let keys = IssuerKeys::build(None, Some(url.to_owned()), &[Algorithm::EdDsa]).unwrap();
        let wants = |kid, secs| keys.wants(Some(kid), at(secs)).map(|missing| missing.needed);
        assert_eq!(wants("a", 0), Some(true));
        assert!(!keys.learn(b"no keys", at(0)) && keys.known().is_none());
        assert_eq!(wants("a", 1), Some(true), "without any key nothing can be judged");
        assert!(keys.learn(&set(&["a"]), at(1)));
        assert_eq!((wants("a", 2), wants("b", 2), wants("b", 60)), (None, None, None), "asked within a minute");
        assert_eq!(wants("b", 61), Some(true), "a key that came after");
        assert!(keys.learn(&set(&["b"]), at(61)));
        assert_eq!((wants("b", 200), wants("a", 200)), (None, Some(true)), "the old key is gone");
        assert_eq!(wants("b", 61 + 3600), Some(false), "old keys still judge while newer ones cannot be had");
        assert!(!keys.learn(b"", at(61 + 3600)) && keys.known().is_some());
        assert_eq!((wants("b", 61 + 3601), wants("b", 61 + 3660)), (None, Some(false)));
    }

    #[test]
    fn an_address_is_one_of_https() {
        for bad in ["http://login.example.com/keys", "login.example.com", "https://u@login.example.com/keys", ""] {
            assert!(IssuerKeys::build(None, Some(bad.to_owned()), &[Algorithm::EdDsa]).is_err(), "{bad}");
        }
        let both = IssuerKeys::build(Some(&json!({})), Some("https://a.example/k".to_owned()), &[Algorithm::EdDsa]);
        assert!(both.is_err() && IssuerKeys::build(None, None, &[Algorithm::EdDsa]).is_err());
    }

    #[test]
    fn keys_that_cannot_be_used_are_passed_over() {
        let url = Some("https://login.example.com/keys".to_owned());
        let keys = IssuerKeys::build(None, url, &[Algorithm::EdDsa]).unwrap();
        let mut mixed: Value = serde_json::from_slice(&set(&["a"])).unwrap();
        let strange = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "b", "x": "short" });
        mixed["keys"].as_array_mut().unwrap().extend([strange, json!({ "kty": "new" })]);
        assert!(keys.learn(mixed.to_string().as_bytes(), at(0)));
        assert_eq!(keys.known().unwrap().with_kid(Some("a")).count(), 1);
        assert_eq!(keys.known().unwrap().with_kid(Some("b")).count(), 0);
    }
}
