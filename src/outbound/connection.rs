//! A named far end: where it is, how we prove who we are, and what every request to it carries.
//!
//! A task that uses a connection names a path, never a URL. The path is put behind the base URL and cannot leave it:
//! not to another host, not above the base path, however it is spelt. So a value from a webhook in a path cannot
//! turn a connection's credentials to another place.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::auth::{self, Auth, Means, Proof, put_secret};
use super::error::Cause;
use super::request::{Request, Tls, parse_url};
use super::{breaker, budget};
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::id::ConnectionName;
use crate::limits;

/// A far end, ready to be called.
#[derive(Debug, Clone)]
pub struct Connection {
    pub name: ConnectionName,
    pub base_url: BaseUrl,
    pub auth: Option<Arc<dyn Auth>>,
    /// Headers of every request; a task's header of the same name wins over a plain one, never over `auth`.
    pub headers: Vec<(HeaderName, Value)>,
    /// Longest that one request may take, when the task does not say.
    pub timeout: Option<Duration>,
    pub tls: Tls,
    /// How often it may be called.
    pub rate_limit: budget::Settings,
    /// When it is left alone; never without.
    pub circuit_breaker: Option<breaker::Settings>,
}

/// A header's value: written, or kept by the secret source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Plain(HeaderValue),
    Secret(SecretRef),
}

impl Connection {
    /// The request to `path` with the task's `query` behind it, this connection's headers in it and its bounds set.
    /// Call [`Connection::prove`] when the task's own headers are in place.
    pub fn request(&self, method: Method, path: &str, query: &[(String, String)]) -> Result<Request, Cause> {
        let mut request = Request::new(method, self.base_url.join(path, query)?.as_str())?;
        request.timeout = self.timeout.unwrap_or(limits::REQUEST_TIMEOUT);
        request.tls = self.tls.clone();
        Ok(request)
    }

    /// Adds this connection's headers, where the request has none of the name, and the proof of who we are. The last
    /// step before sending; the masker knows every secret in the request after it.
    pub async fn prove(
        &self,
        request: &mut Request,
        with: &Means<'_>,
        masker: &mut Masker,
    ) -> Result<Proof, auth::Error> {
        for (name, value) in &self.headers {
            match value {
                Value::Plain(_) if request.has(name) => {}
                Value::Plain(value) => request.header(name.as_str(), value.as_bytes())?,
                Value::Secret(reference) => {
                    let value = with.secrets.resolve(reference).await?;
                    masker.learn(reference, &value);
                    put_secret(request, name.as_str(), value.expose(), reference)?;
                }
            }
        }
        match &self.auth {
            Some(auth) => auth.apply(request, with, masker).await,
            None => Ok(Proof::Fixed),
        }
    }

    /// All secrets that a request needs.
    pub fn secrets(&self) -> Vec<&SecretRef> {
        let of_headers = self.headers.iter().filter_map(|(_, value)| match value {
            Value::Plain(_) => None,
            Value::Secret(reference) => Some(reference),
        });
        let of_auth = self.auth.iter().flat_map(|auth| auth.secrets());
        of_headers.chain(of_auth).collect()
    }
}

/// The URL that paths are put behind: `http` or `https`, without query, fragment or credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Reads a base URL. A slash at its end makes no difference.
    pub fn new(text: &str) -> Result<Self, Cause> {
        let mut url = parse_url(text)?;
        if url.query().is_some() || text.contains('#') {
            return Err(bad(&url, "a base URL has no query and no fragment"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The base URL, without a slash at its end but for a bare host's.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether a URL stands behind this one.
    pub fn holds(&self, url: &Url) -> bool {
        let rest = url.path().strip_prefix(self.0.path().trim_end_matches('/'));
        url.origin() == self.0.origin()
            && escape(url.path()).is_none()
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The path of a URL behind this one.
    pub(super) fn behind<'u>(&self, url: &'u Url) -> &'u str {
        url.path().strip_prefix(self.0.path().trim_end_matches('/')).unwrap_or(url.path())
    }

    /// The URL of `path` behind this one, `query` added to what query `path` has.
    ///
    /// | base | path | URL |
    /// |---|---|---|
    /// | `https://erp/api` | `/orders` or `orders` | `https://erp/api/orders` |
    /// | `https://erp/api` | `/a/../b?c=1` | `https://erp/api/b?c=1` |
    /// | `https://erp/api` | `` | `https://erp/api` |
    /// | `https://erp/api` | `../admin`, `//evil`, `https://evil/`, `..%2fadmin` | refused |
    pub fn join(&self, path: &str, query: &[(String, String)]) -> Result<Url, Cause> {
        let (segments, own_query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        if let Some(why) = escape(segments) {
            return Err(bad(&self.0, why));
        }
        let mut url = self.0.clone();
        let base = self.0.path().trim_end_matches('/');
        let below = segments.strip_prefix('/').unwrap_or(segments);
        if !below.is_empty() || segments == "/" {
            url.set_path(&format!("{base}/{below}"));
        }
        let inside = url.path().strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if !inside || url.origin() != self.0.origin() {
            return Err(bad(&self.0, "the path leads above the base path"));
        }
        url.set_query(own_query);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }
}

fn bad(url: &Url, why: &str) -> Cause {
    Cause::BadUrl { url: url.to_string(), why: why.to_owned() }
}

/// Why a path could mean another place to some reader of URLs, if it could.
fn escape(path: &str) -> Option<&'static str> {
    if path.starts_with("//") || path.contains("://") {
        return Some("a task names a path behind the base URL, not another host");
    }
    if path.contains(['\\', '#']) || path.chars().any(char::is_control) {
        return Some("the path holds `\\`, `#` or a control character: percent-encode it");
    }
    // `a/../b` is resolved; `a%2f..%2fb` is one segment to us and may be three to the far end.
    let hidden = |segment: &str| {
        let decoded = percent_decode_str(segment).decode_utf8_lossy();
        decoded.contains(['/', '\\']) && decoded.split(['/', '\\']).any(|part| part == "..")
    };
    path.split('/').any(hidden).then_some("the path holds an encoded `..`")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;
    use crate::clock::SystemClock;
    use crate::domain::secret::{self, SecretValue, Secrets};
    use crate::id::SecretName;
    use crate::outbound::{Client, Egress};

    #[track_caller]
    fn check(base: &str, path: &str, query: &[(&str, &str)], expected: Option<&str>) {
        let query: Vec<_> = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let url = BaseUrl::new(base).unwrap().join(path, &query).ok();
        assert_eq!(url.as_ref().map(Url::as_str), expected, "{base} + {path}");
    }

    #[derive(Debug)]
    struct Vault;

    #[async_trait::async_trait]
    impl Secrets for Vault {
        async fn resolve(&self, reference: &SecretRef) -> Result<SecretValue, secret::Error> {
            Ok(SecretValue::new(format!("value-of-{}", reference.name)))
        }
    }

    #[tokio::test]
    async fn a_request_gets_headers_and_proof() {
        let secret = |name: &str| SecretRef::to(SecretName::new(name).unwrap());
        let token = json!({"secret_ref": "token"});
        let azure = Arc::default();
        let connection = Connection {
            name: ConnectionName::new("erp").unwrap(),
            base_url: BaseUrl::new("https://erp/api").unwrap(),
            auth: Some(auth::kind("bearer").unwrap().parse(token, &azure).unwrap()),
            headers: vec![
                (HeaderName::from_static("accept"), Value::Plain(HeaderValue::from_static("application/json"))),
                (HeaderName::from_static("x-tenant"), Value::Plain(HeaderValue::from_static("1"))),
                (HeaderName::from_static("x-key"), Value::Secret(secret("key"))),
            ],
            timeout: Some(Duration::from_secs(7)),
            tls: Tls::default(),
            rate_limit: budget::Settings::default(),
            circuit_breaker: None,
        };
        assert_eq!(connection.secrets(), [&secret("key"), &secret("token")]);
        let mut masker = Masker::new();
        let mut request = connection.request(Method::GET, "/orders", &[]).unwrap();
        request.header("X-Tenant", b"2").unwrap();
        request.header("Authorization", b"mine").unwrap();
        let client = Client::new(Egress::default());
        let means = Means { client: &client, secrets: &Vault, clock: &SystemClock, refused: None };
        connection.prove(&mut request, &means, &mut masker).await.unwrap();
        assert_eq!(request.timeout, Duration::from_secs(7));
        let record = request.record(&masker);
        let shown: Vec<_> = record.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let expected = [
            "x-tenant: 2",
            "accept: application/json",
            "x-key: [secret:key]",
            "authorization: Bearer [secret:token]",
            "accept-encoding: gzip",
        ];
        assert_eq!(shown[..5], expected);
    }

    #[test]
    fn paths_stand_behind_the_base() {
        check("https://erp/api/", "/orders", &[], Some("https://erp/api/orders"));
        check("https://erp/api", "orders/", &[], Some("https://erp/api/orders/"));
        check("https://erp/api", "", &[], Some("https://erp/api"));
        check("https://erp/api", "/", &[], Some("https://erp/api/"));
        check("https://erp", "", &[("a", "1")], Some("https://erp/?a=1"));
        check("https://erp", "/x?a=1", &[("b", "&ü")], Some("https://erp/x?a=1&b=%26%C3%BC"));
        check("https://erp/api", "/a/./../b", &[], Some("https://erp/api/b"));
        check(
            "https://erp/api",
            "/订单/#1042".replace('#', "%23").as_str(),
            &[],
            Some("https://erp/api/%E8%AE%A2%E5%8D%95/%231042"),
        );
        check("https://erp/api", "/a%2Fb", &[], Some("https://erp/api/a%2Fb"));
        check("https://erp:8443/api", "/x?u=https://other/", &[], Some("https://erp:8443/api/x?u=https://other/"));
    }

    #[test]
    fn paths_do_not_leave_the_base() {
        for bad in [
            "//evil/x",
            "https://evil/",
            "/https://evil/",
            "\\\\evil",
            "/\\evil",
            "../admin",
            "/../admin",
            "/%2e%2e/admin",
            "/.%2E/admin",
            "/a/../../admin",
            "/../apix",
            "/..%2fadmin",
            "/a%5c..%5cadmin",
            "/a\nb",
            "/a#b",
        ] {
            check("https://erp/api", bad, &[], None);
        }
    }

    #[test]
    fn a_base_is_a_place() {
        for bad in ["erp", "ftp://erp/", "https://erp/?a=1", "https://erp/#x", "https://u:p@erp/"] {
            assert!(BaseUrl::new(bad).is_err(), "{bad}");
        }
    }
}
