//! `http_download`: a file of a far end, streamed to an artifact. Memory stays flat however large it is; what was cut
//! off goes on where it was, or begins anew, and is never taken for whole.

use async_trait::async_trait;
use http::Method;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::download::{Call, CallMethod, Fetch, Fetched, Link, Links, Over, Packing, RawCall, Wanted};
use super::http::{Answer, RESPONSE, joined, send_as};
use super::{
    Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, expression_failure, printed, read_with,
};
use crate::domain::body;
use crate::domain::failure::Sent;
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::expr::{Place, Template};
use crate::limits;
use crate::outbound::Response;

pub(super) const KIND: TaskKind = TaskKind {
    name: "http_download",
    summary: "Streams a file to an artifact; the output is `{ status, headers, file }`.",
    connects: true,
    failures: &["http", "connection", "token", "download", "secret"],
    schema: || schema_for!(With),
    parse: |with, connected| parse(&read_with(with)?, with, connected),
};

/// Settings of an `http_download` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// The method; `GET` when left out. A `POST` is not repeated by itself.
    #[serde(default)]
    method: CallMethod,
    /// The path behind the connection's `base_url`.
    path: Option<String>,
    /// The whole URL. The connection's `auth` and `headers` do not go with it: a presigned link is its own proof.
    url: Option<String>,
    /// Headers; a value is text or `{ secret_ref: NAME }`.
    headers: Option<Map<String, Value>>,
    /// A JSON body.
    json: Option<Value>,
    /// The largest file, as it comes and as it is kept, such as `500MiB`; 2 GiB when left out.
    max_size: Option<String>,
    /// What to unpack; `auto` when left out.
    #[serde(default)]
    decompress: Packing,
    /// The longest silence of the far end, 30 s when left out. The task's `timeout` bounds the whole.
    idle_timeout: Option<String>,
    /// Asks for a fresh link when there is none yet, or the link has expired (403, 410).
    refresh: Option<Refresh>,
    /// What the file is, instead of what the far end says, such as `text/csv`.
    media_type: Option<String>,
    /// The charset of the file, instead of what the far end says, such as `windows-1252`.
    charset: Option<String>,
}

/// A call that answers with a link to the file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Refresh {
    /// The method; `GET` when left out.
    #[serde(default)]
    method: CallMethod,
    /// The path behind the connection's `base_url`.
    path: Option<String>,
    /// The whole URL, for a task without a connection.
    url: Option<String>,
    /// Headers; a value is text or `{ secret_ref: NAME }`.
    headers: Option<Map<String, Value>>,
    /// A JSON body.
    json: Option<Value>,
    /// Where the link stands in the answer, such as `${{ response.body.url }}`.
    link: String,
}

#[derive(Debug)]
struct HttpDownload {
    file: Call,
    refresh: Option<(Call, Template)>,
    wanted: Wanted,
}

fn parse(with: &With, raw: &Value, connected: bool) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let mut problems = Vec::new();
    let file = RawCall {
        method: with.method,
        path: with.path.as_deref(),
        url: with.url.as_deref(),
        headers: with.headers.as_ref(),
        json: with.json.as_ref(),
    };
    if file.path.is_some() && file.url.is_some() {
        problems.push(WithProblem::new("/url", "`path` and `url` exclude each other").help("keep one of them"));
    }
    if file.path.is_none() && file.url.is_none() && with.refresh.is_none() {
        let help = "name a `url`, a `path` behind a connection, or a `refresh` that gives the link";
        problems.push(WithProblem::new("", "there is nothing to download").help(help));
    }
    let mut read = |raw_call: &RawCall<'_>, at: &'static str| {
        if raw_call.path.is_some() && !connected {
            let help = "name a `connection` for the path, or give the whole `url`";
            problems.push(WithProblem::new(format!("{at}/path"), "a `path` wants a connection").help(help));
        }
        Call::read(raw_call, raw, at, &mut problems)
    };
    let call = read(&file, "");
    let refresh = with.refresh.as_ref().map(|refresh| {
        let raw_call = RawCall {
            method: refresh.method,
            path: refresh.path.as_deref(),
            url: refresh.url.as_deref(),
            headers: refresh.headers.as_ref(),
            json: refresh.json.as_ref(),
        };
        (read(&raw_call, "/refresh"), refresh)
    });
    let refresh = refresh.and_then(|(call, refresh)| {
        if !call.has_target() {
            let help = "name a `path` behind the connection, or a `url`";
            problems.push(WithProblem::new("/refresh", "there is nothing to ask for a link").help(help));
        }
        match Template::parse(&refresh.link) {
            Ok(link) => Some((call, link)),
            Err(error) => {
                problems.push(WithProblem::from(error).under("/refresh/link"));
                None
            }
        }
    });
    let (max_size, idle) = (with.max_size.as_deref(), with.idle_timeout.as_deref());
    let wanted = Wanted::read(max_size, idle, with.media_type.as_ref(), with.charset.as_ref(), &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let wanted = Wanted { packing: with.decompress, ..wanted };
    Ok(Box::new(HttpDownload { file: call, refresh, wanted }))
}

/// Asks for a fresh link by `refresh`.
struct Refreshed<'a> {
    call: &'a Call,
    link: &'a Template,
    ctx: &'a TaskContext<'a>,
}

#[async_trait]
impl Links for Refreshed<'_> {
    async fn link(&self, masker: &mut Masker) -> Result<Link, Over> {
        let mut request = self.call.request(self.ctx, masker).await?;
        request.response_bytes_max = limits::DOWNLOAD_LINK_BYTES_MAX;
        let method = if self.call.method == CallMethod::Get { Method::GET } else { Method::POST };
        let mut found = String::new();
        let judge = |response: &Response, masker: &Masker| {
            Answer::default().judge(self.ctx, &method, response, masker)?;
            let content_type = response.header("content-type").unwrap_or_default();
            let seen = json!({
                "status": response.status.as_u16(),
                "headers": joined(&response.headers),
                "body": body::read(content_type, &response.body),
            });
            let values = self.ctx.values.clone().with(RESPONSE, seen);
            let link = self.link.eval(&values).map_err(|error| expression_failure(&error).sent(Sent::Maybe))?;
            found = printed(&link);
            Ok(Done::Output(Value::Null))
        };
        let connection = self.call.connection(self.ctx);
        let attempted = send_as(self.ctx, connection, None, request, masker, judge).await;
        match attempted.result {
            Ok(Done::Output(_)) => Ok(Link { url: found, packing: None }),
            _ => Err(Over::Instead(Box::new(attempted))),
        }
    }
}

#[async_trait]
impl Task for HttpDownload {
    fn effect(&self) -> Effect {
        Effect::Call { repeatable: self.file.method == CallMethod::Get }
    }

    fn names(&self) -> Vec<Place> {
        let mut names = self.file.names();
        if let Some((call, link)) = &self.refresh {
            names.extend(call.names());
            let seen = link.names().into_iter().filter(|name| name.path.first().is_none_or(|root| root != RESPONSE));
            names.extend(seen.map(|name| Place { pointer: "/refresh/link".to_owned(), name }));
        }
        names
    }

    fn secrets(&self) -> Vec<(String, SecretRef)> {
        let refresh = self.refresh.iter().flat_map(|(call, _)| call.secrets());
        self.file.secrets().into_iter().chain(refresh).collect()
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let masker = Masker::over(ctx.client.known(ctx.secrets));
        let links = self.refresh.as_ref().map(|(call, link)| Refreshed { call, link, ctx });
        let links = links.as_ref().map(|links| links as &dyn Links);
        let call = Some(&self.file).filter(|file| file.has_target());
        let mut fetch = Fetch::new(&self.wanted, call, links, ctx, masker);
        let result = fetch.run().await;
        match fetch.end(result) {
            Ok((Fetched { status, headers, file }, exchange)) => {
                let output = json!({ "status": status, "headers": joined(&headers), "file": file.to_value() });
                Attempted { result: Ok(Done::Output(output)), exchange, checkpoint: None }
            }
            Err(attempted) => *attempted,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(with: &Value, connected: bool, expected: &[&str]) {
        let problems = (KIND.parse)(with, connected).err().unwrap_or_default();
        let told: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn settings_are_checked_together() {
        check(&json!({ "url": "https://a.example/f.gz" }), false, &[]);
        check(&json!({ "url": "${{ inputs.link }}" }), true, &[]);
        check(&json!({ "refresh": { "path": "/r/1", "link": "${{ response.body.url }}" } }), true, &[]);
        check(&json!({}), true, &[": there is nothing to download"]);
        check(
            &json!({ "path": "/f", "url": "https://a.example", "max_size": "x", "idle_timeout": "x", "charset": "x",
                "headers": { "a b": "1" }, "refresh": { "link": "${{ " } }),
            false,
            &[
                "/url: `path` and `url` exclude each other",
                "/path: a `path` wants a connection",
                "/headers/a b: `a b` cannot be the name of a header",
                "/refresh: there is nothing to ask for a link",
                "/refresh/link: this expression is never closed",
                "/max_size: `x` is not a size",
                "/idle_timeout: `x` is not a duration: write a number and a unit, as in `90s`, `20m` or `1h30m`",
                "/charset: there is no charset `x`",
            ],
        );
    }
}
