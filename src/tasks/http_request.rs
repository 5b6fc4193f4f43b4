//! `http_request`: one call to a far end.

mod failures;

use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::failures::{at_connection, masked, quoted, retry_after, unproved, unsendable};
use super::{
    Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, expression_failure, names_of, read_mapping,
    read_with, secret_failure,
};
use crate::domain::attempt::Exchange;
use crate::domain::body;
use crate::domain::byte_size;
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::expr::{Mapping, Place, Template};
use crate::limits;
use crate::outbound::{self, Body, Part, Request, Response};

pub(super) const KIND: TaskKind = TaskKind {
    name: "http_request",
    summary: "Makes one HTTP call; the output is `{ status, headers, body }`.",
    connects: true,
    schema: || schema_for!(With),
    parse: |with, connected| parse(read_with(with)?, with, connected),
};

/// Settings of an `http_request` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// The method; `GET` when left out.
    #[serde(default)]
    method: HttpMethod,
    /// The path behind the connection's `base_url`.
    path: Option<String>,
    /// The whole URL, for a task without a connection.
    url: Option<String>,
    /// Query parameters; a list repeats the name, null leaves it out.
    query: Option<Map<String, Value>>,
    /// Headers; a value is text or `{ secret_ref: NAME }`.
    headers: Option<Map<String, Value>>,
    /// A JSON body.
    json: Option<Value>,
    /// A form body (`application/x-www-form-urlencoded`).
    form: Option<Map<String, Value>>,
    /// A `multipart/form-data` body.
    multipart: Option<Vec<RawPart>>,
    /// A text body; name its type in `headers`.
    body: Option<String>,
    /// Statuses that count as success: numbers, or hundreds such as `2xx`. `[2xx]` when left out.
    accept_status: Option<Vec<RawStatus>>,
    /// Fails the attempt when true, for APIs that answer 200 with an error; sees `response.status`, `.headers`, `.body`.
    fail_if: Option<String>,
    /// Sends the run's idempotency key, so that the far end can tell a repeat.
    idempotency_key: Option<RawIdempotencyKey>,
    /// Longest answer that is read, such as `8MiB`.
    max_response: Option<String>,
    /// Redirects that are followed, 0 to 5.
    max_redirects: Option<u8>,
}

/// Methods that a task may use.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum HttpMethod {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

/// One part of a `multipart` body.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawPart {
    /// The field's name.
    name: String,
    /// The field's content.
    value: Value,
    /// Makes the part a file of this name.
    filename: Option<String>,
}

/// `200`, or `2xx`.
#[derive(Debug, Clone, Copy)]
struct RawStatus(Accept);

/// Which header takes the key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawIdempotencyKey {
    /// Name of the header, such as `Idempotency-Key`.
    header: String,
}

#[derive(Debug)]
struct HttpRequest {
    method: Method,
    target: Target,
    query: Option<Mapping>,
    headers: Vec<(String, HeaderValue)>,
    body: Content,
    accept: Vec<Accept>,
    fail_if: Option<Template>,
    idempotency_header: Option<String>,
    response_bytes_max: usize,
    redirects_max: usize,
}

#[derive(Debug)]
enum Target {
    Path(Mapping),
    Url(Mapping),
}

#[derive(Debug)]
enum HeaderValue {
    Text(Mapping),
    Secret(SecretRef),
}

#[derive(Debug)]
enum Content {
    None,
    Json(Mapping),
    Form(Mapping),
    Text(Mapping),
    Multipart(Vec<MultipartPart>),
}

#[derive(Debug)]
struct MultipartPart {
    name: String,
    value: Mapping,
    filename: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accept {
    Code(u16),
    Hundred(u16),
}

fn parse(with: With, raw: &Value, connected: bool) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let mut problems = Vec::new();
    let mut keep = |result: Result<Mapping, Vec<WithProblem>>| match result {
        Ok(mapping) => Some(mapping),
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    let mapping = |pointer: &str| read_mapping(pointer, raw.pointer(pointer).unwrap_or(&Value::Null));
    let path = with.path.as_ref().and_then(|_| keep(mapping("/path")));
    let url = with.url.as_ref().and_then(|_| keep(mapping("/url")));
    let query = with.query.as_ref().and_then(|_| keep(mapping("/query")));
    let json = with.json.as_ref().and_then(|_| keep(mapping("/json")));
    let form = with.form.as_ref().and_then(|_| keep(mapping("/form")));
    let text = with.body.as_ref().and_then(|_| keep(mapping("/body")));
    let parts = with.multipart.as_ref().map(|parts| {
        let part = |(place, part): (usize, &RawPart)| {
            let value = keep(read_mapping(&format!("/multipart/{place}/value"), &part.value))?;
            Some(MultipartPart { name: part.name.clone(), value, filename: part.filename.clone() })
        };
        parts.iter().enumerate().filter_map(part).collect::<Vec<_>>()
    });
    let mut headers = Vec::new();
    for (name, value) in with.headers.iter().flatten() {
        let pointer = format!("/headers/{}", name.replace('~', "~0").replace('/', "~1"));
        match read_header(&pointer, value) {
            Ok(header) => headers.push((name.clone(), header)),
            Err(found) => problems.extend(found),
        }
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            problems.push(WithProblem::new(&*pointer, format!("`{name}` cannot be the name of a header")));
        }
    }
    let target = match (&with.path, &with.url, connected) {
        (Some(_), None, true) => path.map(Target::Path),
        (None, Some(_), false) => url.map(Target::Url),
        (None, _, true) => {
            problems
                .push(WithProblem::new("", "a task with a connection names a `path`").help("write `path: /orders`"));
            None
        }
        (_, None, false) => {
            let help = "name a `connection` for the path, or give the whole `url`";
            problems.push(WithProblem::new("", "a task without a connection names a `url`").help(help));
            None
        }
        (Some(_), Some(_), _) => {
            problems.push(
                WithProblem::new("/url", "`path` and `url` exclude each other").help("keep `path` with a connection"),
            );
            None
        }
    };
    if [json.is_some(), form.is_some(), text.is_some(), parts.is_some()].iter().filter(|given| **given).count() > 1 {
        let help = "keep one of `json`, `form`, `multipart` and `body`";
        problems.push(WithProblem::new("", "a request has one body, and here are several").help(help));
    }
    let fail_if = with.fail_if.as_deref().and_then(|text| match Template::parse(text) {
        Ok(template) if template.is_expression() => Some(template),
        Ok(_) => {
            let help = "write `${{ response.body.errcode != 0 }}`";
            problems.push(WithProblem::new("/fail_if", "`fail_if` is one whole expression").help(help));
            None
        }
        Err(error) => {
            problems.push(WithProblem::from(error).under("/fail_if"));
            None
        }
    });
    let response_bytes_max = match with.max_response.as_deref().map(byte_size::parse) {
        None => limits::RESPONSE_BYTES_MAX,
        Some(Ok(bytes)) => usize::try_from(bytes).unwrap_or(usize::MAX).min(limits::RESPONSE_BYTES_CEILING),
        Some(Err(error)) => {
            problems.push(WithProblem::new("/max_response", error.problem()).help(error.help()));
            0
        }
    };
    let Some(target) = target.filter(|_| problems.is_empty()) else { return Err(problems) };
    let body = json
        .map(Content::Json)
        .or(form.map(Content::Form))
        .or(text.map(Content::Text))
        .or(parts.map(Content::Multipart))
        .unwrap_or(Content::None);
    Ok(Box::new(HttpRequest {
        method: with.method.into(),
        target,
        query,
        headers,
        body,
        accept: with
            .accept_status
            .map_or_else(|| vec![Accept::Hundred(2)], |list| list.into_iter().map(|RawStatus(a)| a).collect()),
        fail_if,
        idempotency_header: with.idempotency_key.map(|key| key.header),
        response_bytes_max,
        redirects_max: with.max_redirects.map_or(limits::REDIRECTS_MAX, usize::from),
    }))
}

fn read_header(pointer: &str, value: &Value) -> Result<HeaderValue, Vec<WithProblem>> {
    if value.get("secret_ref").is_none() {
        return read_mapping(pointer, value).map(HeaderValue::Text);
    }
    SecretRef::from_yaml(value).map(HeaderValue::Secret).map_err(|why| vec![WithProblem::new(pointer, why)])
}

#[async_trait]
impl Task for HttpRequest {
    fn effect(&self) -> Effect {
        // RFC 9110 section 9.2.2: doing these twice is as doing them once.
        let idempotent = self.method.is_idempotent();
        Effect::Call { repeatable: idempotent || self.idempotency_header.is_some() }
    }

    fn names(&self) -> Vec<Place> {
        let (Target::Path(target) | Target::Url(target)) = &self.target;
        let mut names = names_of(if matches!(self.target, Target::Path(_)) { "/path" } else { "/url" }, target);
        names.extend(self.query.iter().flat_map(|query| names_of("/query", query)));
        for (name, value) in &self.headers {
            if let HeaderValue::Text(value) = value {
                names.extend(names_of(&format!("/headers/{name}"), value));
            }
        }
        match &self.body {
            Content::None => {}
            Content::Json(body) => names.extend(names_of("/json", body)),
            Content::Form(body) => names.extend(names_of("/form", body)),
            Content::Text(body) => names.extend(names_of("/body", body)),
            Content::Multipart(parts) => {
                let of_part = |(place, part): (usize, &MultipartPart)| {
                    names_of(&format!("/multipart/{place}/value"), &part.value)
                };
                names.extend(parts.iter().enumerate().flat_map(of_part));
            }
        }
        let condition = self.fail_if.iter().flat_map(Template::names);
        let condition = condition.filter(|name| name.path.first().is_none_or(|root| root != RESPONSE));
        names.extend(condition.map(|name| Place { pointer: "/fail_if".to_owned(), name }));
        names
    }

    fn secrets(&self) -> Vec<(String, SecretRef)> {
        let secret = |(name, value): &(String, HeaderValue)| match value {
            HeaderValue::Secret(reference) => Some((format!("/headers/{name}"), reference.clone())),
            HeaderValue::Text(_) => None,
        };
        self.headers.iter().filter_map(secret).collect()
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let mut masker = Masker::over(ctx.secrets.known());
        let request = match self.request(ctx, &mut masker).await {
            Ok(request) => request,
            Err(failure) => return Err(masked(failure, &masker)).into(),
        };
        let record = request.record(&masker);
        let method = request.method.clone();
        match ctx.client.send(request).await {
            Ok(response) => {
                let timings = response.timings;
                let result = self.judge(ctx, &method, &response, &masker);
                let response = response.record(&masker, result.is_err());
                let exchange = Exchange { request: record, response: Some(response), timings };
                Attempted { result: result.map(Done::Output), exchange: Some(Box::new(exchange)), checkpoint: None }
            }
            Err(error) => {
                let exchange = Exchange { request: record, response: None, timings: error.timings };
                let failure = at_connection(error.failure(), ctx);
                Attempted {
                    result: Err(masked(failure, &masker)),
                    exchange: Some(Box::new(exchange)),
                    checkpoint: None,
                }
            }
        }
    }
}

/// The name under which `fail_if` sees the answer.
const RESPONSE: &str = "response";
/// The client gives up this much before the engine cuts the attempt off, so that the time split is kept.
const HEADROOM: Duration = Duration::from_millis(20);

impl HttpRequest {
    async fn request(&self, ctx: &TaskContext<'_>, masker: &mut Masker) -> Result<Request, Failure> {
        let query = self.query_pairs(ctx)?;
        let mut request = match (&self.target, ctx.connection) {
            (Target::Path(path), Some(connection)) => {
                let path = printed(&eval(path, ctx)?);
                connection.request(self.method.clone(), &path, &query).map_err(|cause| unsendable(&cause))?
            }
            (Target::Path(url) | Target::Url(url), _) => {
                let text = printed(&eval(url, ctx)?);
                let mut url = outbound::parse_url(&text).map_err(|cause| unsendable(&cause))?;
                if !query.is_empty() {
                    url.query_pairs_mut().extend_pairs(&query);
                }
                Request::new(self.method.clone(), url.as_str()).map_err(|cause| unsendable(&cause))?
            }
        };
        request.timeout = request.timeout.min(ctx.time_limit.saturating_sub(HEADROOM));
        request.response_bytes_max = self.response_bytes_max;
        request.redirects_max = self.redirects_max;
        request.body = self.content(ctx)?;
        self.put_headers(&mut request, ctx, masker).await?;
        if let Some(connection) = ctx.connection {
            connection.prove(&mut request, ctx.secrets, masker).await.map_err(|error| unproved(&error, ctx))?;
        }
        Ok(request)
    }

    fn query_pairs(&self, ctx: &TaskContext<'_>) -> Result<Vec<(String, String)>, Failure> {
        let Some(query) = &self.query else { return Ok(Vec::new()) };
        Ok(pairs(&eval(query, ctx)?))
    }

    fn content(&self, ctx: &TaskContext<'_>) -> Result<Body, Failure> {
        Ok(match &self.body {
            Content::None => Body::default(),
            Content::Json(json) => Body::json(&eval(json, ctx)?),
            Content::Form(form) => {
                let pairs = pairs(&eval(form, ctx)?);
                Body::form(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            }
            Content::Text(text) => Body::text(printed(&eval(text, ctx)?)),
            Content::Multipart(parts) => {
                let mut made = Vec::new();
                for part in parts {
                    let value = printed(&eval(&part.value, ctx)?);
                    made.push(match &part.filename {
                        Some(filename) => Part::file(&part.name, filename, value),
                        None => Part::field(&part.name, value),
                    });
                }
                Body::multipart(&made).map_err(|cause| unsendable(&cause))?
            }
        })
    }

    async fn put_headers(
        &self,
        request: &mut Request,
        ctx: &TaskContext<'_>,
        masker: &mut Masker,
    ) -> Result<(), Failure> {
        for (name, value) in &self.headers {
            match value {
                HeaderValue::Text(text) => {
                    let text = printed(&eval(text, ctx)?);
                    request.header(name, text.as_bytes()).map_err(|cause| unsendable(&cause))?;
                }
                HeaderValue::Secret(reference) => {
                    let value = ctx.secrets.resolve(reference).await.map_err(|error| secret_failure(&error))?;
                    masker.add(&reference.name, &value);
                    request.secret_header(name, value.expose()).map_err(|cause| unsendable(&cause))?;
                }
            }
        }
        if let Some(name) = &self.idempotency_header {
            request.header(name, ctx.idempotency_key.as_bytes()).map_err(|cause| unsendable(&cause))?;
        }
        Ok(())
    }

    /// Whether the answer is what was wanted: its output, or why not.
    fn judge(
        &self,
        ctx: &TaskContext<'_>,
        method: &Method,
        response: &Response,
        masker: &Masker,
    ) -> Result<Value, Failure> {
        let status = response.status.as_u16();
        let content_type = response.header("content-type").unwrap_or_default();
        let mut output = json!({
            "status": status,
            "headers": joined(&response.headers),
            "body": body::read(content_type, &response.body),
        });
        if !masker.is_empty() {
            output = masker.mask_json(output);
        }
        let far = |code, what: String| {
            let fault = if matches!(status, 401 | 403) { Fault::Config } else { Fault::Far };
            let after = response.header("retry-after").and_then(|text| retry_after(text, ctx.clock.now()));
            let failure = Failure::new(code, fault, what).retriable(Class::Status(status), after).sent(Sent::Maybe);
            at_connection(failure.at(response.url.host_str().unwrap_or("-")), ctx)
        };
        let shown = masker.mask(response.url.path()).into_owned();
        if !self.accept.iter().any(|accept| accept.covers(status)) {
            let what = format!("`{method} {shown}` was answered {}{}", response.status, quoted(&output["body"]));
            let failure = far("http.status", what);
            return Err(match status {
                401 | 403 => failure.help("check the credentials of the connection, and what they may do"),
                _ => failure,
            });
        }
        if let Some(condition) = &self.fail_if {
            let values = ctx.values.clone().with(RESPONSE, output.clone());
            if condition.is_true(&values).map_err(|error| expression_failure(&error).sent(Sent::Maybe))? {
                let what = format!(
                    "`{method} {shown}` was answered {} but `fail_if` says it failed{}",
                    response.status,
                    quoted(&output["body"])
                );
                return Err(far("http.fail_if", what));
            }
        }
        Ok(output)
    }
}

fn eval(mapping: &Mapping, ctx: &TaskContext<'_>) -> Result<Value, Failure> {
    mapping.eval(ctx.values).map_err(|error| expression_failure(&error))
}

/// A value as it stands in a URL, a header or a form.
fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The members of an object as pairs: a list repeats the name, null leaves it out.
fn pairs(members: &Value) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (name, value) in members.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Array(items) => pairs.extend(items.iter().map(|item| (name.clone(), printed(item)))),
            value => pairs.push((name.clone(), printed(value))),
        }
    }
    pairs
}

/// Headers as expressions see them: one member a name, repeats as a list (RFC 9110 section 5.3).
fn joined(headers: &[(String, String)]) -> Value {
    let mut members = Map::new();
    for (name, value) in headers {
        match members.get_mut(name) {
            Some(Value::String(list)) => {
                list.push_str(", ");
                list.push_str(value);
            }
            _ => {
                members.insert(name.clone(), Value::String(value.clone()));
            }
        }
    }
    Value::Object(members)
}

impl JsonSchema for RawStatus {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a status such as `200`, or a hundred of them such as `2xx`",
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "string", "pattern": "^[1-5]xx$" },
            ],
            "examples": [200, "2xx"],
        })
    }
}

impl<'de> Deserialize<'de> for RawStatus {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let code = || value.as_u64().and_then(|code| u16::try_from(code).ok()).map(Accept::Code);
        let hundred = || value.as_str()?.strip_suffix("xx")?.parse().ok().map(Accept::Hundred);
        code().or_else(hundred).map(Self).ok_or_else(|| serde::de::Error::custom("a status is `200` or `2xx`"))
    }
}

impl Accept {
    fn covers(self, status: u16) -> bool {
        match self {
            Self::Code(code) => code == status,
            Self::Hundred(hundred) => status / 100 == hundred,
        }
    }
}

impl From<HttpMethod> for Method {
    fn from(method: HttpMethod) -> Self {
        match method {
            HttpMethod::Get => Self::GET,
            HttpMethod::Head => Self::HEAD,
            HttpMethod::Post => Self::POST,
            HttpMethod::Put => Self::PUT,
            HttpMethod::Patch => Self::PATCH,
            HttpMethod::Delete => Self::DELETE,
            HttpMethod::Options => Self::OPTIONS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(with: &Value, connected: bool, expected: &[&str]) {
        let problems = match (KIND.parse)(with, connected) {
            Ok(_) => Vec::new(),
            Err(problems) => problems,
        };
        let told: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn settings_are_checked_together() {
        check(&json!({"path": "/a", "json": {"a": "${{ inputs.a }}"}, "accept_status": [200, "4xx"]}), true, &[]);
        check(&json!({"url": "https://a.example/"}), false, &[]);
        check(&json!({"url": "https://a.example/"}), true, &[": a task with a connection names a `path`"]);
        check(&json!({"path": "/a"}), false, &[": a task without a connection names a `url`"]);
        check(
            &json!({"path": "/a", "json": 1, "form": {}, "fail_if": "yes", "max_response": "8"}),
            true,
            &[": a request has one body, and here are several", "/fail_if: `fail_if` is one whole expression"],
        );
        check(
            &json!({"path": "/${{ ", "headers": {"a b": "x"}}),
            true,
            &["/path: this expression is never closed", "/headers/a b: `a b` cannot be the name of a header"],
        );
    }
}
