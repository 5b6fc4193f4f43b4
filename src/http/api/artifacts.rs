//! `/v1/runs/{id}/artifacts`: what is too large for the record of a run.

use actix_web::body::SizedStream;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use utoipa::OpenApi;

use super::input::run_id;
use super::{Part, Resource, shown};
use crate::artifacts::{self, Handle};
use crate::gateway::{Caller, Gateway, view};
use crate::http::problem::Problem;
use crate::http::query::Query;

pub(super) const PART: Part = Part { resources, openapi: Described::openapi };

#[derive(OpenApi)]
#[openapi(paths(list_artifacts, read_artifact))]
struct Described;

fn resources() -> Vec<Resource> {
    vec![
        Resource::at("/v1/runs/{id}/artifacts").get(list_artifacts),
        Resource::at("/v1/runs/{id}/artifacts/{artifact}").get(read_artifact),
    ]
}

/// Lists the artifacts of a run: bodies and tables that are too large for its record. Scope `runs:read`.
#[utoipa::path(get, path = "/v1/runs/{id}/artifacts", tag = "runs", params(("id" = String, Path)),
    responses((status = 200, body = view::Artifacts)))]
async fn list_artifacts(
    gateway: Data<Gateway>,
    caller: Caller,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    Ok(shown(&gateway.artifacts(&caller, run_id(&id)?).await?))
}

/// Reads one artifact. An answer that breaks off before its length is one that is damaged. Scope `runs:read`.
#[utoipa::path(get, path = "/v1/runs/{id}/artifacts/{artifact}", tag = "runs",
    params(("id" = String, Path), ("artifact" = String, Path)),
    responses((status = 200, description = "The bytes", content_type = "application/octet-stream")))]
async fn read_artifact(
    gateway: Data<Gateway>,
    caller: Caller,
    request: HttpRequest,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    Query::read(request.query_string(), &[])?;
    let (handle, reader) = gateway.artifact(&caller, run_id(&path.0)?, &path.1).await?;
    let size = handle.bytes;
    let disposition = format!("attachment; filename*=UTF-8''{}", encoded(&file_name(&handle)));
    let media_type =
        if handle.media_type.is_empty() { "application/octet-stream".to_owned() } else { handle.media_type.clone() };
    let pieces = stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(piece)) => Some((Ok::<_, artifacts::Error>(piece), Some(reader))),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "an artifact could not be read to its end");
                Some((Err(error), None))
            }
        }
    });
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CONTENT_TYPE, media_type)).insert_header((CONTENT_DISPOSITION, disposition));
    Ok(answer.body(SizedStream::new(size, pieces)))
}

/// What the file is to be called: its own name, or the artifact's with an ending.
fn file_name(handle: &Handle) -> String {
    if let Some(name) = &handle.name {
        return name.clone();
    }
    let ending = match handle.media_type.split(';').next().unwrap_or_default() {
        "text/csv" => ".csv",
        "text/tab-separated-values" => ".tsv",
        "application/json" => ".json",
        "application/x-ndjson" => ".jsonl",
        "text/plain" => ".txt",
        _ => "",
    };
    format!("{}{ending}", handle.artifact)
}

/// RFC 8187 section 3.2.1.
pub(super) fn encoded(name: &str) -> String {
    const PLAIN: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(name, PLAIN).to_string()
}
