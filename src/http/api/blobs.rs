//! `/v1/blobs/{place}`: a file of a folder, for whoever has a link to it. The link is the proof: it names one file
//! and ends, and nothing else is asked. What comes is never shown as a page of this door.

use actix_web::body::SizedStream;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use utoipa::OpenApi;

use super::artifacts::encoded;
use super::{Part, Resource};
use crate::gateway::Gateway;
use crate::http::problem::{self, Problem};
use crate::http::query::Query;
use crate::tasks::blob;

pub(super) const PART: Part = Part { resources, openapi: Described::openapi };

#[derive(OpenApi)]
#[openapi(paths(read_blob))]
struct Described;

fn resources() -> Vec<Resource> {
    vec![Resource::at("/v1/blobs/{place}").get(read_blob)]
}

/// Reads a file of a folder that `blobs` names, by the link that `blob_put` gave: all of the query is its own. No
/// credentials.
#[utoipa::path(get, path = "/v1/blobs/{place}", tag = "runs", security(()),
    params(("place" = String, Path), ("path" = String, Query), ("until" = i64, Query), ("signature" = String, Query)),
    responses((status = 200, description = "The bytes", content_type = "application/octet-stream")))]
async fn read_blob(gateway: Data<Gateway>, request: HttpRequest, place: Path<String>) -> Result<HttpResponse, Problem> {
    let query = Query::read(request.query_string(), &["path", "until", "signature"])?;
    let path = query.one("path")?.unwrap_or_default();
    let until = query.one("until")?.and_then(|until| until.parse().ok()).unwrap_or_default();
    let signature = query.one("signature")?.unwrap_or_default();
    let found = gateway.blob(&place, path, until, signature).await?;
    let Some((path, found, content)) = found else {
        let problem = Problem::new(problem::LINK, "this link has ended, or is not what was signed");
        return Err(problem.help("run the workflow again: `blob_put` gives a fresh link"));
    };
    let label = found.label.content_type;
    let media_type = if label.is_empty() { "application/octet-stream".to_owned() } else { label };
    let pieces = stream::unfold(Some(content), |content| async {
        let mut content = content?;
        match content.next().await {
            Ok(Some(piece)) => Some((Ok::<_, blob::Error>(piece), Some(content))),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "a file of a place could not be read to its end");
                Some((Err(error), None))
            }
        }
    });
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((CONTENT_TYPE, media_type))
        .insert_header((CONTENT_DISPOSITION, format!("attachment; filename*=UTF-8''{}", encoded(path.name()))))
        .insert_header((CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"));
    Ok(answer.body(SizedStream::new(found.bytes, pieces)))
}
