//! The far ends that workflows call.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use serde_json::Value as Json;
use url::{Host, Url};

use super::Table;
use crate::azure::Azure;
use crate::domain::secret::SecretRef;
use crate::id::ConnectionName;
use crate::limits;
use crate::outbound::auth::{self, Auth};
use crate::outbound::connection::{BaseUrl, Connection, Value};
use crate::outbound::{Egress, Refusal, Tls, breaker, budget, parse_url};
use crate::spec::raw;
use crate::spec::source_map::Path;
use crate::spec::structure::Item;
use crate::tasks::Connections;
use crate::tasks::plan::RateLimit;

impl Table<'_> {
    /// The healthy connections; what is wrong with the others is told. `egress` is absent when it is not known.
    pub(super) fn connections(
        &mut self,
        items: &[Item<raw::Connection>],
        egress: Option<&Egress>,
        azure: &Arc<Azure>,
    ) -> Connections {
        let mut connections = Connections::new();
        for item in items {
            if let Some(connection) = self.connection(item, egress, azure) {
                connections.insert(connection.name.clone(), Arc::new(connection));
            }
        }
        connections
    }

    fn connection(
        &mut self,
        item: &Item<raw::Connection>,
        egress: Option<&Egress>,
        azure: &Arc<Azure>,
    ) -> Option<Connection> {
        let raw = item.raw.as_ref()?;
        let path = &item.path;
        let name = ConnectionName::new(path.key()?).map_err(|error| {
            let problem = self.desk.problem("spec.name", error.to_string(), self.desk.map.entry(path));
            self.desk.push(problem.help("write another name"));
        });
        let base_url = self.base_url(&path.with("base_url"), &raw.base_url, egress);
        let auth = raw.auth.as_ref();
        let auth = auth.map(|auth| self.connection_auth(&path.with("auth"), auth, &item.json["auth"], azure));
        let mut headers = Vec::new();
        for (name, value) in &raw.headers {
            headers.extend(self.header(&path.with("headers").with(name.as_str()), name, value));
        }
        let timeout = self.desk.duration(&path.with("timeout"), raw.timeout.as_ref());
        let ca_pem = raw.tls.as_ref().map(|tls| self.file(&path.with("tls").with("ca"), &tls.ca, limits::CA_BYTES_MAX));
        let rate_limit = self.budget(&path.with("rate_limit"), raw.rate_limit.as_ref());
        let breaker = raw.circuit_breaker.as_ref();
        let circuit_breaker = breaker.map(|breaker| self.breaker(&path.with("circuit_breaker"), breaker));
        Some(Connection {
            name: name.ok()?,
            base_url: base_url?,
            // An absent proof is fine; one that is wrong is not.
            auth: auth.map_or(Some(None), |auth| auth.map(Some))?,
            headers,
            timeout,
            tls: Tls { ca_pem: ca_pem.map_or(Some(None), |pem| pem.map(Some))? },
            rate_limit,
            circuit_breaker,
        })
    }

    fn budget(&mut self, path: &Path, raw: Option<&raw::ConnectionRateLimit>) -> budget::Settings {
        let Some(raw) = raw else { return budget::Settings::default() };
        if raw.rate.is_none() && raw.operations.is_empty() {
            let problem =
                self.desk.problem("spec.no_effect", "this `rate_limit` limits nothing", self.desk.map.entry(path));
            self.desk.push(problem.warning().help("add a `rate`, such as `rate: 2/s`, or remove it"));
        }
        let rest = self.desk.rate_limit(path, raw.rate.as_ref(), raw.burst).map(limit);
        let mut operations = Vec::new();
        for (place, operation) in raw.operations.iter().enumerate() {
            let path = path.with("operations").with(place);
            let limited = self.desk.rate_limit(&path, Some(&operation.rate), operation.burst);
            match operation.pattern.parse() {
                Ok(pattern) => operations.extend(limited.map(|limited| (pattern, limit(limited)))),
                Err(why) => {
                    let help = "write method and path, such as `match: POST /reports/*`";
                    self.desk.bad_value(
                        &path.with("match"),
                        &format!("`{}` names no operation: {why}", operation.pattern),
                        help,
                    );
                }
            }
        }
        budget::Settings { rest, operations }
    }

    fn breaker(&mut self, path: &Path, raw: &raw::CircuitBreaker) -> breaker::Settings {
        let failures = raw.failures.and_then(NonZeroU32::new).unwrap_or(limits::BREAKER_FAILURES);
        let open_for = self.desk.duration(&path.with("open_for"), raw.open_for.as_ref());
        breaker::Settings { failures, open_for: open_for.unwrap_or(limits::BREAKER_OPEN_FOR) }
    }

    /// A base URL that the guard lets workflows call, as far as it can be told from its text.
    pub(super) fn base_url(&mut self, path: &Path, text: &str, egress: Option<&Egress>) -> Option<BaseUrl> {
        let url = match BaseUrl::new(text) {
            Ok(url) => url,
            Err(cause) => {
                let problem = self.desk.at("spec.connection", cause.to_string(), path);
                self.desk.push(problem.help("write it like `base_url: https://erp.example.com/api`"));
                return None;
            }
        };
        if let (Some(egress), Some(address)) = (egress, literal_address(url.as_str()))
            && let Err(refusal) = egress.check(address)
        {
            let network =
                if address.is_loopback() && address.is_ipv4() { "127.0.0.0/8".to_owned() } else { address.to_string() };
            let problem = self.desk.at("spec.egress", format!("workflows may not call `{address}`, {refusal}"), path);
            self.desk.push(problem.help(match refusal {
                // Whoever reaches it gets the machine's own credentials: nothing to allow in passing.
                Refusal::Metadata => "name the far end that is meant".to_owned(),
                _ => format!("allow it with `egress: {{ allow: [\"{network}\"] }}`"),
            }));
        }
        Some(url)
    }

    fn connection_auth(
        &mut self,
        path: &Path,
        raw: &raw::ConnectionAuth,
        json: &Json,
        azure: &Arc<Azure>,
    ) -> Option<Arc<dyn Auth>> {
        let errors = self.desk.errors();
        let Words { kind, needs, may } = words(raw.kind);
        let given = [
            ("header", raw.header.is_some(), "header: X-Api-Key"),
            ("prefix", raw.prefix.is_some(), ""),
            ("username", raw.username.is_some(), "username: …"),
            ("encoding", raw.encoding.is_some(), ""),
            ("secret_ref", raw.secret_ref.is_some(), "secret_ref: NAME"),
            ("version", raw.version.is_some(), ""),
            ("field", raw.field.is_some(), ""),
            ("scope", raw.scope.is_some(), "scope: https://management.azure.com/.default"),
            ("token_url", raw.token_url.is_some(), "token_url: https://…/token"),
            ("client_id", raw.client_id.is_some(), "client_id: …"),
            ("client_secret", raw.client_secret.is_some(), "client_secret: { secret_ref: NAME }"),
            ("client_auth", raw.client_auth.is_some(), ""),
            ("refresh_token", raw.refresh_token.is_some(), "refresh_token: { secret_ref: NAME }"),
            ("audience", raw.audience.is_some(), ""),
            ("params", !raw.params.is_empty(), ""),
            ("api", raw.api.is_some(), ""),
            ("service", raw.service.is_some(), ""),
            ("channel_type", raw.channel_type.is_some(), ""),
        ];
        for (key, given, example) in given {
            let needed = needs.contains(&key);
            if given && !needed && !may.contains(&key) {
                let message = format!("`{key}` does not go with `type: {kind}`");
                let problem = self.desk.problem("spec.connection", message, self.desk.map.key(path, key));
                self.desk.push(problem.help("remove it, or change the `type`"));
            } else if needed && !given {
                let message = format!("the key `{key}` is missing in `{path}`");
                let problem = self.desk.problem("spec.missing_key", message, self.desk.map.entry(path));
                self.desk.push(problem.help(format!("`type: {kind}` wants it: add `{example}`")));
            }
        }
        if let Some(header) = &raw.header {
            self.header_name(&path.with("header"), header);
        }
        self.token_settings(path, raw);
        if let Some(secret_ref) = raw.secret_ref.clone() {
            let (version, field) = (raw.version.clone(), raw.field.clone());
            self.secret(path, &raw::SecretRef { secret_ref, prefix: None, version, field });
        }
        if self.desk.errors() > errors {
            return None;
        }
        let mut settings = json.clone();
        settings.as_object_mut()?.shift_remove("type");
        match auth::kind(kind)?.parse(settings, azure) {
            Ok(auth) => Some(auth),
            Err(error) => {
                let problem = self.desk.at("spec.connection", format!("the `auth` cannot be read: {error}"), path);
                self.desk.push(problem);
                None
            }
        }
    }

    /// The parts of a proof that are places, scopes and secrets.
    fn token_settings(&mut self, path: &Path, raw: &raw::ConnectionAuth) {
        use raw::ConnectionAuthType::{Lwa, ManagedIdentity};
        let mut texts = vec![("username", &raw.username), ("client_id", &raw.client_id)];
        texts.push(("channel_type", &raw.channel_type));
        for (key, text) in texts {
            if let Some(raw::TextOrSecret::Secret(secret)) = text {
                self.secret(&path.with(key), secret);
            }
        }
        for (name, value) in &raw.params {
            if let raw::TextOrSecret::Secret(secret) = value {
                self.secret(&path.with("params").with(name.as_str()), secret);
            }
        }
        for (key, secret) in [("client_secret", &raw.client_secret), ("refresh_token", &raw.refresh_token)] {
            if let Some(secret) = secret {
                self.secret(&path.with(key), secret);
            }
        }
        if let Some(url) = &raw.token_url
            && let Err(cause) = parse_url(url)
        {
            let problem = self.desk.at("spec.connection", cause.to_string(), &path.with("token_url"));
            self.desk.push(problem.help("write it like `token_url: https://login.example.com/oauth2/token`"));
        }
        let scope = raw.scope.as_ref().filter(|scope| raw.kind == ManagedIdentity && !is_scope(scope));
        if let Some(scope) = scope {
            let help = "write the resource with `/.default` behind it, such as `https://management.azure.com/.default`";
            self.desk.bad_value(&path.with("scope"), &format!("`{scope}` is no scope of a token"), help);
        }
        if raw.kind == Lwa && raw.refresh_token.is_some() == raw.scope.is_some() {
            let message = "`type: lwa` speaks for a seller by a `refresh_token`, or for nobody by a `scope`";
            let problem = self.desk.problem("spec.connection", message, self.desk.map.entry(path));
            self.desk.push(problem.help("write one of the two"));
        }
    }

    fn header(&mut self, path: &Path, name: &str, raw: &raw::TextOrSecret) -> Option<(HeaderName, Value)> {
        let key = self.header_name(path, name);
        let value = match raw {
            raw::TextOrSecret::Secret(raw) => self.secret(path, raw).map(Value::Secret),
            raw::TextOrSecret::Text(text) if text.contains("${{") => {
                let problem = self.desk.at("spec.expression", "a connection's header is the same for every call", path);
                self.desk.push(problem.help("write the expression in the `headers` of the task"));
                None
            }
            raw::TextOrSecret::Text(text) => {
                let value = HeaderValue::from_str(text).ok();
                if value.is_none() {
                    let help = "write it on one line, without other characters";
                    self.desk.bad_value(path, "a header holds visible ASCII characters only", help);
                }
                value.map(Value::Plain)
            }
        };
        Some((key?, value?))
    }

    fn header_name(&mut self, path: &Path, name: &str) -> Option<HeaderName> {
        let read = HeaderName::from_bytes(name.as_bytes()).ok();
        if read.is_none() {
            let span = self.desk.map.key(&path.parent().unwrap_or_default(), path.key().unwrap_or_default());
            let problem = self.desk.problem("spec.name", format!("`{name}` cannot be the name of a header"), span);
            self.desk.push(problem.help("write it as the far end does, such as `X-Api-Key`"));
        }
        read
    }

    /// A secret that must exist; it is noted where it is named.
    pub(super) fn secret(&mut self, path: &Path, raw: &raw::SecretRef) -> Option<SecretRef> {
        self.desk.secret(path, raw)
    }
}

fn limit(limited: RateLimit) -> budget::Limit {
    budget::Limit { rate: limited.rate, burst: limited.burst }
}

/// The name of a way to prove who we are, the keys it needs beside its `type`, and those it may have.
struct Words {
    kind: &'static str,
    needs: &'static [&'static str],
    may: &'static [&'static str],
}

fn words(kind: raw::ConnectionAuthType) -> Words {
    use raw::ConnectionAuthType as Type;
    let (kind, needs, may): (_, &[_], &[_]) = match kind {
        Type::Header => ("header", &["header", "secret_ref"], &["prefix", "version", "field"]),
        Type::Bearer => ("bearer", &["secret_ref"], &["version", "field"]),
        Type::Basic => ("basic", &["username", "secret_ref"], &["version", "field"]),
        Type::HmacBody => ("hmac_body", &["secret_ref"], &["header", "encoding", "prefix", "version", "field"]),
        Type::ManagedIdentity => ("managed_identity", &["scope"], &[]),
        Type::OAuth2ClientCredentials => (
            "oauth2_client_credentials",
            &["token_url", "client_id", "client_secret"],
            &["client_auth", "scope", "audience", "params"],
        ),
        Type::OAuth2RefreshToken => (
            "oauth2_refresh_token",
            &["token_url", "client_id", "client_secret", "refresh_token"],
            &["client_auth", "scope", "params"],
        ),
        Type::Lwa => ("lwa", &["client_id", "client_secret"], &["refresh_token", "scope", "token_url", "api"]),
        Type::Walmart => ("walmart", &["client_id", "client_secret"], &["token_url", "service", "channel_type"]),
        Type::AzureCommunication => ("azure_communication", &["secret_ref"], &["version", "field"]),
    };
    Words { kind, needs, may }
}

/// Whether a text is a scope as managed identities know them: one resource, all that we may do there.
fn is_scope(text: &str) -> bool {
    let resource = text.strip_suffix("/.default").and_then(|resource| Url::parse(resource).ok());
    resource.is_some_and(|resource| matches!(resource.scheme(), "https" | "api"))
}

/// The address in a URL that names one, or this machine.
fn literal_address(url: &str) -> Option<IpAddr> {
    match Url::parse(url).ok()?.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain("localhost") => Some(Ipv4Addr::LOCALHOST.into()),
        Host::Domain(_) => None,
    }
}
