//! Calls that went out in a test, and the way they are written: `POST erp /orders?notify=1`.

use std::fmt;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::compare;
use crate::id::ConnectionName;
use crate::outbound::connection::BaseUrl;
use crate::spec::raw;

/// The connections of the settings, by which calls are named.
pub(super) type Bases = Vec<(ConnectionName, BaseUrl)>;

/// One request that went out.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: String,
    pub(super) url: Url,
    /// Headers as they were sent; names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Call {
    /// The value of a header, any case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON, when it is that.
    pub(super) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The body as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether it asks for a token (RFC 6749): such calls are made by connections, not by tasks.
    pub(super) fn asks_for_token(&self) -> bool {
        let form =
            self.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        self.method == "POST" && form && form_urlencoded::parse(&self.body).any(|(name, _)| name == "grant_type")
    }

    /// As people write it.
    pub(super) fn shown(&self, bases: &Bases) -> String {
        let near = bases.iter().filter(|(_, base)| base.holds(&self.url));
        let query = self.url.query().map(|query| format!("?{}", decoded(query))).unwrap_or_default();
        if let Some((name, base)) = near.max_by_key(|(_, base)| base.as_str().len()) {
            let path = self.url.path().strip_prefix(path_of(base)).unwrap_or(self.url.path());
            return format!("{} {name} {}{query}", self.method, decoded(if path.is_empty() { "/" } else { path }));
        }
        let mut bare = self.url.clone();
        bare.set_query(None);
        format!("{} {}{query}", self.method, decoded(bare.as_str()))
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The path of a base URL, without a slash at its end.
fn path_of(base: &BaseUrl) -> &str {
    let rest = base.as_str().split_once("://").map_or("", |(_, rest)| rest);
    rest.find('/').map_or("", |at| rest[at..].trim_end_matches('/'))
}

/// A call as it is written in a test: which calls it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    /// `*` stands for any.
    method: String,
    place: Place,
    /// Any when absent; `*` stands for one part of it.
    path: Option<String>,
    /// What the query must have.
    query: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Connection(ConnectionName),
    /// Scheme, host and port of a URL.
    Origin(String),
}

/// Why a text is no call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) message: String,
    pub(super) help: String,
}

const FORM: &str = "write it like `GET erp /stock?side=shop` or `POST https://api.example.com/v1/orders`";

impl Pattern {
    /// Reads `METHOD CONNECTION [PATH]` or `METHOD URL`.
    pub(super) fn parse(raw: &raw::CallText) -> Result<Self, Unreadable> {
        let bad = |message: String| Unreadable { message, help: FORM.to_owned() };
        let text = raw.0.trim();
        let mut words = text.splitn(3, ' ').filter(|word| !word.is_empty());
        let (Some(method), Some(place)) = (words.next(), words.next()) else {
            return Err(bad(format!("`{text}` names no place")));
        };
        let rest = words.next().map(str::trim).filter(|rest| !rest.is_empty());
        if place.contains("://") {
            if rest.is_some() {
                return Err(bad(format!("`{text}` has something behind the URL")));
            }
            let url = Url::parse(place).map_err(|error| bad(format!("`{place}` is not a URL: {error}")))?;
            let path = (!matches!(url.path(), "" | "/") || place.ends_with('/')).then(|| decoded(url.path()));
            return Ok(Self {
                text: text.to_owned(),
                method: method.to_owned(),
                place: Place::Origin(url.origin().ascii_serialization()),
                path,
                query: pairs(url.query()),
            });
        }
        let name =
            ConnectionName::new(place).map_err(|_| bad(format!("`{place}` is neither a connection nor a URL")))?;
        let (path, query) = rest.map_or((None, None), |rest| match rest.split_once('?') {
            Some((path, query)) => (Some(path), Some(query)),
            None => (Some(rest), None),
        });
        if path.is_some_and(|path| !path.starts_with('/')) {
            return Err(bad(format!("the path of `{text}` does not begin with `/`")));
        }
        let (text, method) = (text.to_owned(), method.to_owned());
        Ok(Self { text, method, place: Place::Connection(name), path: path.map(decoded), query: pairs(query) })
    }

    /// The connection that it names.
    pub(super) fn connection(&self) -> Option<&ConnectionName> {
        match &self.place {
            Place::Connection(name) => Some(name),
            Place::Origin(_) => None,
        }
    }

    /// Whether it means this call.
    pub(super) fn means(&self, call: &Call, bases: &Bases) -> bool {
        self.misfit(call, bases).is_none()
    }

    /// The first thing about the call that it does not mean, and how near it comes: the fewer parts differ, the
    /// smaller the number.
    pub(super) fn misfit(&self, call: &Call, bases: &Bases) -> Option<(u32, String)> {
        let path = match &self.place {
            Place::Origin(origin) if call.url.origin().ascii_serialization() == *origin => Some(call.url.path()),
            Place::Origin(_) => None,
            Place::Connection(name) => {
                let base = bases.iter().find(|(known, _)| known == name).map(|(_, base)| base);
                base.filter(|base| base.holds(&call.url)).and_then(|base| call.url.path().strip_prefix(path_of(base)))
            }
        };
        let Some(path) = path else { return Some((4, "it is another place".to_owned())) };
        let path = decoded(if path.is_empty() { "/" } else { path });
        if let Some(wanted) = &self.path
            && !fits(wanted, &path)
        {
            return Some((3, format!("the path is `{path}`")));
        }
        if self.method != "*" && self.method != call.method {
            return Some((2, format!("the method is {}", call.method)));
        }
        let there: Vec<(String, String)> = pairs(call.url.query());
        let missing = self.query.iter().find(|wanted| !there.contains(wanted));
        missing.map(|(name, value)| match there.iter().find(|(there, _)| there == name) {
            Some((_, other)) => (1, format!("`{name}` is `{other}`, not `{value}`")),
            None => (1, format!("`{name}` is not in the query")),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn pairs(query: Option<&str>) -> Vec<(String, String)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect()
}

/// Whether a path is the wanted one, part by part.
fn fits(wanted: &str, path: &str) -> bool {
    let (wanted, path): (Vec<_>, Vec<_>) = (wanted.split('/').collect(), path.split('/').collect());
    wanted.len() == path.len() && wanted.iter().zip(path).all(|(wanted, part)| *wanted == "*" || *wanted == part)
}

/// What a call must be like beyond its place.
#[derive(Debug, Clone, Default)]
pub(super) struct Likeness {
    pub(super) json: Option<Value>,
    pub(super) contains: Option<String>,
    pub(super) headers: Vec<(String, String)>,
}

impl Likeness {
    /// What is not so; nothing when all is.
    pub(super) fn misfit(&self, call: &Call) -> Option<String> {
        if let Some(wanted) = &self.json {
            let Some(body) = call.json() else { return Some("its body is not JSON".to_owned()) };
            if let Some(first) = compare::subset("body", wanted, &body).first() {
                return Some(first.sentence());
            }
        }
        if let Some(text) = self.contains.as_ref().filter(|text| !call.text().contains(*text)) {
            return Some(format!("its body does not hold `{text}`"));
        }
        self.headers.iter().find_map(|(name, wanted)| match call.header(name) {
            Some(value) if value == wanted || wanted == "*" => None,
            Some(value) => Some(format!("the header `{name}` is `{value}`, not `{wanted}`")),
            None => Some(format!("the header `{name}` is missing")),
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn bases() -> Bases {
        let base = |name: &str, url: &str| (ConnectionName::new(name).unwrap(), BaseUrl::new(url).unwrap());
        vec![base("erp", "http://127.0.0.1:9400"), base("oms", "https://oms.example.com/api/v2")]
    }

    fn call(method: &str, url: &str) -> Call {
        Call { method: method.into(), url: Url::parse(url).unwrap(), headers: Vec::new(), body: Bytes::new() }
    }

    #[track_caller]
    fn check(pattern: &str, method: &str, url: &str, expected: Option<&str>) {
        let pattern = Pattern::parse(&raw::CallText(pattern.to_owned())).unwrap();
        let misfit = pattern.misfit(&call(method, url), &bases()).map(|(_, why)| why);
        assert_eq!(misfit.as_deref(), expected, "{pattern} {method} {url}");
    }

    #[test]
    fn patterns_mean_calls() {
        check("GET erp /stock?side=shop", "GET", "http://127.0.0.1:9400/stock?side=shop&page=1", None);
        check("GET erp", "GET", "http://127.0.0.1:9400/stock", None);
        check("* erp /orders/*/lines", "PUT", "http://127.0.0.1:9400/orders/17/lines", None);
        check("POST oms /orders", "POST", "https://oms.example.com/api/v2/orders", None);
        check("POST https://oms.example.com/api/v2/orders", "POST", "https://oms.example.com/api/v2/orders?a=1", None);
        check("GET erp /订单", "GET", "http://127.0.0.1:9400/%E8%AE%A2%E5%8D%95", None);
        check("GET erp /a", "GET", "https://oms.example.com/a", Some("it is another place"));
        check("GET erp /a/*", "GET", "http://127.0.0.1:9400/a/b/c", Some("the path is `/a/b/c`"));
        check("GET erp /a", "POST", "http://127.0.0.1:9400/a", Some("the method is POST"));
        check("GET erp /a?b=1", "GET", "http://127.0.0.1:9400/a?b=2", Some("`b` is `2`, not `1`"));
        check("GET erp /a?b=1", "GET", "http://127.0.0.1:9400/a", Some("`b` is not in the query"));
    }

    #[test]
    fn calls_are_shown_as_they_are_written() {
        let shown = |method: &str, url: &str| call(method, url).shown(&bases());
        assert_eq!(shown("GET", "http://127.0.0.1:9400/stock?side=shop"), "GET erp /stock?side=shop");
        assert_eq!(shown("POST", "https://oms.example.com/api/v2/a%20b"), "POST oms /a b");
        assert_eq!(shown("GET", "https://example.com/x?y=1"), "GET https://example.com/x?y=1");
    }

    #[test]
    fn what_is_no_call_is_told() {
        let bad = |text: &str| Pattern::parse(&raw::CallText(text.to_owned())).map_err(|bad| bad.message).unwrap_err();
        assert_eq!(bad("GET"), "`GET` names no place");
        assert_eq!(bad("GET erp orders"), "the path of `GET erp orders` does not begin with `/`");
        assert_eq!(bad("GET /orders"), "`/orders` is neither a connection nor a URL");
    }
}
