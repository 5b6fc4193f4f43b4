//! `blob_put`: a file into a named place, where people and other systems fetch it. It streams however large it is, and
//! is there whole or not at all. It says which task of which run wrote it, so a repeat after a crash knows its own work
//! and leaves everybody else's alone.

mod content;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::content::Content;
use super::blob::{BlobPath, Found, KEY, Label, Outlet, SHA256, Shelf};
use super::table::source::{RawSource, Source};
use super::{
    Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, names_of, printed, read_mapping, read_with,
};
use crate::domain::duration;
use crate::domain::failure::{Failure, Fault};
use crate::expr::{Mapping, Place};
use crate::limits;

pub(super) const KIND: TaskKind = TaskKind {
    name: "blob_put",
    summary: "Writes a file into a place, where others fetch it; the output is `{ written, path, bytes, sha256, link }`.",
    connects: false,
    failures: &["blob", "table", "secret"],
    schema: || schema_for!(With),
    parse: |with, _| parse(&read_with(with)?, with),
};

/// Settings of a `blob_put` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// The place, as `blobs` in clawhook.yaml names it.
    place: String,
    /// The path of the file there, such as `reports/2026/11/sales.csv.gz`.
    path: String,
    /// What goes into it: `from` is the file or the rows of an earlier task, a text, or any value.
    source: RawSource,
    /// How it is written. When left out, a file goes up as it is, a text too, rows as the ending of `path` says, and
    /// everything else as JSON.
    format: Option<Written>,
    /// Begins the file with a byte order mark, so that Excel reads UTF-8; for `format: csv` and `tsv`.
    #[serde(default)]
    bom: bool,
    /// Packs it.
    compress: Option<Compress>,
    /// What the file is for who fetches it; by `format` when left out, and `application/gzip` for what is packed.
    content_type: Option<String>,
    /// What happens when there is such a file already; `fail` when left out. What this very task wrote before a crash is
    /// never in the way.
    #[serde(default)]
    if_exists: IfExists,
    /// What is said of the file beside it: names of letters, digits and underscores, values in ASCII.
    metadata: Option<Map<String, Value>>,
    /// Gives a signed link, by which anybody may read this one file until it ends; the output's `link.url`.
    link: Option<Link>,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Written {
    /// Values between commas, RFC 4180, in UTF-8.
    Csv,
    /// Values between tabs.
    Tsv,
    /// JSON.
    Json,
    /// One value a line.
    Jsonl,
    /// As it is.
    Raw,
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Compress {
    Gzip,
}

/// What happens to a file that is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum IfExists {
    /// The task fails.
    #[default]
    Fail,
    /// It gives way to the new one.
    Overwrite,
    /// It stays, and `written` is false.
    Keep,
}

/// A signed link.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Link {
    /// How long it holds, up to a week; `24h` when left out.
    expires: Option<String>,
}

#[derive(Debug)]
struct BlobPut {
    place: String,
    path: Mapping,
    source: Source,
    format: Option<Written>,
    bom: bool,
    gzip: bool,
    content_type: Option<String>,
    if_exists: IfExists,
    metadata: Vec<(String, Mapping)>,
    link: Option<Duration>,
}

fn parse(with: &With, raw: &Value) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let mut problems = Vec::new();
    let path = read_mapping("/path", &raw["path"]).map_err(|found| problems.extend(found)).ok();
    // What is written out is looked at now; what is computed, when it is.
    if !with.path.contains("${{")
        && let Err(bad) = BlobPath::read(&with.path)
    {
        problems.push(WithProblem::new("/path", bad.to_string()).help(PATH_HELP));
    }
    let source = Source::of("/source", &with.source).map_err(|found| problems.extend(found)).ok();
    if with.bom && !matches!(with.format, Some(Written::Csv | Written::Tsv)) {
        let problem = WithProblem::new("/bom", "a byte order mark goes with `format: csv` or `tsv` only");
        problems.push(problem.help("write the `format`, or remove `bom`"));
    }
    if let Some(content_type) = &with.content_type
        && http::HeaderValue::from_str(content_type).is_err()
    {
        let problem = WithProblem::new("/content_type", "this is no media type");
        problems.push(problem.help("write one such as `text/csv; charset=utf-8`"));
    }
    let mut metadata = Vec::new();
    for (name, value) in with.metadata.iter().flatten() {
        let pointer = format!("/metadata/{}", name.replace('~', "~0").replace('/', "~1"));
        if !is_metadata_name(name) {
            let problem = WithProblem::new(&*pointer, format!("`{name}` cannot be a name in the metadata of a file"));
            problems.push(problem.help("write letters, digits and underscores, no digit first, and not `clawhook_…`"));
        }
        match read_mapping(&pointer, value) {
            Ok(value) => metadata.push((name.clone(), value)),
            Err(found) => problems.extend(found),
        }
    }
    let link = with.link.as_ref().and_then(|link| match link.expires.as_deref().map(duration::parse) {
        None => Some(limits::PLACE_LINK_TIME),
        Some(Ok(time)) if time > limits::PLACE_LINK_TIME_MAX || time.is_zero() => {
            let problem = WithProblem::new("/link/expires", "a link holds up to a week, less an hour");
            problems.push(problem.help("write a time such as `24h`, at most `167h`"));
            None
        }
        Some(Ok(time)) => Some(time),
        Some(Err(error)) => {
            problems.push(WithProblem::new("/link/expires", error.to_string()).help("write a time such as `24h`"));
            None
        }
    });
    let (Some(path), Some(source), true) = (path, source, problems.is_empty()) else { return Err(problems) };
    Ok(Box::new(BlobPut {
        place: with.place.clone(),
        path,
        source,
        format: with.format,
        bom: with.bom,
        gzip: with.compress == Some(Compress::Gzip),
        content_type: with.content_type.clone(),
        if_exists: with.if_exists,
        metadata,
        link,
    }))
}

pub(super) const PATH_HELP: &str = "write a path such as `reports/2026/11/sales.csv`";

/// <https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata>: names
/// of C#, and those of ours are ours.
fn is_metadata_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.to_ascii_lowercase().starts_with("clawhook_")
}

/// The path that a task names.
pub(super) fn path_of(path: &Mapping, ctx: &TaskContext<'_>) -> Result<BlobPath, Failure> {
    let value = ctx.eval(path)?;
    BlobPath::read(&printed(&value))
        .map_err(|bad| Failure::new("blob.path", Fault::Config, bad.to_string()).help(PATH_HELP))
}

#[async_trait]
impl Task for BlobPut {
    fn effect(&self) -> Effect {
        // A file of ours tells who wrote it.
        Effect::Call { repeatable: true }
    }

    fn names(&self) -> Vec<Place> {
        let mut names = names_of("/path", &self.path);
        names.extend(self.source.names());
        for (name, value) in &self.metadata {
            names.extend(names_of(&format!("/metadata/{name}"), value));
        }
        names
    }

    fn blob_place(&self) -> Option<(&str, bool)> {
        Some((&self.place, self.link.is_some()))
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        self.put(ctx).await.map_err(|failure| failure.at(&self.place)).map(Done::Output).into()
    }
}

/// What became of the file.
struct Put {
    written: bool,
    bytes: u64,
    sha256: Option<String>,
    content_type: String,
}

impl Put {
    fn there(found: Found, written: bool) -> Self {
        let Found { bytes, label: Label { content_type, mut metadata }, .. } = found;
        Self { written, bytes, sha256: metadata.remove(SHA256), content_type }
    }
}

impl BlobPut {
    async fn put(&self, ctx: &TaskContext<'_>) -> Result<Value, Failure> {
        let path = path_of(&self.path, ctx)?;
        let files = ctx.blobs.place(&self.place)?;
        let put = match self.found(ctx, files, &path).await? {
            Some(put) => put,
            None => self.write(ctx, files, &path).await?,
        };
        let mut output = json!({
            "written": put.written,
            "place": self.place,
            "path": path.as_str(),
            "bytes": put.bytes,
            "sha256": put.sha256,
            "content_type": put.content_type,
        });
        if let Some(time) = self.link {
            let now = ctx.clock.now();
            let until = now.plus(time);
            let url = files.link(&path, now, until).await.map_err(|error| error.failure())?;
            output["link"] = json!({ "url": url, "expires_at": until.to_string() });
        }
        Ok(output)
    }

    /// What lies there, when it is to stay: because we wrote it before, or because it is somebody else's.
    async fn found(&self, ctx: &TaskContext<'_>, files: &dyn Shelf, path: &BlobPath) -> Result<Option<Put>, Failure> {
        let Some(found) = files.look(path).await.map_err(|error| error.failure())? else { return Ok(None) };
        if found.is_by(ctx.idempotency_key) {
            return Ok(Some(Put::there(found, true)));
        }
        match self.if_exists {
            IfExists::Overwrite => Ok(None),
            IfExists::Keep => Ok(Some(Put::there(found, false))),
            IfExists::Fail => {
                let by = found.label.metadata.get(KEY).map(|by| format!(", by `{by}`")).unwrap_or_default();
                let message = format!("there is a file `{path}` already{by}");
                Err(Failure::new("blob.exists", Fault::Config, message)
                    .help("write another path, or say what happens to it: `if_exists: keep` or `overwrite`"))
            }
        }
    }

    async fn write(&self, ctx: &TaskContext<'_>, files: &dyn Shelf, path: &BlobPath) -> Result<Put, Failure> {
        let content = Content::of(self, self.source.value(ctx.values)?, path)?;
        let content_type = self.content_type.clone().unwrap_or_else(|| content.content_type(self.gzip));
        let mut label = Label { content_type: content_type.clone(), metadata: self.metadata(ctx)? };
        label.metadata.insert(KEY.to_owned(), ctx.idempotency_key.to_owned());
        let upload = files.begin(path, ctx.clock.now()).await.map_err(|error| error.failure())?;
        let outlet = content.write(ctx, Outlet::new(upload), self.bom, self.gzip).await?;
        match outlet.publish(label, self.if_exists == IfExists::Overwrite).await {
            Ok((bytes, sha256, true)) => Ok(Put { written: true, bytes, sha256: Some(sha256), content_type }),
            Ok((.., false)) => {
                let gone = || {
                    let message = format!("a file `{path}` was there, and went");
                    Failure::new("blob.failed", Fault::Here, message)
                        .retriable(crate::domain::failure::Class::Connect, None)
                };
                self.found(ctx, files, path).await?.ok_or_else(gone)
            }
            Err(error) => match files.look(path).await {
                // It was done, and the answer was lost.
                Ok(Some(found)) if found.is_by(ctx.idempotency_key) => Ok(Put::there(found, true)),
                _ => Err(error.failure()),
            },
        }
    }

    fn metadata(&self, ctx: &TaskContext<'_>) -> Result<BTreeMap<String, String>, Failure> {
        let mut metadata = BTreeMap::new();
        for (name, value) in &self.metadata {
            let value = printed(&ctx.eval(value)?);
            let wrong = |why: &str| {
                Failure::new("blob.content", Fault::Config, format!("`metadata.{name}` {why}"))
                    .help("metadata travels in headers: write it in ASCII, such as with `| urlencode`")
            };
            if !value.chars().all(|c| c.is_ascii_graphic() || c == ' ') || value.trim() != value {
                return Err(wrong("has characters that no header takes"));
            }
            metadata.insert(name.clone(), value);
            let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
            if bytes > limits::PLACE_METADATA_BYTES_MAX {
                return Err(wrong("makes the metadata too long"));
            }
        }
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(with: &Value, expected: &[&str]) {
        crate::tasks::check_with(&KIND, with, expected);
    }

    #[test]
    fn settings_are_checked_together() {
        let source = json!({ "from": "${{ tasks.report.file }}" });
        check(&json!({ "place": "r", "path": "a/${{ inputs.day }}.csv", "source": source, "link": {} }), &[]);
        check(
            &json!({ "place": "r", "path": "a.csv", "source": source, "format": "csv", "bom": true, "compress": "gzip",
                "content_type": "text/csv", "metadata": { "shop": "${{ inputs.shop }}" }, "link": { "expires": "167h" } }),
            &[],
        );
        check(
            &json!({ "place": "r", "path": "../a", "source": { "from": "${{ " }, "format": "json", "bom": true,
                "content_type": "a\nb", "metadata": { "a-b": 1, "clawhook_key": "x" }, "link": { "expires": "8d" } }),
            &[
                "/path: `../a` cannot be the path of a file: a part of it begins or ends with a dot",
                "/source/from: this expression is never closed",
                "/bom: a byte order mark goes with `format: csv` or `tsv` only",
                "/content_type: this is no media type",
                "/metadata/a-b: `a-b` cannot be a name in the metadata of a file",
                "/metadata/clawhook_key: `clawhook_key` cannot be a name in the metadata of a file",
                "/link/expires: a link holds up to a week, less an hour",
            ],
        );
    }
}
