//! What far ends answer in a test, made ready: which calls it is for, the answer as bytes, and how often.

use std::path::Path as FilePath;

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderName, HeaderValue};

use super::call::{Bases, Call, Likeness, Pattern};
use crate::limits;
use crate::spec::raw;

/// A call, and its answer.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) pattern: Pattern,
    pub(super) like: Likeness,
    pub(super) answer: Answer,
    pub(super) times: raw::Times,
    /// Where it stands, for people.
    pub(super) place: String,
}

/// An answer, as it goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

/// Something wrong with an answer: the key that it is about, a sentence, and what to type.
#[derive(Debug)]
pub(super) struct Unfit {
    pub(super) key: &'static str,
    pub(super) message: String,
    pub(super) help: String,
}

impl Exchange {
    /// Whether it is for this call.
    pub(super) fn is_for(&self, call: &Call, bases: &Bases) -> bool {
        self.pattern.means(call, bases) && self.like.misfit(call).is_none()
    }

    /// Why it is not for this call, and how near it comes: the smaller the number, the nearer.
    pub(super) fn misfit(&self, call: &Call, bases: &Bases) -> Option<(u32, String)> {
        self.pattern.misfit(call, bases).or_else(|| self.like.misfit(call).map(|why| (0, why)))
    }
}

impl Answer {
    /// Only a status.
    pub(super) fn of_status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// JSON.
    pub(super) fn json(status: u16, value: &serde_json::Value) -> Self {
        let headers = vec![(http::header::CONTENT_TYPE, HeaderValue::from_static(JSON))];
        Self { status, headers, body: value.to_string().into() }
    }

    /// Makes what is written ready; files stand beside `folder`.
    pub(super) fn read(raw: &raw::FixtureRespond, folder: &FilePath) -> Result<Self, Unfit> {
        let unfit = |key, message: String, help: &str| Unfit { key, message, help: help.to_owned() };
        let given = [raw.json.is_some(), raw.text.is_some(), raw.base64.is_some(), raw.body_file.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            let message = "an answer has one body".to_owned();
            return Err(unfit("status", message, "keep one of `json`, `text`, `base64` and `body_file`"));
        }
        let (body, kind) = match (&raw.json, &raw.text, &raw.base64, &raw.body_file) {
            (Some(json), ..) => (Bytes::from(json.to_string()), Some(JSON)),
            (_, Some(text), ..) => (Bytes::from(text.clone()), Some("text/plain; charset=utf-8")),
            (_, _, Some(text), _) => {
                let bytes = BASE64.decode(text.trim().as_bytes()).map_err(|error| {
                    unfit("base64", format!("this is not base64: {error}"), "write the bytes as base64, or as `text`")
                })?;
                (bytes.into(), None)
            }
            (.., Some(name)) => (body_file(folder, name)?, kind_of(name)),
            _ => (Bytes::new(), None),
        };
        let mut headers = Vec::new();
        for (name, value) in &raw.headers {
            let read = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(&value.0).ok());
            let Some(header) = read else {
                let message = format!("`{name}: {}` is not a header", value.0);
                return Err(unfit("headers", message, "write a name of letters, digits and `-`, and text on one line"));
            };
            // These frame the message, and the body decides them.
            if !matches!(header.0.as_str(), "content-length" | "transfer-encoding" | "connection") {
                headers.push(header);
            }
        }
        if let Some(kind) = kind.filter(|_| !headers.iter().any(|(name, _)| name == http::header::CONTENT_TYPE)) {
            headers.push((http::header::CONTENT_TYPE, HeaderValue::from_static(kind)));
        }
        Ok(Self { status: raw.status.unwrap_or(200), headers, body })
    }
}

const JSON: &str = "application/json";

/// The bytes of a file beside `folder`, which it cannot leave.
fn body_file(folder: &FilePath, name: &str) -> Result<Bytes, Unfit> {
    let bad = |message: String, help: &str| Unfit { key: "body_file", message, help: help.to_owned() };
    if !stays_inside(name) {
        let message = format!("`{name}` leads out of the folder");
        return Err(bad(message, "put the file beside the one that names it, and write its name"));
    }
    let path = folder.join(name);
    let size = std::fs::metadata(&path).map(|data| data.len());
    if size.as_ref().is_ok_and(|size| *size > limits::TRIAL_BODY_BYTES_MAX as u64) {
        let message = format!("`{name}` has more than {} bytes", limits::TRIAL_BODY_BYTES_MAX);
        return Err(bad(message, "a part of it shows the same"));
    }
    let read = std::fs::read(&path).map(Bytes::from);
    read.map_err(|error| bad(format!("`{name}` cannot be read: {error}"), "check the name and who may read it"))
}

/// Whether a path that a file names stays in the folder that it begins from.
pub(super) fn stays_inside(name: &str) -> bool {
    FilePath::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// What a file is, by its name.
fn kind_of(name: &str) -> Option<&'static str> {
    match FilePath::new(name).extension()?.to_str()? {
        "json" => Some(JSON),
        "csv" => Some("text/csv"),
        "tsv" | "txt" => Some("text/plain"),
        "xml" => Some("application/xml"),
        "gz" => Some("application/gzip"),
        _ => None,
    }
}
