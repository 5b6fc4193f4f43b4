//! The control door, called from the command line. It speaks REST like anybody else: no verb has a way in that a
//! program of the user's would not have.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Method;
use http::header::AUTHORIZATION;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::Value;

use super::config;
use super::error::Error;
use super::token;
use crate::limits;
use crate::outbound::{Body, Cause, Client, Egress, Opened, Request};

/// Which gateway to call, and as whom.
#[derive(Debug, Clone, Args)]
pub(super) struct Server {
    /// Address of the control door; that of the settings file when it is there, otherwise `http://127.0.0.1:8080`
    #[arg(long, env = "CLAWHOOK_URL", value_name = "URL", help_heading = "Gateway")]
    url: Option<String>,
    /// Token to call with; made with `JWT_SECRET` when that is in the environment
    #[arg(long, env = "CLAWHOOK_TOKEN", value_name = "TOKEN", hide_env_values = true, help_heading = "Gateway")]
    token: Option<String>,
    /// User to call as, with a password
    #[arg(long, value_name = "NAME", requires = "password", conflicts_with = "token", help_heading = "Gateway")]
    user: Option<String>,
    /// The user's password
    #[arg(long, env = "CLAWHOOK_PASSWORD", value_name = "PASSWORD", hide_env_values = true, help_heading = "Gateway")]
    password: Option<String>,
    /// Settings file that says where the control door is
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE, help_heading = "Gateway")]
    config: PathBuf,
    /// Who calls, for the audit
    #[arg(long = "as", env = "USER", value_name = "NAME", hide = true)]
    caller: Option<String>,
}

impl Server {
    /// The settings file.
    pub(super) fn config(&self) -> &std::path::Path {
        &self.config
    }
}

/// A gateway, ready to be called.
#[derive(Debug)]
pub(super) struct Api {
    client: Client,
    base: String,
    authorization: Option<String>,
}

/// Where the control door is when nothing says otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// How long a token lives that is made for one command.
const TOKEN_TTL: Duration = Duration::from_mins(5);

/// An answer may be waited for this much longer than the gateway itself waits.
const WAIT_MARGIN: Duration = Duration::from_secs(30);

/// What a request carries that is to happen once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Once<'a> {
    /// The `Idempotency-Key`.
    pub(super) key: Option<&'a str>,
    /// How long the gateway may take beyond what it takes for any other request.
    pub(super) wait: Duration,
}

/// A path under the control door, with its query.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    path: String,
    query: Vec<(String, String)>,
}

impl Place {
    /// The path made of these segments, each escaped: a name from the command line stays one segment.
    pub(super) fn new(segments: &[&str]) -> Self {
        let escape = |segment: &&str| percent_encoding::utf8_percent_encode(segment, SEGMENT).to_string();
        let path = segments.iter().map(escape).collect::<Vec<_>>().join("/");
        Self { path: format!("/v1/{path}"), query: Vec::new() }
    }

    /// Adds a parameter to the query, when there is a value for it.
    pub(super) fn query(&mut self, name: &str, value: Option<impl ToString>) {
        self.query.extend(value.map(|value| (name.to_owned(), value.to_string())));
    }

    /// Path and query as they are sent.
    pub(super) fn text(&self) -> String {
        if self.query.is_empty() {
            return self.path.clone();
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.query).finish();
        format!("{}?{query}", self.path)
    }
}

/// What may stand in a path segment as it is (RFC 3986 section 2.3).
const SEGMENT: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl Api {
    /// Finds the gateway and how to prove who calls.
    pub(super) fn open(server: &Server) -> Result<Self, Error> {
        let url = match &server.url {
            Some(url) => url.clone(),
            None => config::control_url(&server.config)?.unwrap_or_else(|| DEFAULT_URL.to_owned()),
        };
        let authorization = match (&server.token, &server.user, &server.password) {
            (Some(token), _, _) => Some(format!("Bearer {token}")),
            (None, Some(user), Some(password)) => {
                let credentials = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
                Some(format!("Basic {credentials}"))
            }
            _ => {
                let token = token::for_one_command(&server.config, server.caller.as_deref(), TOKEN_TTL)?;
                token.map(|token| format!("Bearer {token}"))
            }
        };
        let base = url.trim_end_matches('/').to_owned();
        Ok(Self { client: Client::new(Egress::new(anywhere())), base, authorization })
    }

    /// Reads something.
    pub(super) async fn get(&self, place: &Place) -> Result<Value, Error> {
        self.call(Method::GET, place, None, &Once::default()).await
    }

    /// Asks for something to be done.
    pub(super) async fn post(&self, place: &Place, body: &Value) -> Result<Value, Error> {
        self.call(Method::POST, place, Some(body), &Once::default()).await
    }

    /// Asks for something to be done, once for each key, that the gateway may take `wait` for.
    pub(super) async fn post_once(&self, place: &Place, body: &Value, once: &Once<'_>) -> Result<Value, Error> {
        self.call(Method::POST, place, Some(body), once).await
    }

    async fn call(&self, method: Method, place: &Place, body: Option<&Value>, once: &Once<'_>) -> Result<Value, Error> {
        let request = self.request(method, place, body, once).map_err(|cause| {
            Error::new(cause.sentence())
                .help("write the address of the control door, such as `--url http://127.0.0.1:8080`")
        })?;
        let response = self.client.send(request).await.map_err(|error| self.unreachable(&error.cause))?;
        match serde_json::from_slice(&response.body).ok() {
            Some(answer) if response.status.is_success() => Ok(answer),
            Some(problem) => Err(refused(response.status.as_u16(), &problem)),
            None => {
                Err(Error::new(format!("`{}` answered {} with something that is not JSON", self.base, response.status))
                    .help(
                        "check that the URL is that of the control door, not of the hooks door or of another service",
                    ))
            }
        }
    }

    /// Begins to read something that is not JSON.
    pub(super) async fn read(&self, place: &Place) -> Result<Opened, Error> {
        let request = self.request(Method::GET, place, None, &Once::default());
        let request = request.map_err(|cause| Error::new(cause.sentence()))?;
        let opened = self.client.open(request, limits::REQUEST_TIMEOUT).await;
        let opened = opened.map_err(|error| self.unreachable(&error.cause))?;
        if opened.status.is_success() {
            return Ok(opened);
        }
        let status = opened.status.as_u16();
        let problem = opened.body.words(limits::EXCHANGE_BODY_BYTES_MAX).await;
        Err(refused(status, &serde_json::from_slice(&problem).unwrap_or_default()))
    }

    fn request(&self, method: Method, place: &Place, body: Option<&Value>, once: &Once<'_>) -> Result<Request, Cause> {
        let mut request = Request::new(method, &format!("{}{}", self.base, place.text()))?;
        if let Some(authorization) = &self.authorization {
            request.secret_header(AUTHORIZATION.as_str(), authorization.as_bytes())?;
        }
        if let Some(key) = once.key {
            request.header("idempotency-key", key.as_bytes())?;
        }
        request.header("accept", b"application/json")?;
        request.redirects_max = 0;
        request.response_bytes_max = limits::RESPONSE_BYTES_CEILING;
        request.timeout = limits::REQUEST_TIMEOUT.max(once.wait + WAIT_MARGIN);
        if let Some(body) = body {
            request.body = Body::json(body);
        }
        Ok(request)
    }

    fn unreachable(&self, cause: &Cause) -> Error {
        let error = Error::new(format!("the gateway at `{}` cannot be reached: {}", self.base, cause.sentence()));
        match cause {
            Cause::Connect { .. } => {
                error.help("start it with `clawhook serve`, or say where it is with `--url` or CLAWHOOK_URL")
            }
            other => error.help(other.help()),
        }
    }
}

/// A person at the command line may call any address, except the metadata services that the guard keeps closed.
fn anywhere() -> [IpNet; 4] {
    [
        IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED, 0)),
        IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::LOCALHOST, 8)),
        IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::UNSPECIFIED, 0)),
        IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128)),
    ]
}

/// What the gateway said, RFC 9457.
fn refused(status: u16, problem: &Value) -> Error {
    let member = |name: &str| problem[name].as_str().map(str::to_owned);
    let message =
        member("detail").or_else(|| member("title")).unwrap_or_else(|| format!("the gateway answered {status}"));
    let mut error = Error::new(message);
    error.help = member("help").or_else(|| (status == 401).then(|| CREDENTIALS_HELP.to_owned()));
    error.code = member("code");
    error
}

const CREDENTIALS_HELP: &str = "set JWT_SECRET as the gateway has it, or give `--token`, or `--user` and `--password`";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_stay_in_their_segment() {
        let mut place = Place::new(&["routes", "a/../b?c", "pause"]);
        assert_eq!(place.text(), "/v1/routes/a%2F..%2Fb%3Fc/pause");
        place.query("label", Some("order=#1042"));
        place.query("limit", None::<usize>);
        assert_eq!(place.text(), "/v1/routes/a%2F..%2Fb%3Fc/pause?label=order%3D%231042");
    }

    #[test]
    fn problems_are_told() {
        let problem =
            json!({"title": "Missing scope", "detail": "`ci` lacks it", "code": "auth.forbidden", "help": "h"});
        let error = Error::new("`ci` lacks it").help("h").code("auth.forbidden");
        assert_eq!(refused(403, &problem), error);
        assert_eq!(refused(500, &json!([])), Error::new("the gateway answered 500"));
        assert_eq!(refused(401, &json!({})), Error::new("the gateway answered 401").help(CREDENTIALS_HELP));
    }

    #[test]
    fn metadata_services_stay_closed() {
        let egress = Egress::new(anywhere());
        for open in ["127.0.0.1", "::1", "10.0.0.4", "8.8.8.8"] {
            assert_eq!(egress.check(open.parse().expect("an address")), Ok(()), "{open}");
        }
        assert!(egress.check("169.254.169.254".parse().expect("an address")).is_err());
    }
}
