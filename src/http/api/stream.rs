//! A run's log as server-sent events (WHATWG HTML, section 9.2), from any place to its end. It looks at the log, never
//! at what a process has in memory, so it shows the same whichever gateway drives the run, and loses nothing when a
//! connection breaks.

use std::collections::VecDeque;
use std::convert::Infallible;

use actix_web::http::header::{CONTENT_TYPE, HeaderName};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::state::State;
use crate::gateway::{self, Caller, Gateway, view};
use crate::http::control::Control;
use crate::http::problem::{self, Problem};
use crate::http::query::misread;
use crate::id::{RunId, Seq};
use crate::limits;

/// The media type of event streams.
pub(super) const MEDIA_TYPE: &str = "text/event-stream";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Where a stream that broke goes on: behind the last event that was seen.
pub(super) fn resumed_at(request: &HttpRequest) -> Result<Option<Seq>, Problem> {
    let Some(value) = request.headers().get(&LAST_EVENT_ID) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let seen = text.trim().parse().map_err(|_| misread("Last-Event-ID", &text, "the place of an event in the log"))?;
    Ok(Some(Seq(seen).plus(1)))
}

/// Answers with the events of a run from `from` on, as they happen, until the run has ended.
pub(super) async fn follow(
    gateway: &Data<Gateway>,
    control: &Control,
    caller: Caller,
    run: RunId,
    from: Seq,
) -> Result<HttpResponse, Problem> {
    let room = control.streams.clone().try_acquire_owned().map_err(|_| {
        let max = limits::EVENT_STREAMS_MAX;
        Problem::new(problem::BUSY, format!("{max} event streams are open"))
            .help("ask without `Accept: text/event-stream`, or close another stream")
            .retry_after(limits::EVENT_STREAM_PING)
    })?;
    let mut follower = Follower {
        gateway: gateway.as_ref().clone(),
        caller,
        run,
        next: from,
        ready: VecDeque::new(),
        ended: false,
        spoke_at: Instant::now(),
        stop: control.stop.clone(),
        _room: room,
    };
    // The first look says what is wrong while it can still be said with a status.
    follower.look().await?;
    let pieces = stream::unfold(follower, |mut follower| async {
        let piece = follower.piece().await?;
        Some((Ok::<_, Infallible>(piece), follower))
    });
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, MEDIA_TYPE)).streaming(pieces))
}

struct Follower {
    gateway: Gateway,
    caller: Caller,
    run: RunId,
    /// The place behind the last event that was read.
    next: Seq,
    ready: VecDeque<Bytes>,
    ended: bool,
    spoke_at: Instant,
    stop: CancellationToken,
    /// Given back when the stream ends.
    _room: OwnedSemaphorePermit,
}

impl Follower {
    /// The next piece of the stream; nothing when it is over, or the door closes.
    async fn piece(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                self.spoke_at = Instant::now();
                return Some(piece);
            }
            if self.ended {
                return None;
            }
            self.stop.run_until_cancelled(tokio::time::sleep(limits::EVENT_STREAM_POLL)).await?;
            if let Err(error) = self.look().await {
                // The reader comes again with the last id it saw; a store that is busy is not the end of a run.
                tracing::debug!(%error, run.id = %self.run, "the event stream of {} breaks off: {error}", self.run);
                return None;
            }
            if self.ready.is_empty() && self.spoke_at.elapsed() >= limits::EVENT_STREAM_PING {
                self.ready.push_back(Bytes::from_static(b": still here\n\n"));
            }
        }
    }

    async fn look(&mut self) -> Result<(), gateway::Error> {
        let (events, state) = self.gateway.events(&self.caller, self.run, self.next).await?;
        if let Some(last) = events.last() {
            self.next = Seq(last.seq).plus(1);
        }
        self.ready.extend(events.iter().map(piece));
        if state.is_ended() {
            self.ended = true;
            self.ready.push_back(last_piece(state));
        }
        Ok(())
    }
}

/// An event of the log. JSON has no line breaks, so the data is one line.
fn piece(event: &view::Event) -> Bytes {
    let data = json!({ "at": event.at, "event": event.event, "detail": event.detail });
    format!("id: {}\nevent: {}\ndata: {data}\n\n", event.seq, event.event).into()
}

fn last_piece(state: State) -> Bytes {
    format!("event: end\ndata: {}\n\n", json!({ "status": state.as_str() })).into()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn pieces() {
        let event = view::Event { seq: 3, at: "t".into(), event: "woken".into(), detail: json!("a\nb") };
        let expected = "id: 3\nevent: woken\ndata: {\"at\":\"t\",\"event\":\"woken\",\"detail\":\"a\\nb\"}\n\n";
        assert_eq!(piece(&event), expected);
        assert_eq!(last_piece(State::Failed), "event: end\ndata: {\"status\":\"failed\"}\n\n");
    }

    #[test]
    fn where_a_broken_stream_goes_on() {
        let check = |value: &str, expected: Option<u32>| {
            let request = TestRequest::default().insert_header((LAST_EVENT_ID, value)).to_http_request();
            assert_eq!(resumed_at(&request).ok().flatten(), expected.map(Seq), "{value}");
        };
        check("0", Some(1));
        check("41", Some(42));
        check("-1", None);
        check("x", None);
        assert_eq!(resumed_at(&TestRequest::default().to_http_request()).ok(), Some(None));
    }
}
