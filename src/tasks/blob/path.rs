//! The name of a file in a place: parts between slashes, the same in a container and in a folder.

use std::fmt;

use crate::limits;

/// A name that means the same file everywhere, and nothing outside its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobPath(String);

/// Why a text is no name of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot be the path of a file: {why}", path.chars().take(80).collect::<String>())]
pub struct BadPath {
    path: String,
    why: &'static str,
}

impl BlobPath {
    /// Reads a name such as `reports/2026/11/sales.csv.gz`. What a container takes and a folder does not, or the other
    /// way round, is refused for both: what works in development works in production.
    /// <https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata>
    pub fn read(text: &str) -> Result<Self, BadPath> {
        let bad = |why| Err(BadPath { path: text.to_owned(), why });
        if text.is_empty() {
            return bad("it is empty");
        }
        if text.chars().count() > limits::PLACE_PATH_CHARS_MAX {
            return bad("it is too long");
        }
        if text.starts_with('/') {
            return bad("it begins with a slash, and paths begin in their place");
        }
        if text.contains('\\') {
            return bad("it has a backslash: parts stand between slashes");
        }
        if text.chars().any(char::is_control) {
            return bad("it has a control character");
        }
        for part in text.split('/') {
            if part.is_empty() {
                return bad("a part between its slashes is empty");
            }
            if part.starts_with('.') || part.ends_with('.') {
                return bad("a part of it begins or ends with a dot");
            }
            if part.len() > limits::PLACE_PATH_PART_BYTES_MAX {
                return bad("a part of it is too long");
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// A name under which nothing lies, to look whether a place can be looked at.
    pub(super) fn probe() -> Self {
        Self("clawhook-doctor".to_owned())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part: what a file is called.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// As it stands in a URL (RFC 3986, section 3.3), slashes kept.
    pub fn in_url(&self) -> String {
        const PLAIN: &percent_encoding::AsciiSet =
            &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
        percent_encoding::utf8_percent_encode(&self.0, PLAIN).to_string()
    }
}

impl fmt::Display for BlobPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, why: Option<&str>) {
        let read = BlobPath::read(text).map_err(|bad| bad.why);
        match why {
            None => assert_eq!(read.as_ref().map(BlobPath::as_str), Ok(text)),
            Some(why) => assert!(read.as_ref().is_err_and(|told| told.contains(why)), "{text}: {read:?}"),
        }
    }

    #[test]
    fn paths_stay_in_their_place() {
        check("reports/2026/11/sales.csv.gz", None);
        check("报表/十一月 1.csv", None);
        check("a", None);
        for (text, why) in [
            ("", "empty"),
            ("/etc/passwd", "slash"),
            ("../a", "dot"),
            ("a/../../b", "dot"),
            ("a/./b", "dot"),
            (".clawhook/link-key", "dot"),
            ("a.", "dot"),
            ("a//b", "empty"),
            ("a/", "empty"),
            ("a\\..\\b", "backslash"),
            ("a\nb", "control"),
        ] {
            check(text, Some(why));
        }
        check(&"ab/".repeat(400), Some("too long"));
        check(&"x".repeat(300), Some("part of it is too long"));
        check(&"订".repeat(100), Some("part of it is too long"));
    }

    #[test]
    fn paths_in_urls() {
        let path = BlobPath::read("报表/a b?#%.csv").map(|path| (path.in_url(), path.name().to_owned()));
        assert_eq!(path, Ok(("%E6%8A%A5%E8%A1%A8/a%20b%3F%23%25.csv".to_owned(), "a b?#%.csv".to_owned())));
    }
}
