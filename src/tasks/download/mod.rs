//! Files of far ends, streamed to artifacts: what every kind that downloads is made of. A [`Call`] asks for the file, or
//! [`Links`] say where it is; [`Fetch`] brings it, whole and unpacked, however often the connection breaks.

mod call;
mod fetch;
pub(super) mod inflate;

use std::time::Duration;

use async_trait::async_trait;

pub(super) use self::call::{Call, CallMethod, RawCall};
pub(super) use self::fetch::{Fetch, Fetched, clean, media_type, unpacked};
use self::inflate::Inflate;
pub(super) use self::inflate::Packing;
use super::{Attempted, CHARSET_HELP, WithProblem};
use crate::domain::failure::Failure;
use crate::domain::masking::Masker;
use crate::domain::{byte_size, duration};
use crate::limits;

/// What is wanted of a file.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// The largest, as it comes and as it is kept.
    pub(super) bytes_max: u64,
    pub(super) packing: Packing,
    /// The longest silence of the far end.
    pub(super) idle: Duration,
    /// What it is, whatever the far end says.
    pub(super) media_type: Option<String>,
    /// What it is when neither the far end nor its name says.
    pub(super) vague: Option<&'static str>,
    /// Its charset, whatever the far end says.
    pub(super) charset: Option<String>,
}

impl Wanted {
    /// Reads `max_size`, `idle_timeout`, `media_type` and `charset` of a task; what is wrong goes to `problems`.
    pub(super) fn read(
        max_size: Option<&str>,
        idle_timeout: Option<&str>,
        media_type: Option<&String>,
        charset: Option<&String>,
        problems: &mut Vec<WithProblem>,
    ) -> Self {
        let bytes_max = match max_size.map(byte_size::parse) {
            None => limits::DOWNLOAD_BYTES_MAX,
            Some(Ok(bytes)) => bytes.min(limits::DOWNLOAD_BYTES_CEILING),
            Some(Err(error)) => {
                problems.push(WithProblem::new("/max_size", error.problem()).help(error.help()));
                0
            }
        };
        let idle = match idle_timeout.map(duration::parse) {
            None => limits::DOWNLOAD_IDLE_MAX,
            Some(Ok(idle)) => idle,
            Some(Err(error)) => {
                problems.push(WithProblem::new("/idle_timeout", error.to_string()).help("write a time such as `30s`"));
                Duration::ZERO
            }
        };
        if let Some(charset) = charset
            && encoding_rs::Encoding::for_label(charset.as_bytes()).is_none()
        {
            problems.push(WithProblem::new("/charset", format!("there is no charset `{charset}`")).help(CHARSET_HELP));
        }
        let (media_type, charset) = (media_type.cloned(), charset.cloned());
        Self { bytes_max, packing: Packing::Auto, idle, media_type, vague: None, charset }
    }
}

/// Why there is no file.
#[derive(Debug)]
pub(super) enum Over {
    Failed(Failure),
    /// The attempt ends like this instead: it waits for quota, say.
    Instead(Box<Attempted>),
}

impl From<Failure> for Over {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Says where a file is, as often as its links expire.
#[async_trait]
pub(super) trait Links: Send + Sync {
    /// A link that is good now.
    async fn link(&self, masker: &mut Masker) -> Result<Link, Over>;
}

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) url: String,
    /// How it is packed, when whoever gives the link says so.
    pub(super) packing: Option<Packing>,
}

/// The beginning of a file that came as `bytes`, which may be cut: at most `bytes_max`, and nothing of what cannot be
/// unpacked.
pub(super) fn beginning(packing: Packing, bytes: &[u8], bytes_max: usize) -> Vec<u8> {
    let (mut inflate, mut out) = (Inflate::new(packing, false), Vec::new());
    for piece in bytes.chunks(inflate::PIECE_BYTES) {
        if out.len() >= bytes_max || inflate.push(piece, &mut out).is_err() {
            break;
        }
    }
    // What is short may still be undecided.
    if out.len() < bytes_max {
        drop(inflate.finish(&mut out));
    }
    out.truncate(bytes_max);
    out
}
