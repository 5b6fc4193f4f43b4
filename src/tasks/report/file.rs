//! The file of a report: fetched through links that live for minutes, and what the task says of it.

use async_trait::async_trait;
use http::Method;
use serde_json::{Value, json};

use super::cycle::{again, failed, lost};
use super::mark::{At, Step};
use super::{Next, Platform, Report};
use crate::artifacts::{self, Handle, Label};
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::domain::masking::Masker;
use crate::limits;
use crate::outbound::{Opened, Request};
use crate::tasks::download::{Fetch, Fetched, Link, Links, Over, Packing, beginning};
use crate::tasks::{Attempted, Done, TaskContext};

/// Asks the platform for links to the file of one report.
struct Asked<'a, P> {
    report: &'a Report<P>,
    ctx: &'a TaskContext<'a>,
    at: &'a At,
    wish: &'a Value,
}

#[async_trait]
impl<P: Platform> Links for Asked<'_, P> {
    async fn link(&self, masker: &mut Masker) -> Result<Link, Over> {
        let answered = self.report.answered(self.ctx, self.at, self.wish, masker).await;
        match answered.map_err(Over::Instead)? {
            (Next::Link { url, packing }, _) => Ok(Link { url, packing: Some(packing) }),
            (Next::Working { said }, exchange) => {
                let attempted = self.report.not_yet(self.ctx, self.at, said);
                Err(Over::Instead(Box::new(Attempted { exchange, ..attempted })))
            }
            (_, exchange) => {
                let failure = Failure::new("report.answer", Fault::Far, "the answer holds no link to the report")
                    .help("look at the report at the platform; resume the run to look again")
                    .retriable(Class::Status(502), None)
                    .sent(Sent::Maybe);
                Err(Over::Instead(Box::new(Attempted { exchange, ..failed(self.ctx, self.at, failure) })))
            }
        }
    }
}

impl<P: Platform> Report<P> {
    /// Fetches the file. A link that expires meanwhile is asked for again; the report itself is not.
    pub(super) async fn fetch(&self, ctx: &TaskContext<'_>, at: &At, wish: &Value) -> Attempted {
        let masker = Masker::over(ctx.client.known(ctx.secrets));
        let links = Asked { report: self, ctx, at, wish };
        let mut fetch = Fetch::new(&self.wanted, None, Some(&links), ctx, masker);
        let result = match fetch.run().await {
            Ok(Fetched { file, .. }) => is_empty(ctx, &file).await.map(|empty| (file, empty)).map_err(Over::Failed),
            Err(over) => Err(over),
        };
        match fetch.end(result) {
            Ok(((file, no_data), exchange)) => {
                let partial = matches!(at.step, Step::Fetch { partial: true, .. });
                let output = said(at.step.id(), no_data, partial, &file);
                Attempted { result: Ok(Done::Output(output)), exchange, checkpoint: None }
            }
            Err(attempted) => again(ctx, at, *attempted),
        }
    }

    /// There is nothing in the report: an empty file stands for it, so that whoever reads it finds no rows.
    pub(super) async fn nothing(&self, ctx: &TaskContext<'_>, id: &str) -> Attempted {
        let media_type = self.wanted.media_type.clone().unwrap_or_else(|| self.platform.media_type().to_owned());
        let publish = async {
            let writer = ctx.artifacts.writer(ctx.run, self.wanted.bytes_max).await?;
            writer.publish(Label { media_type, ..Label::default() }).await
        };
        let result = match publish.await {
            Ok(file) => Ok(Done::Output(said(id, true, false, &file))),
            Err(error) => return failed(ctx, &At::of(ctx), error.failure()),
        };
        result.into()
    }

    /// The platform gave the report up, and says why in a document.
    pub(super) async fn reason(&self, ctx: &TaskContext<'_>, at: &At, wish: &Value) -> Attempted {
        let mut masker = Masker::over(ctx.client.known(ctx.secrets));
        let (next, exchange) = match self.answered(ctx, at, wish, &mut masker).await {
            Ok(answered) => answered,
            // It waits for quota; but a reason that cannot be had does not hide the failure.
            Err(attempted) if attempted.result.is_ok() => return *attempted,
            Err(attempted) => (Next::NoData, attempted.exchange),
        };
        let words = match next {
            Next::Link { url, packing } => self.words(ctx, &url, packing).await,
            _ => None,
        };
        let words = words.map(|words| masker.mask(&words).into_owned());
        let failure = given_up(at.step.id(), words.as_deref());
        lost(ctx, at, Attempted { exchange, ..Err(failure).into() })
    }

    /// The beginning of the text behind a link.
    async fn words(&self, ctx: &TaskContext<'_>, url: &str, packing: Packing) -> Option<String> {
        let mut request = Request::new(Method::GET, url).ok()?;
        request.timeout = request.timeout.min(ctx.time_limit);
        request.header("accept-encoding", b"identity").ok()?;
        let opened: Opened = ctx.client.open(request, self.wanted.idle).await.ok()?;
        if !opened.status.is_success() {
            return None;
        }
        let content_type = opened.header("content-type").unwrap_or_default().to_owned();
        let label = content_type.split("charset=").nth(1).unwrap_or_default().trim().trim_matches('"');
        let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap_or(encoding_rs::UTF_8);
        let bytes = opened.body.words(limits::REPORT_REASON_BYTES_MAX).await;
        let bytes = beginning(packing, &bytes, limits::REPORT_REASON_BYTES_MAX);
        let text = encoding.decode(&bytes).0.split_whitespace().collect::<Vec<_>>().join(" ");
        let cut: String = text.chars().take(limits::REPORT_REASON_CHARS_MAX).collect();
        let dots = if cut.len() < text.len() { "…" } else { "" };
        (!cut.is_empty()).then(|| format!("{cut}{dots}"))
    }

    /// The link is not there yet.
    fn not_yet(&self, ctx: &TaskContext<'_>, at: &At, said: String) -> Attempted {
        let when = ctx.clock.now().plus(self.pace.interval);
        self.later(ctx, at.clone(), when, said)
    }
}

/// The platform gave a report up, with its reason when there is one. A retry asks for another, as after a 500, three times in a row at most.
pub(in crate::tasks) fn given_up(id: &str, why: Option<&str>) -> Failure {
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    Failure::new("report.failed", Fault::Far, format!("the platform gave report {id} up{why}"))
        .help("look at what was asked for; a `retry` of the task, or a resume of the run, asks for another report")
        .retriable(Class::Status(500), None)
        .sent(Sent::Maybe)
}

/// The output of a report.
fn said(id: &str, no_data: bool, partial: bool, file: &Handle) -> Value {
    let mut output = json!({ "report": id, "no_data": no_data, "file": file.to_value() });
    if partial {
        output["partial"] = json!(true);
    }
    output
}

/// Whether there is nothing in a file but the names of columns, or an empty list. Only a short one is looked into.
async fn is_empty(ctx: &TaskContext<'_>, file: &Handle) -> Result<bool, Failure> {
    if file.bytes > limits::REPORT_HEAD_BYTES_MAX {
        return Ok(false);
    }
    let failure = |error: artifacts::Error| error.failure();
    let mut reader = ctx.artifacts.reader(file).await.map_err(failure)?;
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await.map_err(failure)? {
        bytes.extend_from_slice(&piece);
    }
    Ok(holds_nothing(&bytes))
}

fn holds_nothing(bytes: &[u8]) -> bool {
    // A zero is the other half of a character of UTF-16; marks of byte order are no text.
    let mut text = bytes.iter().filter(|byte| !matches!(byte, 0 | 0xef | 0xbb | 0xbf | 0xfe | 0xff));
    let first = text.clone().find(|byte| !byte.is_ascii_whitespace());
    match first {
        None => true,
        Some(b'[') => text.filter(|byte| !byte.is_ascii_whitespace()).eq(b"[]"),
        Some(b'{' | b'<') => false,
        Some(_) => {
            // One line is the names of the columns.
            let behind = text.by_ref().skip_while(|byte| byte.is_ascii_whitespace()).skip_while(|byte| **byte != b'\n');
            behind.into_iter().all(u8::is_ascii_whitespace)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_rows_is_no_data() {
        for (bytes, nothing) in [
            (&b""[..], true),
            (b"\r\n", true),
            (b"order-id\tsku\r\n", true),
            (b"order-id\tsku", true),
            (b"\xef\xbb\xbforder-id\tsku\r\n\r\n", true),
            (b"\xff\xfea\0\t\0b\0\r\0\n\0", true),
            (b"order-id\tsku\r\n1\tA\r\n", false),
            (b"[]", true),
            (b" [\n] ", true),
            (b"[{}]", false),
            (b"{\"id\":1}", false),
            (b"<Report/>", false),
        ] {
            assert_eq!(holds_nothing(bytes), nothing, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
