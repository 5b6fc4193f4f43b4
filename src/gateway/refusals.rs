//! Requests that were refused, kept for people to look into: bounded, redacted, and never in the way. What comes faster
//! than it can be kept is counted and let go.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::deliveries::{Inbound, Refusal, RefusalKind, kept_headers};
use super::routes::Doors;
use super::{Caller, Error, Gateway, Scope, view};
use crate::domain::attempt::BodyCopy;
use crate::domain::journal::{JournalEntry, JournalKind};
use crate::domain::masking::Masker;
use crate::id::RouteName;
use crate::limits;
use crate::store::JournalQuery;

/// A refusal with what only we are to know.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) route: Option<RouteName>,
    pub(super) refusal: Refusal,
    why: String,
}

impl Refused {
    pub(super) fn new(route: Option<RouteName>, kind: RefusalKind, code: &'static str, why: String) -> Self {
        Self { route, refusal: Refusal { kind, code }, why }
    }
}

/// Takes refused requests off the door's hands.
#[derive(Debug)]
pub(super) struct Inbox(mpsc::Sender<JournalEntry>);

/// Refused requests waiting to be kept; what comes on top is only counted.
const WAITING_MAX: usize = 64;
/// Refused requests that one write keeps.
const BATCH_MAX: usize = 32;

impl Inbox {
    pub(super) fn new() -> (Self, mpsc::Receiver<JournalEntry>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(sender), receiver)
    }

    pub(super) fn keep(&self, doors: &Doors, inbound: &Inbound<'_>, refused: &Refused) {
        let Ok(place) = self.0.try_reserve() else { return };
        place.send(entry(doors, inbound, refused));
    }
}

fn entry(doors: &Doors, inbound: &Inbound<'_>, refused: &Refused) -> JournalEntry {
    let subject = refused.route.as_ref().map_or_else(|| inbound.request.path.to_owned(), ToString::to_string);
    let code = refused.refusal.code;
    let detail = json!({
        "method": inbound.request.method,
        "path": inbound.request.path,
        "headers": kept_headers(inbound.request.headers, &Masker::new()),
        "remote": inbound.peer.to_string(),
        "body_bytes": inbound.body.len(),
        "why": refused.why,
    });
    JournalEntry {
        kind: JournalKind::Refusal,
        at: inbound.request.received_at,
        what: code.to_owned(),
        cause: format!("{code}/{subject}"),
        subject: subject.chars().take(SUBJECT_CHARS_MAX).collect(),
        detail: match detail {
            Value::Object(members) => members,
            _ => serde_json::Map::new(),
        },
        body: kept_body(doors, inbound),
    }
}

/// Characters of an unknown path that are kept.
const SUBJECT_CHARS_MAX: usize = 200;

/// The first part of the body, with what the routes of this path redact blanked out. A body that cannot be read is not
/// kept where a route redacts, because what to blank in it is not known.
fn kept_body(doors: &Doors, inbound: &Inbound<'_>) -> Bytes {
    let paths: Vec<_> = doors.at(inbound.request.path).iter().flat_map(|door| &door.plan.redact).collect();
    let redacted = if paths.is_empty() {
        None
    } else {
        let Ok(mut value) = serde_json::from_slice::<Value>(&inbound.body) else { return Bytes::new() };
        for path in paths {
            path.blank(&mut value);
        }
        Some(Bytes::from(value.to_string()))
    };
    let body = redacted.as_ref().unwrap_or(&inbound.body);
    body.slice(..body.len().min(limits::REFUSAL_BODY_BYTES_MAX))
}

impl Gateway {
    /// Writes refused requests to the journal, a few at a time, until `stop`.
    pub async fn keep_refusals(&self, mut inbox: mpsc::Receiver<JournalEntry>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                received = inbox.recv_many(&mut batch, BATCH_MAX) => if received == 0 { return },
            }
            if let Err(error) = self.0.engine.store().journal_append(std::mem::take(&mut batch)).await {
                tracing::warn!(%error, "refused requests could not be kept");
            }
        }
    }

    /// A page of refused requests, newest first.
    pub async fn refusals(
        &self,
        caller: &Caller,
        route: Option<&str>,
        cause: Option<&str>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<view::Page<view::Refusal>, Error> {
        caller.require(Scope::RunsRead)?;
        let query = JournalQuery {
            kind: JournalKind::Refusal,
            subject: route.map(str::to_owned),
            cause: cause.map(str::to_owned),
            what: None,
            before,
            limit,
        };
        let rows = self.0.engine.store().journal(&query).await?;
        let next = (rows.len() == limit).then(|| rows.last().map(|row| row.id.to_string())).flatten();
        let show = |row: crate::domain::journal::JournalRow| view::Refusal {
            id: row.id,
            at: row.entry.at.to_string(),
            code: row.entry.what,
            subject: row.entry.subject,
            cause: row.entry.cause,
            detail: Value::Object(row.entry.detail),
            body: (!row.entry.body.is_empty())
                .then(|| BodyCopy::of(&row.entry.body, limits::REFUSAL_BODY_BYTES_MAX).into()),
        };
        Ok(view::Page { items: rows.into_iter().map(show).collect(), next })
    }
}
