//! Passwords of people (RFC 7617). Kept as digests, compared in constant time over all people, so that neither a name
//! nor a password can be guessed by the clock.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use data_encoding::BASE64;

use crate::domain::secret::SecretValue;

/// A person who signs in with a password.
#[derive(Debug, Clone)]
pub struct Person {
    /// The user name: no colon (RFC 7617, section 2).
    pub name: String,
    /// The password.
    pub password: SecretValue,
}

/// The people that are known now.
#[derive(Debug, Default)]
pub(super) struct People(Vec<(String, Digest)>);

impl People {
    /// Takes what is needed of the passwords. A person with an empty password cannot sign in.
    pub(super) fn new(people: &[Person]) -> Self {
        let known = people.iter().filter(|person| !person.password.expose().is_empty());
        Self(known.map(|person| (person.name.clone(), of(person.name.as_bytes(), person.password.expose()))).collect())
    }

    /// Nobody can sign in with a password.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The person behind the credentials of a `Basic` header.
    pub(super) fn find(&self, credentials: &[u8]) -> Option<&str> {
        let sent = BASE64.decode(credentials).ok()?;
        let colon = sent.iter().position(|byte| *byte == b':')?;
        let sent = of(&sent[..colon], &sent[colon + 1..]);
        let mut found = None;
        for (name, known) in &self.0 {
            if verify_slices_are_equal(known.as_ref(), sent.as_ref()).is_ok() {
                found = Some(name.as_str());
            }
        }
        found
    }
}

fn of(name: &[u8], password: &[u8]) -> Digest {
    digest(&SHA256, &[name, b":", password].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords() {
        let person = |name: &str, password: &str| Person { name: name.into(), password: SecretValue::new(password) };
        let people = People::new(&[person("ops", "a:b é"), person("amy", "secret"), person("nobody", "")]);
        let check = |credentials: &str, found: Option<&str>| {
            assert_eq!(people.find(BASE64.encode(credentials.as_bytes()).as_bytes()), found, "{credentials:?}");
        };
        check("ops:a:b é", Some("ops"));
        check("amy:secret", Some("amy"));
        check("amy:Secret", None);
        check("Amy:secret", None);
        check("amy:", None);
        check("amy", None);
        check("nobody:", None);
        check(":", None);
        check("", None);
        assert_eq!(people.find(b"%%%"), None);
    }
}
