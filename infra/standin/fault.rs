//! How the stand-in fails when it is told to: by status, late, cut off before or after the work was done, or half way
//! through the answer.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::body::BodyStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use actix_web::{Error, HttpResponse, HttpResponseBuilder};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A failure to come, as `POST /_faults` takes it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// The exact path that fails.
    pub(crate) path: String,
    /// The method that fails; any when left out.
    #[serde(default)]
    pub(crate) method: Option<String>,
    /// How many requests meet it; once when left out or 0.
    #[serde(default)]
    pub(crate) times: u32,
    /// Answered instead of doing the work.
    #[serde(default)]
    pub(crate) status: Option<u16>,
    /// Added to the answer, over what it had.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// The body of the answer: text as it is, anything else as JSON.
    #[serde(default)]
    pub(crate) body: Option<Value>,
    /// Waited before anything else happens.
    #[serde(default)]
    pub(crate) delay_ms: u64,
    /// Where the connection is closed.
    #[serde(default)]
    pub(crate) close: Option<Close>,
    /// Waited between two pieces of the answer's body, which then comes in eight pieces.
    #[serde(default)]
    pub(crate) trickle_ms: u64,
}

/// Where a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Close {
    /// Before the work: nothing was done and nothing is answered.
    Before,
    /// After the work: it was done, and the answer is lost.
    After,
    /// After half of the answer's body.
    Half,
}

/// An answer that can still be spoiled.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Pieces of a body that trickles.
const PIECES: usize = 8;

impl Fault {
    /// Whether this request meets it.
    pub(crate) fn meets(&self, method: &str, path: &str) -> bool {
        self.path == path && self.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
    }

    /// Whether it answers in place of the business.
    pub(crate) fn answers(&self) -> bool {
        self.status.is_some() || self.body.is_some()
    }

    /// Its own answer.
    pub(crate) fn answer(&self) -> HttpResponse {
        let (kind, body) = match &self.body {
            Some(Value::String(text)) => ("text/plain; charset=utf-8", text.clone()),
            Some(value) => ("application/json", value.to_string()),
            None => ("application/json", r#"{"error":"a fault that was asked for"}"#.to_owned()),
        };
        let headers = vec![("content-type".to_owned(), kind.to_owned())];
        self.spoil(Response { status: self.status.unwrap_or(200), headers, body: body.into_bytes() })
    }

    /// An answer with this fault's headers, speed and end.
    pub(crate) fn spoil(&self, mut response: Response) -> HttpResponse {
        for (name, value) in &self.headers {
            response.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
            response.headers.push((name.clone(), value.clone()));
        }
        match self.close {
            Some(Close::Before | Close::After) => cut_off(),
            Some(Close::Half) => response.build_half(),
            None if self.trickle_ms > 0 => response.build_slow(Duration::from_millis(self.trickle_ms)),
            None => response.build(),
        }
    }
}

impl Response {
    /// The whole answer at once.
    pub(crate) fn build(self) -> HttpResponse {
        self.head().body(self.body)
    }

    /// The head, half of the body, and a closed connection.
    fn build_half(self) -> HttpResponse {
        let mut head = self.head();
        head.insert_header((CONTENT_LENGTH, self.body.len()));
        let half = actix_web::web::Bytes::copy_from_slice(&self.body[..self.body.len() / 2]);
        let broken = stream::once(async {
            // What is written must reach the wire before the connection goes.
            actix_web::rt::time::sleep(Duration::from_millis(20)).await;
            Err(broken())
        });
        let pieces = stream::once(async { Ok(half) }).chain(broken);
        head.no_chunking(u64::try_from(self.body.len()).unwrap_or(0)).streaming(pieces)
    }

    /// The answer in pieces.
    fn build_slow(self, pause: Duration) -> HttpResponse {
        let size = self.body.len().div_ceil(PIECES).max(1);
        let pieces: Vec<_> = self.body.chunks(size).map(actix_web::web::Bytes::copy_from_slice).collect();
        let pieces = stream::unfold(pieces.into_iter(), move |mut pieces| async move {
            let piece = pieces.next()?;
            actix_web::rt::time::sleep(pause).await;
            Some((Ok::<_, Error>(piece), pieces))
        });
        self.head().streaming(pieces)
    }

    fn head(&self) -> HttpResponseBuilder {
        let mut head = HttpResponse::build(StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK));
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                head.append_header((name, value));
            }
        }
        head
    }
}

/// A closed connection in place of an answer: the body fails before the head was flushed, so actix writes neither.
pub(crate) fn cut_off() -> HttpResponse {
    let nothing = stream::once(async { Err::<actix_web::web::Bytes, _>(broken()) });
    HttpResponse::Ok()
        .message_body(BodyStream::new(nothing))
        .map_or_else(|_| HttpResponse::InternalServerError().finish(), HttpResponse::map_into_boxed_body)
}

fn broken() -> Error {
    std::io::Error::other("closed on purpose").into()
}
