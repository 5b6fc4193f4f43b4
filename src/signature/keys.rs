//! Secret values on their way into a verifier: how they are handed over, decoded, and compared without telling
//! anything by the time it takes. Nothing here is printed; an error names a secret and its place, never its value.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use schemars::JsonSchema;
use serde::Deserialize;

/// Secret values by the scheme's own names for them, in configured order, borrowed for one call of
/// [`super::Verifier::prepare`]. While a key rotates its list holds both values.
#[derive(Clone, Default)]
pub struct Keys<'a>(Vec<(&'a str, Vec<&'a [u8]>)>);

impl<'a> Keys<'a> {
    /// Adds one value of the secret that the scheme calls `name`.
    pub fn add(&mut self, name: &'a str, value: &'a [u8]) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => self.0.push((name, vec![value])),
        }
    }

    /// Every value of one secret; refuses an empty one, which would let anybody in.
    pub(super) fn get(&self, name: &'static str) -> Result<&[&'a [u8]], KeyError> {
        let values = self.0.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, values)| values);
        match values.iter().position(|value| value.is_empty()) {
            Some(place) => Err(KeyError::Bad { name, place, problem: "is empty" }),
            None => Ok(values),
        }
    }

    /// Every value of a secret that must have one.
    pub(super) fn required(&self, name: &'static str) -> Result<&[&'a [u8]], KeyError> {
        Some(self.get(name)?).filter(|values| !values.is_empty()).ok_or(KeyError::Missing { names: name.into() })
    }
}

impl fmt::Debug for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, values)| (name, values.len()))).finish()
    }
}

/// Why the secrets of a route cannot be used. Places count from 0; they are printed from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no value at all.
    #[error("no value is configured for {names}; without one nothing could be verified")]
    Missing { names: String },
    /// A value cannot be a key of this scheme.
    #[error("value {} of the secret `{name}` {problem}", place + 1)]
    Bad { name: &'static str, place: usize, problem: &'static str },
    /// Two lists that belong together, value by value, do not have the same length.
    #[error(
        "`{one}` has {ones} values and `{other}` has {others}: each value of one belongs to the same place of the other"
    )]
    Unpaired { one: &'static str, ones: usize, other: &'static str, others: usize },
}

/// How the text of a secret becomes the bytes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyEncoding {
    /// The text is the key.
    #[default]
    Text,
    /// Hex digits of either case.
    Hex,
    /// Base64, with or without padding.
    Base64,
    /// Text in which `WordPress` escaped quotes, ampersands and angle brackets.
    #[serde(skip)]
    HtmlEntities,
    /// Base64 after an optional `whsec_` (Standard Webhooks).
    #[serde(skip)]
    Whsec,
}

impl KeyEncoding {
    /// The bytes of the key, or what is wrong with the value.
    pub(super) fn decode(self, value: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
        let key = match self {
            Self::Text => Cow::Borrowed(value),
            Self::Hex => Cow::Owned(HEXLOWER_PERMISSIVE.decode(value).map_err(|_| "is not hex")?),
            Self::Base64 => Cow::Owned(base64(value).ok_or("is not base64")?),
            Self::HtmlEntities => Cow::Owned(without_entities(value)),
            Self::Whsec if value.starts_with(b"whsk_") || value.starts_with(b"whpk_") => {
                return Err("is an asymmetric key: configure the `whpk_` one as `public_key`");
            }
            Self::Whsec => {
                let encoded = value.strip_prefix(b"whsec_").unwrap_or(value);
                Cow::Owned(base64(encoded).ok_or("is not `whsec_` and base64")?)
            }
        };
        if key.is_empty() { Err("is empty once decoded") } else { Ok(key) }
    }
}

/// Standard base64 with or without padding: keys are typed by people, signatures are not.
pub(super) fn base64(value: &[u8]) -> Option<Vec<u8>> {
    let encoding = if value.ends_with(b"=") { BASE64 } else { BASE64_NOPAD };
    encoding.decode(value).ok()
}

/// What `WordPress`'s `wp_specialchars_decode` with `ENT_QUOTES` leaves: one pass over the entities of
/// quotes, `&`, `<` and `>`; what a replacement produced is not looked at again.
fn without_entities(value: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&first, after)) = rest.split_first() {
        if let Some((char, length)) = entity(rest) {
            plain.push(char);
            rest = &rest[length..];
        } else {
            plain.push(first);
            rest = after;
        }
    }
    plain
}

/// The character that an entity at the start of `text` stands for, and the entity's length.
fn entity(text: &[u8]) -> Option<(u8, usize)> {
    const NAMED: [(&[u8], u8); 4] = [(b"&lt;", b'<'), (b"&gt;", b'>'), (b"&amp;", b'&'), (b"&quot;", b'"')];
    // Hexadecimal forms exist for quotes and the ampersand only; leading zeros are allowed in all of them.
    const DECIMAL: [(&[u8], u8); 5] = [(b"39", b'\''), (b"34", b'"'), (b"60", b'<'), (b"62", b'>'), (b"38", b'&')];
    const HEX: [(&[u8], u8); 3] = [(b"27", b'\''), (b"22", b'"'), (b"26", b'&')];

    if let Some((name, char)) = NAMED.iter().find(|(name, _)| text.starts_with(name)) {
        return Some((*char, name.len()));
    }
    let number = text.strip_prefix(b"&#")?;
    let end = number.iter().position(|byte| *byte == b';')?;
    let (digits, table) = match number[..end].split_first()? {
        (b'x' | b'X', hex) => (hex, &HEX[..]),
        _ => (&number[..end], &DECIMAL[..]),
    };
    let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
    let (_, char) = table.iter().find(|(code, _)| *code == &digits[zeros..])?;
    Some((*char, end + 3))
}

/// How the bytes of a signature are written in its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoding {
    /// Hex digits of either case.
    #[default]
    Hex,
    /// Base64 with padding (RFC 4648, section 4): one text per signature.
    Base64,
    /// The URL-safe alphabet (RFC 4648, section 5), with or without padding.
    Base64url,
    /// Lower-case hex only, where the platform's own library refuses the rest.
    #[serde(skip)]
    HexLower,
}

/// Longest written signature: SHA-512 in hex is 128 bytes, so anything longer is not worth decoding.
const SIGNATURE_TEXT_BYTES_MAX: usize = 192;

impl Encoding {
    /// The bytes, or nothing when the text is not exactly in this encoding.
    pub(super) fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        let encoding = match self {
            Self::Hex => HEXLOWER_PERMISSIVE,
            Self::HexLower => HEXLOWER,
            Self::Base64 => BASE64,
            Self::Base64url if text.ends_with(b"=") => BASE64URL,
            Self::Base64url => BASE64URL_NOPAD,
        };
        if text.is_empty() || text.len() > SIGNATURE_TEXT_BYTES_MAX { None } else { encoding.decode(text).ok() }
    }

    /// What a text in this encoding is called in a refusal.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Hex => "the expected prefix and a signature in hex",
            Self::HexLower => "the expected prefix and a signature in lower-case hex",
            Self::Base64 => "the expected prefix and a signature in padded base64",
            Self::Base64url => "the expected prefix and a signature in URL-safe base64",
        }
    }
}

/// Passwords and tokens to be compared whole. They are kept and compared as tags under a key that exists only
/// here, so neither the place of the first wrong byte nor the length can be told from the time.
pub(super) struct Passwords {
    key: hmac::Key,
    tags: Vec<hmac::Tag>,
}

impl Passwords {
    pub(super) fn new(values: &[&[u8]]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        let tags = values.iter().map(|value| hmac::sign(&key, value)).collect();
        Self { key, tags }
    }

    /// The place of the value that equals `candidate`; looks at all of them.
    pub(super) fn find(&self, candidate: &[u8]) -> Option<usize> {
        let tag = hmac::sign(&self.key, candidate);
        let mut found = None;
        for (place, known) in self.tags.iter().enumerate() {
            if verify_slices_are_equal(known.as_ref(), tag.as_ref()).is_ok() && found.is_none() {
                found = Some(place);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_entities(written: &str, plain: &str) {
        let decoded = KeyEncoding::HtmlEntities.decode(written.as_bytes());
        assert_eq!(decoded.as_deref(), Ok(plain.as_bytes()), "{written}");
    }

    #[test]
    fn entities_are_decoded_as_wordpress_does() {
        check_entities("a&amp;b", "a&b");
        check_entities("&lt;&gt;&quot;&#39;&#039;&#00039;&#x27;&#X0027;", "<>\"'''''");
        check_entities("&#34;&#x22;&#60;&#62;&#38;&#x26;", "\"\"<>&&");
        check_entities("&amp;lt;&amp;amp;", "&lt;&amp;");
        check_entities("&LT;&apos;&#x3c;&#;&#x;&#12;&nbsp;& &#39", "&LT;&apos;&#x3c;&#;&#x;&#12;&nbsp;& &#39");
        check_entities("密&钥", "密&钥");
    }

    #[test]
    fn keys_are_decoded_or_named_wrong() {
        let key = |encoding: KeyEncoding, text: &'static str| encoding.decode(text.as_bytes()).map(Cow::into_owned);
        assert_eq!(key(KeyEncoding::Text, "0a"), Ok(b"0a".to_vec()));
        assert_eq!(key(KeyEncoding::Hex, "0aFF"), Ok(vec![0x0a, 0xff]));
        assert!(key(KeyEncoding::Hex, "0a0").is_err());
        assert_eq!(key(KeyEncoding::Base64, "/+8="), Ok(vec![0xff, 0xef]));
        assert_eq!(key(KeyEncoding::Base64, "/+8"), Ok(vec![0xff, 0xef]));
        assert!(key(KeyEncoding::Base64, "_-8").is_err());
        assert_eq!(key(KeyEncoding::Whsec, "whsec_AQI="), Ok(vec![1, 2]));
        assert_eq!(key(KeyEncoding::Whsec, "AQI"), Ok(vec![1, 2]));
        for bad in ["whsec_", "whsec_not base64", "whpk_AQI=", "whsk_AQI="] {
            assert!(key(KeyEncoding::Whsec, bad).is_err(), "{bad}");
        }
    }

    fn check_signature(encoding: Encoding, text: &str, bytes: Option<&[u8]>) {
        assert_eq!(encoding.decode(text.as_bytes()).as_deref(), bytes, "{encoding:?} {text:?}");
    }

    #[test]
    fn signatures_are_read_strictly() {
        check_signature(Encoding::Hex, "ABcd", Some(&[0xab, 0xcd]));
        check_signature(Encoding::HexLower, "abcd", Some(&[0xab, 0xcd]));
        check_signature(Encoding::HexLower, "ABcd", None);
        check_signature(Encoding::Hex, "abc", None);
        check_signature(Encoding::Hex, "", None);
        check_signature(Encoding::Hex, "0xab", None);
        check_signature(Encoding::Base64, "/+8=", Some(&[0xff, 0xef]));
        for bad in ["/+8", "/+9=", "/+8= ", "/ +8=", "_-8=", "/+8==", "/+8=\n", "=", "é"] {
            check_signature(Encoding::Base64, bad, None);
        }
        check_signature(Encoding::Base64url, "_-8", Some(&[0xff, 0xef]));
        check_signature(Encoding::Base64url, "_-8=", Some(&[0xff, 0xef]));
        check_signature(Encoding::Base64url, "_-9", None);
        check_signature(Encoding::Base64url, "/+8", None);
        check_signature(Encoding::Hex, &"ab".repeat(SIGNATURE_TEXT_BYTES_MAX), None);
    }

    #[test]
    fn passwords_are_compared_whole() {
        let passwords = Passwords::new(&[b"one", b"two", b"two"]);
        assert_eq!(passwords.find(b"one"), Some(0));
        assert_eq!(passwords.find(b"two"), Some(1));
        for wrong in [&b""[..], b"on", b"onee", b"One", b"one\0"] {
            assert_eq!(passwords.find(wrong), None);
        }
    }

    #[test]
    fn empty_and_missing_secrets_are_refused() {
        let mut keys = Keys::default();
        assert!(matches!(keys.required("secret"), Err(KeyError::Missing { .. })));
        keys.add("secret", b"a");
        keys.add("secret", b"b");
        assert_eq!(keys.required("secret").map(<[_]>::len), Ok(2));
        assert_eq!(format!("{keys:?}"), r#"{"secret": 2}"#);
        keys.add("secret", b"");
        assert_eq!(
            keys.required("secret").map(<[_]>::len),
            Err(KeyError::Bad { name: "secret", place: 2, problem: "is empty" })
        );
    }
}
