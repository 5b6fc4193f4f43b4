//! One try at one task: what was sent, what came back, how long each part took.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::Failure;
use super::step::StepId;
use crate::clock::Timestamp;
use crate::id::{AttemptNumber, RunId};

/// How an attempt ended, and what people need to see of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptEnded {
    pub task: StepId,
    pub attempt: AttemptNumber,
    /// Wall time of the attempt, milliseconds.
    pub duration_ms: u64,
    pub result: AttemptResult,
    /// The call it made, secrets masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Box<Exchange>>,
    /// What the next attempt of the task is given, so that it goes on instead of beginning anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Value>,
    /// Parts of the output that are too large for a log, as JSON pointers: the handle of an artifact stands there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptResult {
    /// It did its work; later tasks read the output as `tasks.<id>`.
    Succeeded { output: Value },
    /// It did not.
    Failed { failure: Box<Failure>, retry_at: Option<Timestamp> },
    /// It did its part, and the task is not over: the next attempt is made at this moment, and no worker is held until
    /// then.
    Paused { until: Timestamp, why: Pause },
}

/// What a task waits for between two attempts that did not fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// A `wait` task: nothing but time.
    Delay,
    /// People decide; the question that they are asked.
    Approval { title: String },
    /// A run that it started has not ended.
    Run { run: RunId },
    /// Nothing was sent: the rate budget of this connection, or of one operation there, is used up.
    Quota { place: String },
    /// Nothing was sent: this connection failed too often, and is left alone for a while.
    Open { place: String },
    /// A page was read, and the next one is to come.
    Page { number: u32 },
    /// The far end is still at work; what it said last.
    Poll { said: String },
    /// The channel takes no message now: its rate is used up, or it cannot be reached.
    Channel { name: String, why: String },
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Approval { title } => write!(f, "people decide: {title}"),
            Self::Run { run } => write!(f, "{run} has not ended"),
            Self::Delay => f.write_str("it waits"),
            Self::Quota { place } => write!(f, "it waits for quota of `{place}`"),
            Self::Channel { name, why } => write!(f, "it waits for channel `{name}`: {why}"),
            Self::Open { place } => write!(f, "`{place}` failed several times in a row and is left alone for a while"),
            Self::Page { number } => write!(f, "page {number} is next"),
            Self::Poll { said } => write!(f, "the far end is still at work ({said})"),
        }
    }
}

/// One outbound call as people see it. Bodies are cut at `limits::EXCHANGE_BODY_BYTES_MAX`; secrets are masked
/// in every derived form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    pub request: ExchangeRequest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<ExchangeResponse>,
    pub timings: Timings,
}

/// The request that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeRequest {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyCopy>,
}

/// The answer that came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Absent when the attempt's output holds the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyCopy>,
}

/// The first part of a body, as text when it is text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyCopy {
    /// Size of the whole body, bytes.
    pub bytes: u64,
    /// The kept part; base64 when `binary`.
    pub text: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub binary: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl BodyCopy {
    /// Keeps at most `bytes_max` bytes of `body`, cut at a character when it is UTF-8.
    pub fn of(body: &[u8], bytes_max: usize) -> Self {
        let bytes = body.len() as u64;
        let kept = &body[..body.len().min(bytes_max)];
        let cut = kept.len() < body.len();
        match std::str::from_utf8(kept) {
            Ok(text) => Self { bytes, text: text.to_owned(), binary: false, cut },
            // The cut may have split the last character.
            Err(error) if cut && kept.len() - error.valid_up_to() < 4 => {
                let text = String::from_utf8_lossy(&kept[..error.valid_up_to()]).into_owned();
                Self { bytes, text, binary: false, cut }
            }
            Err(_) => Self { bytes, text: data_encoding::BASE64.encode(kept), binary: true, cut },
        }
    }
}

/// Where the time of one outbound call went, microseconds. A reused connection has no DNS, connect and TLS time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timings {
    pub dns_us: u64,
    pub connect_us: u64,
    pub tls_us: u64,
    /// From the request written to the first byte of the answer.
    pub first_byte_us: u64,
    pub body_us: u64,
    pub total_us: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_cut_at_characters() {
        let copy = BodyCopy::of("订单 12".as_bytes(), 5);
        assert_eq!((copy.text.as_str(), copy.bytes, copy.cut, copy.binary), ("订", 9, true, false));
        let copy = BodyCopy::of(&[0xff, 0xfe, 0], 10);
        assert_eq!((copy.text.as_str(), copy.binary, copy.cut), ("//4A", true, false));
        let copy = BodyCopy::of(b"{}", 10);
        assert_eq!((copy.text.as_str(), copy.binary, copy.cut), ("{}", false, false));
    }
}
