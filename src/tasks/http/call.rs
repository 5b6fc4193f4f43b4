//! The making of one call: settings in `with` are read once, and make an [`outbound::Request`] for each attempt.
//!
//! Every kind that calls a far end reads the same keys here, so that a path, a header or a secret means the same in each.

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::printed;
use crate::domain::byte_size;
use crate::domain::failure::Failure;
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::expr::{Mapping, Place};
use crate::limits;
use crate::outbound::{self, Body, Cause, Part, Request};
use crate::tasks::{Effect, TaskContext, WithProblem, names_of, read_mapping, read_with, secret_failure};

/// Settings of one HTTP call.
#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::tasks) struct RawCall {
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

/// Which header takes the key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawIdempotencyKey {
    /// Name of the header, such as `Idempotency-Key`.
    header: String,
}

/// One call, read from its settings.
#[derive(Debug)]
pub(in crate::tasks) struct Call {
    method: Method,
    target: Target,
    query: Option<Mapping>,
    headers: Vec<(String, HeaderValue)>,
    body: Content,
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

impl Call {
    /// Reads the keys of a call from a task's `with`. Keys that are not its own are left to others.
    pub(in crate::tasks) fn read(raw: &Value, connected: bool) -> Result<Self, Vec<WithProblem>> {
        let with: RawCall = read_with(raw)?;
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
                problems.push(
                    WithProblem::new("", "a task with a connection names a `path`").help("write `path: /orders`"),
                );
                None
            }
            (_, None, false) => {
                let help = "name a `connection` for the path, or give the whole `url`";
                problems.push(WithProblem::new("", "a task without a connection names a `url`").help(help));
                None
            }
            (Some(_), Some(_), _) => {
                problems.push(
                    WithProblem::new("/url", "`path` and `url` exclude each other")
                        .help("keep `path` with a connection"),
                );
                None
            }
        };
        if [json.is_some(), form.is_some(), text.is_some(), parts.is_some()].iter().filter(|given| **given).count() > 1
        {
            let help = "keep one of `json`, `form`, `multipart` and `body`";
            problems.push(WithProblem::new("", "a request has one body, and here are several").help(help));
        }
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
        Ok(Self {
            method: with.method.into(),
            target,
            query,
            headers,
            body,
            idempotency_header: with.idempotency_key.map(|key| key.header),
            response_bytes_max,
            redirects_max: with.max_redirects.map_or(limits::REDIRECTS_MAX, usize::from),
        })
    }

    pub(in crate::tasks) fn method(&self) -> &Method {
        &self.method
    }

    /// What the engine must know: whether the far end can tell a repeat.
    pub(in crate::tasks) fn effect(&self) -> Effect {
        // RFC 9110 section 9.2.2: doing these twice is as doing them once.
        Effect::Call { repeatable: self.method.is_idempotent() || self.idempotency_header.is_some() }
    }

    /// What its expressions look up, and where in `with`.
    pub(in crate::tasks) fn names(&self) -> Vec<Place> {
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
        names
    }

    /// The secrets that it names, and where in `with`.
    pub(in crate::tasks) fn secrets(&self) -> Vec<(String, SecretRef)> {
        let secret = |(name, value): &(String, HeaderValue)| match value {
            HeaderValue::Secret(reference) => Some((format!("/headers/{name}"), reference.clone())),
            HeaderValue::Text(_) => None,
        };
        self.headers.iter().filter_map(secret).collect()
    }

    /// The request of this attempt, without the proof of its connection. The masker learns the task's own secrets.
    pub(in crate::tasks) async fn request(
        &self,
        ctx: &TaskContext<'_>,
        masker: &mut Masker,
    ) -> Result<Request, Failure> {
        let query = self.query_pairs(ctx)?;
        let mut request = match (&self.target, ctx.connection) {
            (Target::Path(path), Some(connection)) => {
                let path = printed(&ctx.eval(path)?);
                connection.request(self.method.clone(), &path, &query).map_err(Cause::unsendable)?
            }
            (Target::Path(url) | Target::Url(url), _) => {
                let text = printed(&ctx.eval(url)?);
                let mut url = outbound::parse_url(&text).map_err(Cause::unsendable)?;
                if !query.is_empty() {
                    url.query_pairs_mut().extend_pairs(&query);
                }
                Request::new(self.method.clone(), url.as_str()).map_err(Cause::unsendable)?
            }
        };
        request.response_bytes_max = self.response_bytes_max;
        request.redirects_max = self.redirects_max;
        request.redact = ctx.redact.clone();
        request.body = self.content(ctx)?;
        self.put_headers(&mut request, ctx, masker).await?;
        Ok(request)
    }

    fn query_pairs(&self, ctx: &TaskContext<'_>) -> Result<Vec<(String, String)>, Failure> {
        let Some(query) = &self.query else { return Ok(Vec::new()) };
        Ok(pairs(&ctx.eval(query)?))
    }

    fn content(&self, ctx: &TaskContext<'_>) -> Result<Body, Failure> {
        Ok(match &self.body {
            Content::None => Body::default(),
            Content::Json(json) => Body::json(&ctx.eval(json)?),
            Content::Form(form) => {
                let pairs = pairs(&ctx.eval(form)?);
                Body::form(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            }
            Content::Text(text) => Body::text(printed(&ctx.eval(text)?)),
            Content::Multipart(parts) => {
                let mut made = Vec::new();
                for part in parts {
                    let value = printed(&ctx.eval(&part.value)?);
                    made.push(match &part.filename {
                        Some(filename) => Part::file(&part.name, filename, value),
                        None => Part::field(&part.name, value),
                    });
                }
                Body::multipart(&made).map_err(Cause::unsendable)?
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
                    let text = printed(&ctx.eval(text)?);
                    request.header(name, text.as_bytes()).map_err(Cause::unsendable)?;
                }
                HeaderValue::Secret(reference) => {
                    let value = ctx.secrets.resolve(reference).await.map_err(|error| secret_failure(&error))?;
                    masker.add(&reference.name, &value);
                    request.secret_header(name, value.expose()).map_err(Cause::unsendable)?;
                }
            }
        }
        if let Some(name) = &self.idempotency_header {
            request.header(name, ctx.idempotency_key.as_bytes()).map_err(Cause::unsendable)?;
        }
        Ok(())
    }
}

fn read_header(pointer: &str, value: &Value) -> Result<HeaderValue, Vec<WithProblem>> {
    if value.get("secret_ref").is_none() {
        return read_mapping(pointer, value).map(HeaderValue::Text);
    }
    SecretRef::from_yaml(value).map(HeaderValue::Secret).map_err(|why| vec![WithProblem::new(pointer, why)])
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
