//! `http_request`: one call to a far end.

use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use http::Method;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, expression_failure, names_of, read_mapping, read_with,
};
use crate::clock::Timestamp;
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
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the type describes the schema; the values are read by hand")]
enum RawStatus {
    Code(#[schemars(range(min = 100, max = 599))] u16),
    Hundred(#[schemars(regex(pattern = r"^[1-5]xx$"))] String),
}

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
