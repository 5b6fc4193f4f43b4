//! `blob_get`: a file of a named place, streamed to an artifact, as `http_download` does with files of far ends.

use async_trait::async_trait;
use aws_lc_rs::digest::{self, Context};
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Value, json};

use super::blob::{BlobPath, KEY, SHA256};
use super::blob_put::{PATH_HELP, path_of};
use super::download::inflate::{Inflate, PIECE_BYTES, Packing, Unfit};
use super::download::{clean, media_type, unpacked};
use super::{
    Attempted, CHARSET_HELP, Done, Effect, Task, TaskContext, TaskKind, WithProblem, names_of, read_mapping, read_with,
};
use crate::artifacts::{Handle, Label};
use crate::domain::byte_size;
use crate::domain::failure::{Class, Failure, Fault};
use crate::expr::{Mapping, Place};
use crate::limits;

pub(super) const KIND: TaskKind = TaskKind {
    name: "blob_get",
    summary: "Reads a file of a place into an artifact; the output is `{ found, file, content_type, modified_at, metadata }`.",
    connects: false,
    failures: &["blob", "secret"],
    schema: || schema_for!(With),
    parse: |with, _| parse(&read_with(with)?, with),
};

/// Settings of a `blob_get` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// The place, as `blobs` in clawhook.yaml names it.
    place: String,
    /// The path of the file there, such as `incoming/stock.csv`.
    path: String,
    /// The largest file, as it lies there and as it is kept, such as `500MiB`; 2 GiB when left out.
    max_size: Option<String>,
    /// What to unpack; `auto` when left out.
    #[serde(default)]
    decompress: Packing,
    /// What the file is, instead of what the place says, such as `text/csv`.
    media_type: Option<String>,
    /// The charset of the file, instead of what the place says, such as `gb18030`.
    charset: Option<String>,
    /// What happens when there is no such file; `fail` when left out.
    #[serde(default)]
    if_missing: IfMissing,
}

/// What happens when there is no such file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum IfMissing {
    /// The task fails.
    #[default]
    Fail,
    /// `found` is false, and `file` is null.
    None,
}

#[derive(Debug)]
struct BlobGet {
    place: String,
    path: Mapping,
    bytes_max: u64,
    packing: Packing,
    media_type: Option<String>,
    charset: Option<String>,
    if_missing: IfMissing,
}

fn parse(with: &With, raw: &Value) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let mut problems = Vec::new();
    let path = read_mapping("/path", &raw["path"]).map_err(|found| problems.extend(found)).ok();
    if !with.path.contains("${{")
        && let Err(bad) = BlobPath::read(&with.path)
    {
        problems.push(WithProblem::new("/path", bad.to_string()).help(PATH_HELP));
    }
    let bytes_max = match with.max_size.as_deref().map(byte_size::parse) {
        None => limits::DOWNLOAD_BYTES_MAX,
        Some(Ok(bytes)) => bytes.min(limits::DOWNLOAD_BYTES_CEILING),
        Some(Err(error)) => {
            problems.push(WithProblem::new("/max_size", error.problem()).help(error.help()));
            0
        }
    };
    if let Some(charset) = &with.charset
        && encoding_rs::Encoding::for_label(charset.as_bytes()).is_none()
    {
        problems.push(WithProblem::new("/charset", format!("there is no charset `{charset}`")).help(CHARSET_HELP));
    }
    let (Some(path), true) = (path, problems.is_empty()) else { return Err(problems) };
    Ok(Box::new(BlobGet {
        place: with.place.clone(),
        path,
        bytes_max,
        packing: with.decompress,
        media_type: with.media_type.clone(),
        charset: with.charset.clone(),
        if_missing: with.if_missing,
    }))
}

#[async_trait]
impl Task for BlobGet {
    fn effect(&self) -> Effect {
        Effect::Call { repeatable: true }
    }

    fn names(&self) -> Vec<Place> {
        names_of("/path", &self.path)
    }

    fn blob_place(&self) -> Option<(&str, bool)> {
        Some((&self.place, false))
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        self.get(ctx).await.map_err(|failure| failure.at(&self.place)).map(Done::Output).into()
    }
}

impl BlobGet {
    async fn get(&self, ctx: &TaskContext<'_>) -> Result<Value, Failure> {
        let path = path_of(&self.path, ctx)?;
        // A zip of several files, such as a workbook, begins anew and is kept as it is.
        let first = match self.read(ctx, &path, self.packing).await? {
            Some(Err(Unfit::SeveralFiles)) if self.packing == Packing::Auto => {
                self.read(ctx, &path, Packing::None).await?
            }
            other => other,
        };
        match first {
            Some(Ok(output)) => Ok(output),
            Some(Err(Unfit::SeveralFiles)) => Err(damaged(&path, "it is a zip that holds more than one file")),
            Some(Err(Unfit::Damaged(why))) => Err(damaged(&path, &why)),
            None if self.if_missing == IfMissing::None => Ok(json!({ "found": false, "file": null })),
            None => Err(Failure::new("blob.missing", Fault::Config, format!("there is no file `{path}`"))
                .help("look at the path, or write `if_missing: none`")),
        }
    }

    async fn read(
        &self,
        ctx: &TaskContext<'_>,
        path: &BlobPath,
        packing: Packing,
    ) -> Result<Option<Result<Value, Unfit>>, Failure> {
        let files = ctx.blobs.place(&self.place)?;
        let Some((found, mut content)) = files.open(path).await.map_err(|error| error.failure())? else {
            return Ok(None);
        };
        let too_large = || {
            let size = byte_size::format(self.bytes_max);
            Failure::new("download.too_large", Fault::Config, format!("`{path}` is larger than {size}"))
                .help("raise `max_size` of the task, or ask for less")
        };
        if found.bytes > self.bytes_max {
            return Err(too_large());
        }
        let mut writer = ctx.artifacts.writer(ctx.run, self.bytes_max).await.map_err(|error| error.failure())?;
        let mut write = async |bytes: &[u8]| {
            writer.write(bytes).await.map_err(|error| match error {
                crate::artifacts::Error::TooLarge { .. } => too_large(),
                other => other.failure(),
            })
        };
        let mut inflate = Inflate::new(packing, false);
        let (mut out, mut received, mut hash) = (Vec::new(), 0u64, Context::new(&digest::SHA256));
        while let Some(piece) = content.next().await.map_err(|error| error.failure())? {
            received += piece.len() as u64;
            hash.update(&piece);
            for part in piece.chunks(PIECE_BYTES) {
                if let Err(unfit) = inflate.push(part, &mut out) {
                    return Ok(Some(Err(unfit)));
                }
                write(&out).await?;
                out.clear();
            }
        }
        let sha256 = data_encoding::HEXLOWER.encode(hash.finish().as_ref());
        let told = found.label.metadata.get(SHA256);
        if received != found.bytes || told.is_some_and(|told| *told != sha256) {
            let message = format!("`{path}` changed while it was read: {received} bytes came of {}", found.bytes);
            return Err(Failure::new("blob.failed", Fault::Here, message).retriable(Class::Connect, None));
        }
        let packed = inflate.is_compressed();
        let inside = match inflate.finish(&mut out) {
            Ok(inside) => inside,
            Err(unfit) => return Ok(Some(Err(unfit))),
        };
        write(&out).await?;
        let (media_type, charset) = media_type(&found.label.content_type);
        let label = Label {
            media_type: self.media_type.clone().unwrap_or(media_type),
            charset: self.charset.clone().or(charset),
            name: Some(clean(path.name())),
            ..Label::default()
        };
        let label = unpacked(label, self.media_type.is_some(), packed, inside, None);
        let file: Handle = writer.publish(label).await.map_err(|error| error.failure())?;
        let mut metadata = found.label.metadata;
        metadata.retain(|name, _| name != KEY && name != SHA256);
        Ok(Some(Ok(json!({
            "found": true,
            "file": file.to_value(),
            "content_type": found.label.content_type,
            "modified_at": found.modified.map(|at| at.to_string()),
            "metadata": metadata,
        }))))
    }
}

fn damaged(path: &BlobPath, why: &str) -> Failure {
    Failure::new("blob.damaged", Fault::Sender, format!("`{path}` is not what it should be: {why}"))
        .help("put it there again, or keep it as it is with `decompress: none`")
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
        check(&json!({ "place": "r", "path": "a/${{ inputs.day }}.csv", "if_missing": "none" }), &[]);
        check(
            &json!({ "place": "r", "path": "/a", "max_size": "x", "charset": "x" }),
            &[
                "/path: `/a` cannot be the path of a file: it begins with a slash, and paths begin in their place",
                "/max_size: `x` is not a size",
                "/charset: there is no charset `x`",
            ],
        );
    }
}
