//! Whom a request is addressed to, and which page made a browser send it. A page of another site can make a browser
//! call a door on this machine: under a name that it points here (DNS rebinding), or by a plain form. Both are refused
//! before anything else is looked at.

use std::net::IpAddr;

use actix_web::dev::RequestHead;
use actix_web::http::header::{HOST, HeaderName, ORIGIN};
use actix_web::http::{Method, uri::Authority};

use crate::http::problem::{self, Problem};

/// Sent by every current browser (W3C Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names under which the control door may be addressed, beside `localhost` and any literal address.
#[derive(Debug, Clone, Default)]
pub struct HostNames(Vec<String>);

impl HostNames {
    /// Takes the names that people configured, without port.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Refuses a request that a page of another site may be behind.
    pub(in crate::http) fn check(&self, head: &RequestHead) -> Result<(), Problem> {
        let authority = addressed_to(head)?;
        if !self.is_ours(authority.host()) {
            let detail = format!("this door does not answer to `{}`", authority.host());
            return Err(Problem::new(problem::HOST, detail)
                .help("call it by `localhost` or its address, or add the name to `listen.control.hosts`"));
        }
        if is_foreign_page(head, &authority) {
            let detail = "a browser sent this on behalf of a page of another site";
            return Err(
                Problem::new(problem::ORIGIN, detail).help("call the gateway from a program, not from a web page")
            );
        }
        Ok(())
    }

    /// An address is always ours: to point a browser here, a foreign page needs a name.
    fn is_ours(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        bare.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.0.iter().any(|name| host.eq_ignore_ascii_case(name))
    }
}

/// The authority of the target (HTTP/2, or an absolute target), else the one `Host` header (RFC 9112, section 3.2).
fn addressed_to(head: &RequestHead) -> Result<Authority, Problem> {
    if let Some(authority) = head.uri.authority() {
        return Ok(authority.clone());
    }
    let wrong = || Problem::new(problem::HEADER, "the request wants exactly one `Host` header");
    let mut hosts = head.headers.get_all(HOST);
    let host = hosts.next().ok_or_else(wrong)?;
    if hosts.next().is_some() {
        return Err(wrong());
    }
    Authority::try_from(host.as_bytes()).map_err(|_| wrong())
}

/// Whether a page of another origin sent this. Programs send neither header.
fn is_foreign_page(head: &RequestHead, authority: &Authority) -> bool {
    if matches!(head.method, Method::GET | Method::HEAD) {
        // Reading across sites is what links do; without CORS headers no script sees the answer.
        return false;
    }
    let foreign_site = head.headers.get_all(SEC_FETCH_SITE).any(|site| site != "same-origin" && site != "none");
    let foreign_origin = head.headers.get_all(ORIGIN).any(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.is_none_or(|(_, place)| !place.eq_ignore_ascii_case(authority.as_str()))
    });
    foreign_site || foreign_origin
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn check(method: Method, headers: &[(&'static str, &'static str)], expected: Result<(), &str>) {
        let names = HostNames::new(["Hooks.example.com".to_owned()]);
        let mut request = TestRequest::default().method(method);
        for header in headers {
            request = request.append_header(*header);
        }
        let found = names.check(request.to_http_request().head()).map_err(|problem| problem.kind().code);
        assert_eq!(found, expected, "{headers:?}");
    }

    #[test]
    fn names() {
        for ours in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "192.0.2.7",
            "hooks.EXAMPLE.com:1",
            "localhost.",
        ] {
            check(Method::POST, &[("host", ours)], Ok(()));
        }
        for foreign in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "example.com",
            "hooks.example.com.evil:8080",
        ] {
            check(Method::GET, &[("host", foreign)], Err("http.host"));
        }
        for broken in ["", "a b", "localhost/x"] {
            check(Method::GET, &[("host", broken)], Err("http.header"));
        }
        check(Method::GET, &[("host", "localhost"), ("host", "localhost")], Err("http.header"));
        check(Method::GET, &[], Err("http.header"));
    }

    #[test]
    fn pages() {
        let host = ("host", "localhost:8080");
        check(Method::POST, &[host, ("origin", "http://localhost:8080")], Ok(()));
        check(Method::POST, &[host, ("origin", "http://localhost:9090")], Err("http.origin"));
        check(Method::POST, &[host, ("origin", "https://evil.example")], Err("http.origin"));
        check(Method::POST, &[host, ("origin", "null")], Err("http.origin"));
        check(Method::POST, &[host, ("sec-fetch-site", "cross-site")], Err("http.origin"));
        check(Method::POST, &[host, ("sec-fetch-site", "same-site")], Err("http.origin"));
        check(Method::POST, &[host, ("sec-fetch-site", "same-origin")], Ok(()));
        check(Method::GET, &[host, ("sec-fetch-site", "cross-site")], Ok(()));
        check(Method::GET, &[host, ("origin", "https://evil.example")], Ok(()));
    }
}
