//! Who calls the control door, and what they may do: bearer tokens for programs, passwords for people, or nobody asked
//! on a loopback address when the settings say so in words. It answers 401, 403 and 429, and never says more about
//! credentials that do not hold than that they do not.

mod host;
mod people;
mod throttle;
/// Bearer tokens: minted and checked.
pub mod token;

use std::fmt;
use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::{FromRequest, HttpRequest, web};
use arc_swap::ArcSwap;

pub use self::host::HostNames;
use self::people::People;
pub use self::people::Person;
use self::throttle::Throttle;
use self::token::{Refused, TokenKey};
use crate::clock::{Clock, Timestamp};
use crate::gateway::{Caller, Scopes};
use crate::http::problem::{self, Problem};

/// How callers prove who they are.
#[derive(Debug, Clone)]
pub enum Settings {
    /// `auth: none`: everybody who reaches the door may do everything. For loopback addresses only.
    Open,
    /// Tokens, passwords, or both.
    Required {
        /// Checks tokens, when `auth.jwt` is set.
        tokens: Option<TokenKey>,
        /// Who may sign in with a password (`auth.basic`).
        people: Vec<Person>,
    },
}

/// Checks callers. One for the process: it counts failures over all workers.
pub struct Auth {
    clock: Arc<dyn Clock>,
    rule: Rule,
    throttle: Throttle,
}

enum Rule {
    Open,
    Required { tokens: Option<TokenKey>, people: ArcSwap<People> },
}

impl Auth {
    /// Checks callers by these settings, and times by this clock.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let rule = match settings {
            Settings::Open => Rule::Open,
            Settings::Required { tokens, people } => {
                Rule::Required { tokens, people: ArcSwap::from_pointee(People::new(&people)) }
            }
        };
        Self { clock, rule, throttle: Throttle::default() }
    }

    /// Takes new passwords, when their secrets were read again.
    pub fn replace_people(&self, fresh: &[Person]) {
        if let Rule::Required { people, .. } = &self.rule {
            people.store(Arc::new(People::new(fresh)));
        }
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        matches!(self.rule, Rule::Open)
    }

    /// Who sent this request.
    fn caller(&self, request: &HttpRequest) -> Result<Caller, Problem> {
        let address = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        let Rule::Required { tokens, people } = &self.rule else {
            return Ok(Caller { remote: address.to_string(), ..Caller::local() });
        };
        let people = people.load();
        let sent = credentials(request).map_err(|problem| self.challenge(problem))?;
        let found = match (sent, tokens) {
            (Sent::Nothing, _) => Err(missing(tokens.is_some(), !people.is_empty())),
            (Sent::Bearer(token), Some(key)) => bearer(key, token, self.clock.now()),
            (Sent::Basic(credentials), _) if !people.is_empty() => self.person(&people, credentials, address),
            (Sent::Bearer(_) | Sent::Basic(_), _) => {
                Err(invalid("these credentials are of a kind that is not accepted here"))
            }
        };
        let (name, scopes) = found.map_err(|problem| self.challenge(problem))?;
        Ok(Caller { name, scopes, remote: address.to_string() })
    }

    /// Only passwords can be guessed, so only they are slowed down: a good token always gets in.
    fn person(&self, people: &People, credentials: &[u8], address: IpAddr) -> Result<(String, Scopes), Problem> {
        if let Some(wait) = self.throttle.wait(address) {
            return Err(throttled(wait));
        }
        if let Some(name) = people.find(credentials) {
            return Ok((name.to_owned(), Scopes::all()));
        }
        self.throttle.failed(address);
        Err(invalid("the user name or the password is wrong"))
    }

    /// Adds the ways to authenticate to a 401 (RFC 9110, section 11.6.1).
    fn challenge(&self, mut problem: Problem) -> Problem {
        if let (401, Rule::Required { tokens, people }) = (problem.kind().status, &self.rule) {
            if tokens.is_some() {
                let wrong = problem.kind() == problem::AUTH_INVALID;
                problem = problem.challenge(HeaderValue::from_static(if wrong {
                    r#"Bearer realm="clawhook", error="invalid_token""#
                } else {
                    r#"Bearer realm="clawhook""#
                }));
            }
            if !people.load().is_empty() {
                problem = problem.challenge(HeaderValue::from_static(r#"Basic realm="clawhook", charset="UTF-8""#));
            }
        }
        problem
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

/// Handlers take who calls as an argument; what that caller may do, the gateway checks.
impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // Every door that serves a handler with this argument carries what checks it.
        let refuse = || Problem::new(problem::AUTH_MISSING, "this door knows no callers");
        ready(request.app_data::<web::Data<Auth>>().ok_or_else(refuse).and_then(|auth| auth.caller(request)))
    }
}

/// What a request carries to prove who sent it.
enum Sent<'a> {
    Nothing,
    Bearer(&'a str),
    Basic(&'a [u8]),
}

fn credentials(request: &HttpRequest) -> Result<Sent<'_>, Problem> {
    let mut values = request.headers().get_all(AUTHORIZATION);
    let Some(value) = values.next() else { return Ok(Sent::Nothing) };
    if values.next().is_some() {
        return Err(invalid("the `Authorization` header occurs more than once"));
    }
    let strange = || invalid("the `Authorization` header holds neither a bearer token nor a user and password");
    let (scheme, rest) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(strange)?;
    let rest = rest.trim_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(Sent::Bearer(rest))
    } else if scheme.eq_ignore_ascii_case("basic") {
        Ok(Sent::Basic(rest.as_bytes()))
    } else {
        Err(strange())
    }
}

fn bearer(key: &TokenKey, token: &str, now: Timestamp) -> Result<(String, Scopes), Problem> {
    let help = |why| match why {
        Refused::Expired | Refused::NoExpiry | Refused::NoSubject => "make a new one with `clawhook token create`",
        _ => "check that the token was made with this gateway's `JWT_SECRET`",
    };
    let bearer = key.verify(token, now).map_err(|why| invalid(why.to_string()).help(help(why)))?;
    Ok((bearer.subject, bearer.scopes))
}

fn missing(tokens: bool, people: bool) -> Problem {
    let help = match (tokens, people) {
        (true, false) => "send `Authorization: Bearer TOKEN`; `clawhook token create` makes one",
        (true, true) => {
            "send `Authorization: Bearer TOKEN` (`clawhook token create` makes one), or sign in with user and password"
        }
        (false, true) => "sign in with user and password",
        (false, false) => "set `auth.jwt` or `auth.basic` in the settings",
    };
    Problem::new(problem::AUTH_MISSING, "this door wants to know who calls").help(help)
}

fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(problem::AUTH_INVALID, detail)
}

fn throttled(wait: Duration) -> Problem {
    Problem::new(problem::AUTH_THROTTLED, "too many wrong passwords came from this address").retry_after(wait)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use actix_web::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
    use actix_web::test::TestRequest;
    use data_encoding::BASE64;

    use super::*;
    use crate::clock::TestClock;
    use crate::domain::secret::SecretValue;
    use crate::gateway::Scope;
    use crate::limits;

    const NOW: Timestamp = Timestamp::from_secs(1_795_338_000);

    fn key() -> TokenKey {
        TokenKey::new(&SecretValue::new("0123456789abcdef0123456789abcdef")).unwrap()
    }

    fn auth(tokens: bool, people: &[(&str, &str)]) -> Auth {
        let people = people
            .iter()
            .map(|(name, password)| Person { name: (*name).into(), password: SecretValue::new(*password) })
            .collect();
        let settings = Settings::Required { tokens: tokens.then(key), people };
        Auth::new(settings, Arc::new(TestClock::at(NOW)))
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", BASE64.encode(credentials.as_bytes()))
    }

    fn ask(auth: &Auth, headers: &[&str], peer: &str) -> Result<Caller, Problem> {
        let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
        for header in headers {
            request = request.append_header((AUTHORIZATION, *header));
        }
        auth.caller(&request.to_http_request())
    }

    fn check(auth: &Auth, headers: &[&str], expected: Result<&str, (&str, &[&str])>) {
        let found = ask(auth, headers, "192.0.2.1:5").map(|caller| caller.name).map_err(|problem| {
            let answer = problem.answer(None);
            let ways = answer.headers().get_all(WWW_AUTHENTICATE).map(|way| way.to_str().unwrap().to_owned());
            (problem.kind().code, ways.collect::<Vec<_>>())
        });
        let expected = expected.map(ToOwned::to_owned);
        let expected = expected.map_err(|(code, ways)| (code, ways.iter().map(|way| (*way).to_owned()).collect()));
        assert_eq!(found, expected, "{headers:?}");
    }

    const TOKEN_WANTED: &str = r#"Bearer realm="clawhook""#;
    const TOKEN_WRONG: &str = r#"Bearer realm="clawhook", error="invalid_token""#;
    const PASSWORD_WANTED: &str = r#"Basic realm="clawhook", charset="UTF-8""#;

    #[tokio::test]
    async fn credentials_of_each_kind() {
        let both = auth(true, &[("ops", "pass")]);
        let token = key().mint("ci", &[Scope::RunsRead], Duration::from_mins(1), NOW).unwrap();
        let bearer = format!("Bearer {token}");
        check(&both, &[&bearer], Ok("ci"));
        check(&both, &[&bearer.replace("Bearer", "bearer")], Ok("ci"));
        check(&both, &[&basic("ops:pass")], Ok("ops"));
        check(&both, &[], Err(("auth.missing", &[TOKEN_WANTED, PASSWORD_WANTED])));
        let wrong = Err(("auth.invalid", &[TOKEN_WRONG, PASSWORD_WANTED][..]));
        check(&both, &[&basic("ops:wrong")], wrong);
        check(&both, &[&format!("{bearer}x")], wrong);
        check(&both, &[&token], wrong);
        check(&both, &["Digest x"], wrong);
        check(&both, &["Bearer "], wrong);
        check(&both, &[&bearer, &bearer], wrong);
        let tokens = auth(true, &[]);
        check(&tokens, &[&basic("ops:pass")], Err(("auth.invalid", &[TOKEN_WRONG])));
        check(&tokens, &[], Err(("auth.missing", &[TOKEN_WANTED])));
        let people = auth(false, &[("ops", "pass")]);
        check(&people, &[&bearer], Err(("auth.invalid", &[PASSWORD_WANTED])));
        check(&auth(false, &[]), &[], Err(("auth.missing", &[])));
        check(&Auth::new(Settings::Open, Arc::new(TestClock::at(NOW))), &["Digest x"], Ok("local"));
    }

    #[tokio::test]
    async fn new_passwords_take_the_place_of_old_ones() {
        let auth = auth(false, &[("ops", "old")]);
        auth.replace_people(&[Person { name: "ops".into(), password: SecretValue::new("new") }]);
        assert!(ask(&auth, &[&basic("ops:old")], "192.0.2.1:5").is_err());
        assert!(ask(&auth, &[&basic("ops:new")], "192.0.2.1:5").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_is_slowed_down_by_address() {
        let auth = auth(true, &[("ops", "pass")]);
        for _ in 0..limits::AUTH_FAILURES_MAX {
            let refused = ask(&auth, &[&basic("ops:guess")], "192.0.2.1:5").unwrap_err();
            assert_eq!(refused.kind(), problem::AUTH_INVALID);
        }
        let refused = ask(&auth, &[&basic("ops:pass")], "192.0.2.1:6").unwrap_err();
        assert_eq!(refused.kind(), problem::AUTH_THROTTLED);
        assert_eq!(refused.answer(None).headers().get(RETRY_AFTER).unwrap(), "6");
        assert!(ask(&auth, &[&basic("ops:pass")], "192.0.2.2:5").is_ok());
        let token = key().mint("ci", &[], Duration::from_mins(1), NOW).unwrap();
        assert!(ask(&auth, &[&format!("Bearer {token}")], "192.0.2.1:5").is_ok());
        tokio::time::advance(limits::AUTH_FAILURE_EVERY).await;
        assert!(ask(&auth, &[&basic("ops:pass")], "192.0.2.1:5").is_ok());
    }
}
