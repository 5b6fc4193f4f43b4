//! The fetching of one file in one attempt.

use std::time::Duration;

use http::Method;
use http::header::ACCEPT_ENCODING;

use super::call::Call;
use super::inflate::{Inflate, PIECE_BYTES, Packing, Unfit};
use super::{Links, Over, Wanted};
use crate::artifacts::{Handle, Label, Writer};
use crate::clock::Timestamp;
use crate::domain::attempt::{Exchange, ExchangeRequest, ExchangeResponse, Pause, Timings};
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::domain::masking::Masker;
use crate::limits;
use crate::outbound::call::{Called, Outcome};
use crate::outbound::connection::Connection;
use crate::outbound::{self, Opened, Pieces, Request};
use crate::tasks::http::{caller, unproved};
use crate::tasks::{Attempted, Done, TaskContext};

/// A download under way. Without a `call` the file is where `links` says.
pub(in crate::tasks) struct Fetch<'a> {
    wanted: &'a Wanted,
    call: Option<&'a Call>,
    links: Option<&'a dyn Links>,
    ctx: &'a TaskContext<'a>,
    masker: Masker,
    /// The link that was given last.
    link: Option<String>,
    refreshed: u32,
    /// Times that the body broke off.
    cuts: u32,
    packing: Packing,
    record: Option<ExchangeRequest>,
    answer: Option<ExchangeResponse>,
    timings: Timings,
}

/// A file under way.
struct Transfer {
    body: Pieces,
    /// Bytes as the far end sent them, so far.
    received: u64,
    /// Bytes of the whole file as the far end sends them, once it said.
    total: Option<u64>,
    version: Version,
    inflate: Inflate,
    writer: Writer,
}

/// What tells whether a file is still the same one.
struct Version {
    tag: Option<String>,
    modified: Option<String>,
    /// The far end gives no ranges of it.
    whole_only: bool,
}

/// What a broken body comes to.
enum Next {
    /// The rest of the same file, or a part of it, and how long the whole is.
    Rest(Pieces, u64),
    /// It begins anew.
    Anew,
}

/// A file that came.
#[derive(Debug)]
pub(in crate::tasks) struct Fetched {
    pub(in crate::tasks) status: u16,
    /// As they came, secrets masked.
    pub(in crate::tasks) headers: Vec<(String, String)>,
    pub(in crate::tasks) file: Handle,
}

impl<'a> Fetch<'a> {
    pub(in crate::tasks) fn new(
        wanted: &'a Wanted,
        call: Option<&'a Call>,
        links: Option<&'a dyn Links>,
        ctx: &'a TaskContext<'a>,
        masker: Masker,
    ) -> Self {
        let packing = wanted.packing;
        let (record, answer, timings) = (None, None, Timings::default());
        Self { wanted, call, links, ctx, masker, link: None, refreshed: 0, cuts: 0, packing, record, answer, timings }
    }

    /// How the attempt ended that wanted the file, secrets out of what is told.
    pub(in crate::tasks) fn end<T>(
        self,
        result: Result<T, Over>,
    ) -> Result<(T, Option<Box<Exchange>>), Box<Attempted>> {
        let exchange = self.record.map(|request| Exchange { request, response: self.answer, timings: self.timings });
        let exchange = exchange.map(Box::new);
        match result {
            Ok(value) => Ok((value, exchange)),
            Err(Over::Instead(attempted)) => Err(attempted),
            Err(Over::Failed(mut failure)) => {
                failure.message = self.masker.mask(&failure.message).into_owned();
                let failure = match self.ctx.connection {
                    Some(connection) if failure.place.is_none() => failure.at(connection.name.as_str()),
                    _ => failure,
                };
                Err(Box::new(Attempted { result: Err(failure), exchange, checkpoint: None }))
            }
        }
    }

    /// Fetches it.
    pub(in crate::tasks) async fn run(&mut self) -> Result<Fetched, Over> {
        if self.call.is_none() {
            self.refresh().await?;
        }
        loop {
            let opened = self.open(None).await?;
            if opened.status.as_u16() != 200 {
                return Err(self.unwanted(opened).await.into());
            }
            let (status, mut headers) = (opened.status.as_u16(), opened.headers.clone());
            let url_path = opened.url.path().to_owned();
            if let Some(mut handle) = self.transfer(opened, &url_path).await? {
                // What the far end said may hold a secret; the id is ours, and must stay as it is.
                for (_, value) in &mut headers {
                    *value = self.masker.mask(value).into_owned();
                }
                handle.name = handle.name.map(|name| self.masker.mask(&name).into_owned());
                return Ok(Fetched { status, headers, file: handle });
            }
        }
    }

    /// Asks for the file, or for its rest; a link that has expired is replaced by a fresh one.
    async fn open(&mut self, rest: Option<(u64, &str)>) -> Result<Opened, Over> {
        loop {
            let (mut request, connection) = self.request().await?;
            let bad = |cause: outbound::Cause| Failure::new("http.bad_header", Fault::Config, cause.sentence());
            if let Some((from, version)) = rest {
                request.header("range", format!("bytes={from}-").as_bytes()).map_err(bad)?;
                request.header("if-range", version.as_bytes()).map_err(bad)?;
            }
            // The bytes as they are: what is unpacked is for us to say, and a range counts the packed ones.
            let asks = |connection: &Connection| connection.headers.iter().any(|(name, _)| name == ACCEPT_ENCODING);
            if !request.has(&ACCEPT_ENCODING) && !connection.is_some_and(asks) {
                request.header("accept-encoding", b"identity").map_err(bad)?;
            }
            let opened = self.send(request, connection).await?;
            let expired = matches!(opened.status.as_u16(), 403 | 410);
            if !expired || self.links.is_none() || self.refreshed == limits::DOWNLOAD_REFRESHES_MAX {
                return Ok(opened);
            }
            self.refresh().await?;
        }
    }

    /// Makes the call with all that its connection wants, when it has one.
    async fn send(&mut self, request: Request, connection: Option<&Connection>) -> Result<Opened, Over> {
        let is_link = self.link.as_deref() == Some(request.url.as_str());
        let caller = caller(self.ctx, connection, None);
        let Called { outcome, request: sent } =
            self.ctx.client.call_open(&caller, request, self.wanted.idle, &mut self.masker).await;
        self.answer = None;
        self.record = sent.map(|mut record| {
            if is_link {
                // What stands behind the question mark of such a link opens the file to anybody.
                record.url.truncate(record.url.find('?').unwrap_or(record.url.len()));
            }
            record
        });
        match outcome {
            Outcome::Answered(opened) => {
                self.heard(&opened);
                Ok(opened)
            }
            Outcome::Throttled { response: opened, at, place } => {
                self.heard(&opened);
                Err(self.later(at, Pause::Quota { place }))
            }
            Outcome::Later { at, why } => Err(self.later(at, why)),
            Outcome::Unproved(error) => Err(unproved(&error, self.ctx).into()),
            Outcome::Broken(error) => {
                self.timings = error.timings;
                Err(error.failure().into())
            }
        }
    }

    fn heard(&mut self, opened: &Opened) {
        self.timings = opened.timings;
        self.answer = Some(opened.record(&self.masker));
    }

    /// It is not the turn of this call before that moment.
    fn later(&mut self, at: Timestamp, why: Pause) -> Over {
        let exchange = self
            .record
            .take()
            .map(|request| Box::new(Exchange { request, response: self.answer.take(), timings: self.timings }));
        let checkpoint = self.ctx.checkpoint.cloned();
        Over::Instead(Box::new(Attempted { result: Ok(Done::Later { at, why }), exchange, checkpoint }))
    }

    /// Asks for a link.
    async fn refresh(&mut self) -> Result<(), Over> {
        let Some(links) = self.links else { return Ok(()) };
        self.refreshed += 1;
        let link = links.link(&mut self.masker).await?;
        self.link = Some(outbound::parse_url(&link.url).map_err(|cause| bad_link(&cause))?.into());
        self.packing = link.packing.unwrap_or(self.packing);
        Ok(())
    }

    /// The request for the file. A link is somebody else's, and its own proof: nothing of the connection goes with it.
    async fn request(&mut self) -> Result<(Request, Option<&'a Connection>), Failure> {
        match (&self.link, self.call) {
            (Some(link), _) => Ok((Request::new(Method::GET, link).map_err(|cause| bad_link(&cause))?, None)),
            (None, Some(call)) => Ok((call.request(self.ctx, &mut self.masker).await?, call.connection(self.ctx))),
            // Links give the first one too.
            (None, None) => Err(Failure::new("http.bad_url", Fault::Config, "there is no URL to call")),
        }
    }

    /// Reads a body to its end; `None` when the file changed meanwhile and has to be begun anew.
    async fn transfer(&mut self, opened: Opened, url_path: &str) -> Result<Option<Handle>, Over> {
        let encoded =
            opened.header("content-encoding").is_some_and(|coding| coding.to_ascii_lowercase().contains("gzip"));
        let label = self.label(&opened, url_path);
        if opened.body.announced().is_some_and(|bytes| bytes > self.wanted.bytes_max) {
            return Err(self.too_large().into());
        }
        let writer = self.ctx.artifacts.writer(self.ctx.run, self.wanted.bytes_max).await;
        let mut transfer = Transfer {
            received: 0,
            total: opened.body.announced(),
            version: Version::of(&opened),
            inflate: Inflate::new(self.packing, encoded),
            writer: writer.map_err(|error| error.failure())?,
            body: opened.body,
        };
        loop {
            let (why, help) = match transfer.body.next().await {
                Ok(Some(piece)) => match self.take(&mut transfer, &piece).await? {
                    Ok(()) => continue,
                    Err(unfit) => return Ok(self.unfit(&unfit)?),
                },
                Ok(None) if transfer.total.is_none_or(|total| total == transfer.received) => break,
                // A 206 may carry less than was asked for (RFC 9110 section 15.3.7): its end is not that of the file.
                Ok(None) => {
                    let why = format!("{} bytes came of {}", transfer.received, transfer.total.unwrap_or_default());
                    (why, "run it again; when it stays so, ask the far end".to_owned())
                }
                Err(cause) => (cause.sentence(), cause.help()),
            };
            self.cuts += 1;
            if self.cuts > limits::DOWNLOAD_CUTS_MAX {
                let message = format!("the download broke off {} times: {why}", self.cuts);
                let failure = Failure::new("download.cut", Fault::Far, message).help(help);
                return Err(failure.retriable(Class::Connect, None).sent(Sent::Maybe).into());
            }
            tracing::debug!(received = transfer.received, why = why.as_str(), "a download broke off");
            tokio::time::sleep(limits::DOWNLOAD_CUT_PAUSE * self.cuts).await;
            match self.go_on(transfer.received, transfer.total, &transfer.version).await? {
                Next::Rest(body, total) => (transfer.body, transfer.total) = (body, Some(total)),
                Next::Anew => return Ok(None),
            }
        }
        let Transfer { inflate, mut writer, .. } = transfer;
        let (mut out, packed) = (Vec::new(), inflate.is_compressed());
        let inside = match inflate.finish(&mut out) {
            Ok(inside) => inside,
            Err(unfit) => return Ok(self.unfit(&unfit)?),
        };
        writer.write(&out).await.map_err(|error| error.failure())?;
        let named = self.wanted.media_type.is_some();
        let label = unpacked(label, named, packed, inside, self.wanted.vague);
        let handle = writer.publish(label).await.map_err(|error| error.failure())?;
        Ok(Some(handle))
    }

    /// What cannot be unpacked fails; but a zip of several files that nobody asked to unpack, such as a workbook, begins
    /// anew and is kept as it is.
    fn unfit<T>(&mut self, unfit: &Unfit) -> Result<Option<T>, Failure> {
        match unfit {
            Unfit::SeveralFiles if self.packing == Packing::Auto && !self.is_unsafe() => {
                self.packing = Packing::None;
                Ok(None)
            }
            Unfit::SeveralFiles => {
                let message = "the file came, but it is a zip that holds more than one file";
                Err(Failure::new("download.damaged", Fault::Config, message)
                    .help("keep it as it is with `decompress: none`")
                    .sent(Sent::Maybe))
            }
            Unfit::Damaged(why) => Err(Failure::new(
                "download.damaged",
                Fault::Far,
                format!("the file came, but {why}"),
            )
            .help("run it again; when it stays so, ask the far end, or keep the file as it is with `decompress: none`")
            .retriable(Class::Connect, None)
            .sent(Sent::Maybe)),
        }
    }

    async fn take(&self, transfer: &mut Transfer, piece: &[u8]) -> Result<Result<(), Unfit>, Failure> {
        transfer.received += piece.len() as u64;
        if transfer.received > self.wanted.bytes_max {
            return Err(self.too_large());
        }
        let mut out = Vec::new();
        for part in piece.chunks(PIECE_BYTES) {
            if let Err(unfit) = transfer.inflate.push(part, &mut out) {
                return Ok(Err(unfit));
            }
            transfer.writer.write(&out).await.map_err(|error| match error {
                crate::artifacts::Error::TooLarge { .. } => self.too_large(),
                other => other.failure(),
            })?;
            out.clear();
        }
        Ok(Ok(()))
    }

    /// After a cut: the rest of the same file when the far end can give it (RFC 9110 section 13.1.5), otherwise all.
    async fn go_on(&mut self, received: u64, total: Option<u64>, version: &Version) -> Result<Next, Over> {
        // A request that is not safe is not made twice by us.
        if self.is_unsafe() {
            let message = "the download broke off, and the call is not repeated by itself because it is a POST";
            return Err(Failure::new("download.cut", Fault::Far, message).sent(Sent::Maybe).into());
        }
        let Some(condition) = version.condition().filter(|_| received > 0) else { return Ok(Next::Anew) };
        let opened = match self.open_in_turn(received, condition).await {
            Ok(opened) => opened,
            // Not reachable this moment: the count of cuts bounds how often this is tried.
            Err(Over::Failed(failure)) if failure.class == Class::Connect && self.cuts < limits::DOWNLOAD_CUTS_MAX => {
                return Ok(Next::Anew);
            }
            Err(over) => return Err(over),
        };
        // Some far ends pay no heed to `If-Range`: only what is surely of the same file is put behind what came.
        let same = opened.status.as_u16() == 206 && version.allows(&Version::of(&opened));
        let range = opened.header("content-range").filter(|_| same).and_then(content_range);
        let whole = range.filter(|(first, _)| *first == received).and_then(|(_, given)| match (total, given) {
            (Some(total), Some(given)) => (total == given).then_some(total),
            // Without either nothing would tell where the file ends.
            (total, given) => total.or(given),
        });
        Ok(whole.map_or(Next::Anew, |total| Next::Rest(opened.body, total)))
    }

    /// Asks for the rest. A turn that is not far is waited for in place: what came so far would be lost.
    async fn open_in_turn(&mut self, received: u64, condition: &str) -> Result<Opened, Over> {
        let patient_until = self.ctx.clock.now().plus(limits::DOWNLOAD_TURN_MAX);
        loop {
            let over = match self.open(Some((received, condition))).await {
                Err(over) => over,
                opened => return opened,
            };
            let turn = match &over {
                Over::Instead(attempted) => attempted.result.as_ref().ok(),
                Over::Failed(_) => None,
            };
            let Some(Done::Later { at, .. }) = turn else { return Err(over) };
            if *at > patient_until {
                return Err(over);
            }
            tokio::time::sleep(at.since(self.ctx.clock.now())).await;
        }
    }

    async fn unwanted(&self, opened: Opened) -> Failure {
        let status = opened.status.as_u16();
        let host = opened.url.host_str().unwrap_or("-").to_owned();
        let what = format!("the call to `{host}{}` was answered {}", opened.url.path(), opened.status);
        let after = opened.header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let words = opened.body.words(limits::DOWNLOAD_WORDS_BYTES_MAX).await;
        let words = String::from_utf8_lossy(&words).split_whitespace().collect::<Vec<_>>().join(" ");
        let fault = if matches!(status, 401 | 403) { Fault::Config } else { Fault::Far };
        let message = if words.is_empty() { what } else { format!("{what}: {words}") };
        let failure = Failure::new("http.status", fault, message).at(host);
        let failure = failure.retriable(Class::Status(status), after).sent(Sent::Maybe);
        match status {
            403 | 410 if self.links.is_none() => {
                failure.help("a link that lives for minutes only wants `refresh`, which asks for a fresh one")
            }
            _ => failure,
        }
    }

    fn is_unsafe(&self) -> bool {
        self.call.is_some_and(|call| call.method == super::CallMethod::Post)
    }

    fn too_large(&self) -> Failure {
        let size = crate::domain::byte_size::format(self.wanted.bytes_max);
        Failure::new("download.too_large", Fault::Config, format!("the file is larger than {size}"))
            .help("raise `max_size` of the task, or ask for less")
            .sent(Sent::Maybe)
    }

    fn label(&self, opened: &Opened, url_path: &str) -> Label {
        let content_type = opened.header("content-type").unwrap_or_default();
        let (media_type, charset) = media_type(content_type);
        let name = opened.header("content-disposition").and_then(file_name).or_else(|| {
            let last = url_path.rsplit('/').next().filter(|last| last.contains('.'))?;
            Some(percent_encoding::percent_decode_str(last).decode_utf8_lossy().into_owned())
        });
        let name = name.map(|name| clean(&name)).filter(|name| !name.is_empty());
        Label {
            media_type: self.wanted.media_type.clone().unwrap_or(media_type),
            charset: self.wanted.charset.clone().or(charset),
            name,
            ..Label::default()
        }
    }
}

/// What is said of a file after it was unpacked. A media type that says nothing gives way to the ending of its name,
/// unless the task `named` it, and to `vague` where that says nothing either.
pub(in crate::tasks) fn unpacked(
    mut label: Label,
    named: bool,
    packed: bool,
    inside: Option<String>,
    vague: Option<&'static str>,
) -> Label {
    if packed {
        let outside = label.name.take();
        let inside = inside.map(|name| clean(name.rsplit(['/', '\\']).next().unwrap_or_default()));
        label.name = inside.or_else(|| outside.map(|name| name.strip_suffix(".gz").unwrap_or(&name).to_owned()));
    }
    if !named && VAGUE.contains(&label.media_type.as_str()) {
        let ending = label.name.as_deref().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending);
        let media_type = match ending.map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => "text/csv",
            Some("tsv") => "text/tab-separated-values",
            Some("json") => "application/json",
            Some("jsonl" | "ndjson") => "application/x-ndjson",
            _ => vague.unwrap_or("application/octet-stream"),
        };
        media_type.clone_into(&mut label.media_type);
    }
    label
}

fn bad_link(cause: &outbound::Cause) -> Failure {
    Failure::new("http.bad_url", Fault::Config, format!("what should be a link is none: {}", cause.sentence()))
        .help("look where the link stands in the answer of the call that gives it")
        .sent(Sent::Maybe)
}

/// Media types that say nothing of what is inside.
const VAGUE: &[&str] = &[
    "",
    "application/octet-stream",
    "binary/octet-stream",
    "application/gzip",
    "application/x-gzip",
    "application/zip",
    "application/x-zip-compressed",
    "text/plain",
];

impl Version {
    fn of(opened: &Opened) -> Self {
        let header = |name| opened.header(name).map(|text| text.trim().to_owned());
        let whole_only = header("accept-ranges").is_some_and(|ranges| ranges.eq_ignore_ascii_case("none"));
        Self { tag: header("etag"), modified: header("last-modified"), whole_only }
    }

    /// What a far end must have said about the file for its rest to be asked for: a strong tag, or a time.
    fn condition(&self) -> Option<&str> {
        let tag = self.tag.as_deref().filter(|tag| tag.starts_with('"'));
        tag.or(self.modified.as_deref()).filter(|_| !self.whole_only)
    }

    /// Whether an answer that says `other` may be of the same file; what it leaves out tells nothing.
    fn allows(&self, other: &Self) -> bool {
        let same = |one: &Option<String>, other: &Option<String>| one.is_none() || other.is_none() || one == other;
        same(&self.tag, &other.tag) && same(&self.modified, &other.modified)
    }
}

/// The first byte and the length of the whole in a `Content-Range` (RFC 9110 section 14.4); `*` is no length.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, whole) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.trim().parse().ok()?;
    let whole = whole.trim();
    if whole == "*" { Some((first, None)) } else { Some((first, Some(whole.parse().ok()?))) }
}

/// The media type and the charset of a `Content-Type`.
pub(in crate::tasks) fn media_type(content_type: &str) -> (String, Option<String>) {
    let mut parts = content_type.split(';');
    let media_type = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/+-._".contains(c);
    let media_type = if media_type.chars().all(plain) { media_type } else { String::new() };
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_owned())
    });
    (media_type, charset.filter(|label| encoding_rs::Encoding::for_label(label.as_bytes()).is_some()))
}

/// The file's name in a `Content-Disposition` (RFC 6266), the one in UTF-8 first.
fn file_name(disposition: &str) -> Option<String> {
    let value = |wanted: &str| {
        disposition.split(';').skip(1).find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    let encoded = value("filename*").and_then(|text| {
        let bytes = text.split_once("''").map(|(_, bytes)| bytes.to_owned())?;
        Some(percent_encoding::percent_decode_str(&bytes).decode_utf8().ok()?.into_owned())
    });
    encoded.or_else(|| value("filename"))
}

/// A name without folders and control characters, not longer than a file's name may be.
pub(in crate::tasks) fn clean(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    last.chars().filter(|c| !c.is_control()).take(limits::DOWNLOAD_NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_headers_say_of_a_file() {
        for (text, media, charset) in [
            ("text/csv; charset=\"GB18030\"", "text/csv", Some("GB18030")),
            ("Text/Tab-Separated-Values;charset=nonsense", "text/tab-separated-values", None),
            ("", "", None),
            ("<script>", "", None),
        ] {
            assert_eq!(media_type(text), (media.to_owned(), charset.map(str::to_owned)), "{text}");
        }
        for (text, name) in [
            ("attachment; filename=report.csv", Some("report.csv")),
            ("attachment; filename=\"a.csv\"; filename*=UTF-8''%E8%AE%A2%E5%8D%95.csv", Some("订单.csv")),
            ("inline", None),
        ] {
            assert_eq!(file_name(text).as_deref(), name, "{text}");
        }
        assert_eq!(clean("../../etc/pass\nwd"), "passwd");
        for (text, range) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            (" bytes 5-9/*", Some((5, None))),
            ("bytes */10", None),
            ("bytes 5-9/x", None),
            ("lines 5-9/10", None),
        ] {
            assert_eq!(content_range(text), range, "{text}");
        }
    }
}
