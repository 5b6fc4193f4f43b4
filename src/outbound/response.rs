//! The answer of a far end: read with a cap, decompressed with the same cap, kept for people to read.

use std::io::{self, Write};
use std::net::SocketAddr;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, HeaderMap};
use http::{Method, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use url::Url;

use super::error::{Cause, Phase};
use super::redaction::Redaction;
use super::request::{body_copy, latin1};
use crate::domain::attempt::{ExchangeResponse, Timings};
use crate::domain::masking::Masker;

/// The whole answer to a call.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: StatusCode,
    /// Headers as they came, in the order the parser kept; a header that came twice is there twice. They speak of the
    /// body as sent: `content-encoding: gzip` stays although the body is decompressed.
    pub headers: Vec<(String, String)>,
    /// The body, decompressed when it was gzip.
    pub body: Bytes,
    pub version: Version,
    /// The URL that answered, after redirects.
    pub url: Url,
    /// The URLs of the redirects that were followed, in order; the last is `url`.
    pub redirects: Vec<Url>,
    pub timings: Timings,
    /// The address that answered.
    pub remote: Option<SocketAddr>,
}

/// What of an answer tells of tokens and quotas.
#[derive(Debug, Clone, Copy)]
pub struct Glance<'a> {
    pub status: StatusCode,
    pub headers: &'a [(String, String)],
    /// The body, or as much of it as was read.
    pub body: &'a [u8],
    /// Another place answered than the one that was asked.
    pub redirected: bool,
}

impl<'a> Glance<'a> {
    /// The first header of this name, any case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Response {
    /// What of it tells of tokens and quotas.
    pub fn glance(&self) -> Glance<'_> {
        let redirected = !self.redirects.is_empty();
        Glance { status: self.status, headers: &self.headers, body: &self.body, redirected }
    }

    /// The first header of this name, any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The answer without what is redacted, for whoever reads its body from here on.
    #[must_use]
    pub fn redacted(mut self, redact: &Redaction) -> Self {
        let content_type = self.header("content-type").unwrap_or_default();
        self.body = redact.body(content_type, &self.body);
        self
    }

    /// The answer as people see it: secrets masked, the body cut, or left out when `with_body` is false.
    pub fn record(&self, masker: &Masker, with_body: bool) -> ExchangeResponse {
        let shown = |(name, value): &(String, String)| (name.clone(), masker.mask(value).into_owned());
        ExchangeResponse {
            status: self.status.as_u16(),
            headers: self.headers.iter().map(shown).collect(),
            body: (with_body && !self.body.is_empty()).then(|| body_copy(&self.body, masker)),
        }
    }
}

pub(super) fn header_pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), latin1(value.as_bytes()))).collect()
}

/// What bounds the reading of one body.
pub(super) struct Reading<'r> {
    pub(super) host: &'r str,
    pub(super) method: &'r Method,
    pub(super) bytes_max: usize,
}

impl Reading<'_> {
    /// Reads `response` to its end, decompressed. Never holds more than the cap and one frame; an answer that
    /// announces more than the cap is refused before its body is read.
    pub(super) async fn read(&self, response: http::Response<Incoming>) -> Result<Bytes, Cause> {
        let (head, mut body) = response.into_parts();
        let bodiless = *self.method == Method::HEAD || body.is_end_stream();
        if !bodiless && body.size_hint().lower() > self.bytes_max as u64 {
            return Err(self.too_large());
        }
        let mut sink = Sink::new(&head.headers, self.bytes_max);
        let mut sent = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(self.host, Phase::Body, error))?;
            // Trailers are not data.
            let Ok(data) = frame.into_data() else { continue };
            sent += data.len();
            if sent > self.bytes_max {
                return Err(self.too_large());
            }
            sink.write(&data).map_err(|error| self.unreadable(&error))?;
        }
        if bodiless || sent == 0 {
            return Ok(Bytes::new());
        }
        sink.finish().map_err(|error| self.unreadable(&error))
    }

    fn too_large(&self) -> Cause {
        Cause::TooLarge { host: self.host.to_owned(), limit: self.bytes_max }
    }

    fn unreadable(&self, error: &io::Error) -> Cause {
        if error.get_ref().and_then(|inner| inner.downcast_ref::<Full>()).is_some() {
            return self.too_large();
        }
        Cause::Protocol { host: self.host.to_owned(), why: format!("its gzip is damaged: {error}") }
    }
}

/// Tells an answer that is not HTTP from a connection that broke.
pub(super) fn broken(host: &str, phase: Phase, error: impl std::error::Error + Send + Sync + 'static) -> Cause {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = source {
        if let Some(hyper) = inner.downcast_ref::<hyper::Error>()
            && hyper.is_parse()
        {
            return Cause::Protocol { host: host.to_owned(), why: hyper.to_string() };
        }
        source = inner.source();
    }
    Cause::Lost { host: host.to_owned(), phase, source: Box::new(error) }
}

/// Where the body goes: as it is, or through the decompressor. Both ends at the cap.
enum Sink {
    Plain(Capped),
    Gzip(Box<MultiGzDecoder<Capped>>),
}

impl Sink {
    fn new(headers: &HeaderMap, bytes_max: usize) -> Self {
        let capped = Capped { bytes: Vec::new(), bytes_max };
        match headers.get(CONTENT_ENCODING).map(|coding| coding.as_bytes().trim_ascii().to_ascii_lowercase()) {
            Some(coding) if coding == b"gzip" || coding == b"x-gzip" => {
                Self::Gzip(Box::new(MultiGzDecoder::new(capped)))
            }
            _ => Self::Plain(capped),
        }
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(capped) => capped.write_all(data),
            Self::Gzip(decoder) => decoder.write_all(data),
        }
    }

    fn finish(self) -> io::Result<Bytes> {
        let capped = match self {
            Self::Plain(capped) => capped,
            Self::Gzip(decoder) => decoder.finish()?,
        };
        Ok(capped.bytes.into())
    }
}

/// A buffer that refuses to grow past its cap.
struct Capped {
    bytes: Vec<u8>,
    bytes_max: usize,
}

/// The cap of a buffer is reached.
#[derive(Debug, thiserror::Error)]
#[error("the buffer is full")]
struct Full;

impl Write for Capped {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.len() > self.bytes_max - self.bytes.len() {
            return Err(io::Error::other(Full));
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
