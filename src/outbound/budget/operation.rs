//! Names an operation of an API by method and path: `POST /reports/*`.

use std::fmt;
use std::str::FromStr;

use http::Method;

/// A method and a path behind the connection's base URL. A `*` stands for one segment of the path, `**` at its end for
/// any number; a `*` in place of the method for all methods.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    method: Option<Method>,
    segments: Vec<String>,
    /// Whatever follows.
    open: bool,
}

impl FromStr for Pattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (method, path) = text.split_once(' ').ok_or("it is no method and path")?;
        let method = match method {
            "*" => None,
            word if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase()) => {
                Some(Method::from_bytes(word.as_bytes()).map_err(|_| "its method is no method")?)
            }
            _ => return Err("its method is not in capitals"),
        };
        let path = path.trim().strip_prefix('/').ok_or("its path does not begin with `/`")?;
        if path.contains(['?', '#', ' ']) {
            return Err("its path holds a query, a fragment or a space");
        }
        let mut segments: Vec<_> = path.trim_end_matches('/').split('/').map(str::to_owned).collect();
        let open = segments.last().is_some_and(|last| last == "**");
        if open {
            segments.pop();
        }
        let misplaced = |segment: &String| segment.contains('*') && segment != "*";
        if segments.iter().any(misplaced) {
            return Err("a `*` stands for a whole segment, and `**` at the end only");
        }
        Ok(Self { method, segments, open })
    }
}

impl Pattern {
    /// Whether a request is of this operation; `path` is the one behind the base URL, without its query.
    pub(super) fn covers(&self, method: &Method, path: &str) -> bool {
        if self.method.as_ref().is_some_and(|own| own != method) {
            return false;
        }
        let mut theirs = path.trim_matches('/').split('/');
        let same = self.segments.iter().all(|own| theirs.next().is_some_and(|segment| own == "*" || own == segment));
        same && (self.open || theirs.next().is_none())
    }
}

/// As people write it.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method.as_ref().map_or("*", Method::as_str))?;
        f.write_str(" ")?;
        for segment in &self.segments {
            write!(f, "/{segment}")?;
        }
        if self.open { f.write_str("/**") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[track_caller]
    fn check(pattern: &str, method: &Method, path: &str, covered: bool) {
        let read: Pattern = pattern.parse().unwrap();
        assert_eq!(read.covers(method, path), covered, "{pattern} and {method} {path}");
        assert_eq!(read.to_string(), pattern);
    }

    #[test]
    fn requests_are_told_apart() {
        check("POST /reports", &Method::POST, "/reports", true);
        check("POST /reports", &Method::POST, "/reports/", true);
        check("POST /reports", &Method::GET, "/reports", false);
        check("GET /reports/*", &Method::GET, "/reports/17", true);
        check("GET /reports/*", &Method::GET, "/reports", false);
        check("GET /reports/*", &Method::GET, "/reports/17/documents", false);
        check("* /reports/**", &Method::PUT, "/reports/17/documents", true);
        check("* /reports/**", &Method::PUT, "/reports", true);
        check("* /reports/**", &Method::PUT, "/orders", false);
        check("GET /a/*/c", &Method::GET, "/a/b/c", true);
        check("GET /a/*/c", &Method::GET, "/a/b/d", false);
    }

    #[test]
    fn what_names_no_operation_is_refused() {
        for bad in ["/reports", "POST", "post /x", "POST x", "POST /a*", "POST /**/a", "POST /a?b=1", " /a", ""] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
