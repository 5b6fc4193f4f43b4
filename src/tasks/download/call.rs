//! The requests of a download: the file itself, and the one that asks for a fresh link.

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::domain::failure::{Failure, Fault};
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::expr::{Mapping, Place};
use crate::outbound::connection::Connection;
use crate::outbound::{Body, Cause, Request};
use crate::tasks::{TaskContext, WithProblem, names_of, printed, read_mapping, secret_failure};

/// Methods of a download.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(in crate::tasks) enum CallMethod {
    #[default]
    Get,
    Post,
}

/// What a request of a download is made of, as it stands in `with` and in `with.refresh`.
#[derive(Debug, Default)]
pub(in crate::tasks) struct RawCall<'r> {
    pub(in crate::tasks) method: CallMethod,
    pub(in crate::tasks) path: Option<&'r str>,
    pub(in crate::tasks) url: Option<&'r str>,
    pub(in crate::tasks) headers: Option<&'r Map<String, Value>>,
    pub(in crate::tasks) json: Option<&'r Value>,
}

#[derive(Debug)]
pub(in crate::tasks) struct Call {
    pub(in crate::tasks) method: CallMethod,
    target: Option<Target>,
    headers: Vec<(String, Header)>,
    json: Option<Mapping>,
    /// Where it stands in `with`.
    at: &'static str,
}

#[derive(Debug)]
enum Target {
    Path(Mapping),
    Url(Mapping),
}

#[derive(Debug)]
enum Header {
    Text(Mapping),
    Secret(SecretRef),
}

impl Call {
    /// Reads a request whose members stand at `at` of `with`; what is wrong goes to `problems`.
    pub(in crate::tasks) fn read(
        raw: &RawCall<'_>,
        with: &Value,
        at: &'static str,
        problems: &mut Vec<WithProblem>,
    ) -> Self {
        let mut keep = |key: &str| {
            let pointer = format!("{at}/{key}");
            let value = with.pointer(&pointer).unwrap_or(&Value::Null);
            read_mapping(&pointer, value).map_err(|found| problems.extend(found)).ok()
        };
        let path = raw.path.and_then(|_| keep("path")).map(Target::Path);
        let url = raw.url.and_then(|_| keep("url")).map(Target::Url);
        let json = raw.json.and_then(|_| keep("json"));
        let mut headers = Vec::new();
        for (name, value) in raw.headers.into_iter().flatten() {
            let pointer = format!("{at}/headers/{}", name.replace('~', "~0").replace('/', "~1"));
            if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
                problems.push(WithProblem::new(&*pointer, format!("`{name}` cannot be the name of a header")));
            }
            let header = if value.get("secret_ref").is_some() {
                SecretRef::from_yaml(value).map(Header::Secret).map_err(|why| vec![WithProblem::new(&*pointer, why)])
            } else {
                read_mapping(&pointer, value).map(Header::Text)
            };
            match header {
                Ok(header) => headers.push((name.clone(), header)),
                Err(found) => problems.extend(found),
            }
        }
        Self { method: raw.method, target: path.or(url), headers, json, at }
    }

    pub(in crate::tasks) fn has_target(&self) -> bool {
        self.target.is_some()
    }

    pub(in crate::tasks) fn names(&self) -> Vec<Place> {
        let mut names = match &self.target {
            Some(Target::Path(path)) => names_of(&format!("{}/path", self.at), path),
            Some(Target::Url(url)) => names_of(&format!("{}/url", self.at), url),
            None => Vec::new(),
        };
        for (name, header) in &self.headers {
            if let Header::Text(text) = header {
                names.extend(names_of(&format!("{}/headers/{name}", self.at), text));
            }
        }
        names.extend(self.json.iter().flat_map(|json| names_of(&format!("{}/json", self.at), json)));
        names
    }

    pub(in crate::tasks) fn secrets(&self) -> Vec<(String, SecretRef)> {
        let secret = |(name, header): &(String, Header)| match header {
            Header::Secret(reference) => Some((format!("{}/headers/{name}", self.at), reference.clone())),
            Header::Text(_) => None,
        };
        self.headers.iter().filter_map(secret).collect()
    }

    /// The request, without the proof of its connection.
    pub(in crate::tasks) async fn request(
        &self,
        ctx: &TaskContext<'_>,
        masker: &mut Masker,
    ) -> Result<Request, Failure> {
        let method = if self.method == CallMethod::Get { Method::GET } else { Method::POST };
        let mut request = match (&self.target, self.connection(ctx)) {
            (Some(Target::Path(path)), Some(connection)) => {
                connection.request(method, &printed(&ctx.eval(path)?), &[]).map_err(Cause::unsendable)?
            }
            (Some(Target::Url(url) | Target::Path(url)), _) => {
                Request::new(method, &printed(&ctx.eval(url)?)).map_err(Cause::unsendable)?
            }
            (None, _) => return Err(Failure::new("http.bad_url", Fault::Config, "there is no URL to call")),
        };
        if let Some(json) = &self.json {
            request.body = Body::json(&ctx.eval(json)?);
        }
        for (name, header) in &self.headers {
            match header {
                Header::Text(text) => {
                    let text = printed(&ctx.eval(text)?);
                    request.header(name, text.as_bytes()).map_err(Cause::unsendable)?;
                }
                Header::Secret(reference) => {
                    let value = ctx.secrets.resolve(reference).await.map_err(|error| secret_failure(&error))?;
                    masker.add(&reference.name, &value);
                    request.secret_header(name, value.expose()).map_err(Cause::unsendable)?;
                }
            }
        }
        Ok(request)
    }

    /// Whose proof goes with it: the connection's, with its own paths only.
    pub(in crate::tasks) fn connection<'c>(&self, ctx: &TaskContext<'c>) -> Option<&'c Connection> {
        ctx.connection.filter(|_| matches!(self.target, Some(Target::Path(_))))
    }
}
