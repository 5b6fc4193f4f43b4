//! What a redirect makes of a request (RFC 9110 section 15.4). Pure: the call is made elsewhere.

use http::header::{self, HeaderName};
use http::{Method, StatusCode};

use super::body::Body;
use super::error::Cause;
use super::request::{Request, parse_url, place};

/// The request to make after `request` was answered by `status` and `location`; `None` when the answer is not a
/// redirect that can be followed by anyone.
///
/// Refused are other schemes, `https` to `http`, and a body with a secret to another origin. A secret header is
/// dropped when the origin changes.
pub(super) fn follow(request: &Request, status: StatusCode, location: Option<&[u8]>) -> Result<Option<Request>, Cause> {
    let keeps_method = match status.as_u16() {
        307 | 308 => true,
        301 | 302 => request.method != Method::POST,
        303 => matches!(request.method, Method::GET | Method::HEAD),
        _ => return Ok(None),
    };
    let Some(location) = location else { return Ok(None) };
    let refuse = |why: String| Cause::Redirect { host: place(&request.url), why };
    let location = std::str::from_utf8(location).map_err(|_| refuse("its `Location` is not text".into()))?;
    let joined = request.url.join(location).map_err(|error| refuse(format!("its `Location` is not a URL: {error}")))?;
    let url = parse_url(joined.as_str()).map_err(|cause| refuse(cause.to_string()))?;
    if request.url.scheme() == "https" && url.scheme() == "http" {
        return Err(refuse(format!("it leads from `https` to `http` at `{}`", place(&url))));
    }
    let mut next = Request { url, ..request.clone() };
    if !keeps_method {
        next.method = Method::GET;
        next.body = Body::default();
        next.headers.retain(|(name, _)| !name.as_str().starts_with("content-"));
    }
    if next.url.origin() != request.url.origin() {
        if next.body.sensitive {
            return Err(refuse(format!("it would send a secret in the body to `{}`", place(&next.url))));
        }
        next.headers.retain(|(name, value)| !value.is_sensitive() && !SECRET.contains(name));
    }
    Ok(Some(next))
}

/// Secret by their name, even when the caller did not mark them.
const SECRET: [HeaderName; 3] = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn names(request: &Request) -> Vec<&str> {
        request.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn request(method: Method) -> Request {
        let mut request = Request::new(method, "https://shop.example/a/b?c=1").unwrap();
        request.header("X-Plain", b"1").unwrap();
        request.header("Authorization", b"Bearer x").unwrap();
        request.header("Cookie", b"s=1").unwrap();
        request.secret_header("X-Key", b"k").unwrap();
        request.header("Content-Language", b"de").unwrap();
        request.body = Body::text("body");
        request
    }

    #[track_caller]
    fn check(method: Method, status: u16, location: &str, expected: (&str, &str, bool, bool)) {
        let status = StatusCode::from_u16(status).unwrap();
        let next = follow(&request(method), status, Some(location.as_bytes())).unwrap().unwrap();
        let (has_body, has_secrets) = (!next.body.bytes.is_empty(), names(&next).contains(&"authorization"));
        assert_eq!((next.method.as_str(), next.url.as_str(), has_body, has_secrets), expected);
        assert_eq!(names(&next).contains(&"x-key"), has_secrets);
        assert_eq!(names(&next).contains(&"content-language"), has_body);
        assert!(names(&next).contains(&"x-plain"));
    }

    #[test]
    fn methods_and_bodies_follow_the_status() {
        let here = "https://shop.example/z";
        check(Method::POST, 301, "/z", ("GET", here, false, true));
        check(Method::POST, 302, "/z", ("GET", here, false, true));
        check(Method::POST, 303, "/z", ("GET", here, false, true));
        check(Method::PUT, 303, "/z", ("GET", here, false, true));
        check(Method::PUT, 302, "/z", ("PUT", here, true, true));
        check(Method::POST, 307, "/z", ("POST", here, true, true));
        check(Method::POST, 308, "../z#f", ("POST", here, true, true));
        check(Method::HEAD, 303, "/z", ("HEAD", here, true, true));
    }

    #[test]
    fn secrets_stay_with_their_origin() {
        check(Method::POST, 307, "https://shop.example:443/z", ("POST", "https://shop.example/z", true, true));
        check(Method::POST, 307, "https://shop.example:8443/", ("POST", "https://shop.example:8443/", true, false));
        check(Method::GET, 302, "//other.example/", ("GET", "https://other.example/", true, false));
        let mut secret = request(Method::POST);
        secret.body.sensitive = true;
        let moved = StatusCode::PERMANENT_REDIRECT;
        assert!(follow(&secret, moved, Some(b"https://other.example/")).is_err());
        assert!(follow(&secret, moved, Some(b"/z")).is_ok());
    }

    #[test]
    fn what_is_not_followed() {
        let found = StatusCode::FOUND;
        for bad in ["http://shop.example/", "ftp://x/", "file:///etc/passwd", "https://u:p@x/", "http://[", "//"] {
            assert!(follow(&request(Method::GET), found, Some(bad.as_bytes())).is_err(), "{bad}");
        }
        assert!(follow(&request(Method::GET), found, None).unwrap().is_none());
        for status in [200, 300, 304, 305, 404] {
            let status = StatusCode::from_u16(status).unwrap();
            assert!(follow(&request(Method::GET), status, Some(b"/z")).unwrap().is_none(), "{status}");
        }
    }
}
