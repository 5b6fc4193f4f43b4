//! Requests that were refused, kept for people to look into: bounded, redacted, and never in the way. What comes faster
//! than it can be kept is counted and let go.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::deliveries::{Inbound, Refusal, RefusalKind, blank, kept_headers};
use super::routes::Door;
use super::{Caller, Error, Gateway, Scope, members, view};
use crate::domain::attempt::BodyCopy;
use crate::domain::journal::{JournalEntry, JournalKind};
use crate::domain::masking::Masker;
use crate::domain::secret::Secrets;
use crate::id::RouteName;
use crate::limits;
use crate::signature::Answer;
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
        Self { route, refusal: Refusal { kind, code, answer: None }, why }
    }

    /// The same, told in words of the protocol.
    pub(super) fn in_words(mut self, answer: Option<Answer>) -> Self {
        self.refusal.answer = answer.map(Box::new);
        self
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

    pub(super) async fn keep(
        &self,
        doors: &[Arc<Door>],
        secrets: &dyn Secrets,
        inbound: &Inbound<'_>,
        refused: &Refused,
    ) {
        let Ok(place) = self.0.try_reserve() else { return };
        // A sender that is refused for its address or its rate may have sent the right key along.
        let mut maskers = Vec::new();
        for door in doors {
            match door.keys(secrets).await {
                Ok(ready) => maskers.extend(ready.map(|ready| ready.masker)),
                // What to mask is not known: nothing of what was sent is kept.
                Err(_) => return place.send(entry(inbound, refused, &[], Bytes::new())),
            }
        }
        let headers = kept_headers(inbound.request.headers, &maskers, doors.iter().map(|door| &*door.plan));
        // What a token endpoint refuses holds what somebody takes for a secret.
        let body = match refused.refusal.answer {
            Some(_) => Bytes::new(),
            None => kept_body(doors, &maskers, inbound),
        };
        place.send(entry(inbound, refused, &headers, body));
    }
}

fn entry(inbound: &Inbound<'_>, refused: &Refused, headers: &[(String, String)], body: Bytes) -> JournalEntry {
    let subject = refused.route.as_ref().map_or_else(|| inbound.request.path.to_owned(), ToString::to_string);
    let code = refused.refusal.code;
    let detail = json!({
        "method": inbound.request.method,
        "path": inbound.request.path,
        "headers": headers,
        "remote": inbound.peer.to_string(),
        "body_bytes": inbound.body.len(),
        "why": refused.why.clone(),
    });
    JournalEntry {
        kind: JournalKind::Refusal,
        at: inbound.request.received_at,
        what: code.to_owned(),
        cause: format!("{code}/{subject}"),
        subject: subject.chars().take(SUBJECT_CHARS_MAX).collect(),
        detail: members(detail),
        body,
    }
}

/// Characters of an unknown path that are kept.
const SUBJECT_CHARS_MAX: usize = 200;

/// The first part of the body, with what the routes of this path redact blanked out, and their keys masked. A body that
/// cannot be read is not kept where a route redacts, because what to blank in it is not known.
fn kept_body(doors: &[Arc<Door>], maskers: &[Arc<Masker>], inbound: &Inbound<'_>) -> Bytes {
    let paths: Vec<_> = doors.iter().flat_map(|door| &door.plan.redact).collect();
    let readable = if paths.is_empty() { Some(inbound.body.clone()) } else { blank(&paths, inbound) };
    let Some(mut body) = readable else { return Bytes::new() };
    for masker in maskers {
        if let Cow::Owned(masked) = masker.mask_prefix(&body, 2 * limits::REFUSAL_BODY_BYTES_MAX) {
            body = masked.into();
        }
    }
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
