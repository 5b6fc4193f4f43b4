//! Reads request bodies: never more than allowed, never for longer than allowed, and never more of them at one time
//! than the machine can hold. It does not look into them.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use actix_web::web;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use crate::limits;

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Longer than is taken here.
    #[error("the body has more than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    /// It did not arrive in time.
    #[error("the body did not arrive within {} s", limits::HTTP_BODY_TIMEOUT.as_secs())]
    TooSlow,
    /// The connection broke, or what came is no body.
    #[error("the body did not arrive whole")]
    Broken,
    /// The gateway holds as many bytes of bodies as it may.
    #[error("the gateway holds as many bodies as it can")]
    Full,
}

impl Error {
    /// The stable code, with a page in `docs/errors/`.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "body.too_large",
            Self::TooSlow => "body.slow",
            Self::Broken => "body.broken",
            Self::Full => "body.full",
        }
    }
}

/// Counts the bytes of bodies that all doors hold at this moment. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    held: AtomicUsize,
    max: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(limits::BODIES_HELD_BYTES_MAX)
    }
}

impl Budget {
    fn new(max: usize) -> Self {
        Self(Arc::new(Counter { held: AtomicUsize::new(0), max }))
    }
}

/// A body, counted for as long as this lives.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// The raw bytes.
    pub(super) bytes: Bytes,
    /// Nothing for a body that was not read.
    _held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    counter: Arc<Counter>,
    bytes: usize,
}

impl Held {
    fn more(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        let before = self.counter.held.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.counter.max { Err(Error::Full) } else { Ok(()) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counter.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Reads a body of at most `bytes_max` bytes. One that says it is longer is refused before a byte of it is read.
pub(super) async fn read(
    payload: web::Payload,
    headers: &HeaderMap,
    bytes_max: usize,
    budget: &Budget,
) -> Result<Body, Error> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > bytes_max as u64) {
        return Err(Error::TooLarge { bytes_max });
    }
    // The timer is only armed when the bytes are not there yet.
    let held = Held { counter: budget.0.clone(), bytes: 0 };
    let reading = read_at_most(payload.into_inner(), bytes_max, held);
    tokio::time::timeout(limits::HTTP_BODY_TIMEOUT, reading).await.map_err(|_| Error::TooSlow)?
}

async fn read_at_most<S>(mut stream: S, bytes_max: usize, mut held: Held) -> Result<Body, Error>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(chunk) = poll_fn(|ctx| Pin::new(&mut stream).poll_next(ctx)).await {
        let chunk = chunk.map_err(|_| Error::Broken)?;
        // Counted as it comes, not as it is declared: a sender cannot reserve what it does not send.
        held.more(chunk.len())?;
        if held.bytes > bytes_max {
            return Err(Error::TooLarge { bytes_max });
        }
        // Most deliveries come in one piece, which is then not copied.
        if first.is_empty() && all.is_empty() {
            first = chunk;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&chunk);
        }
    }
    let bytes = if all.is_empty() { first } else { all.freeze() };
    Ok(Body { bytes, _held: Some(held) })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use actix_web::FromRequest;
    use actix_web::dev::Payload;
    use actix_web::test::TestRequest;
    use futures_util::stream;

    use super::*;

    type BoxedPayloadStream = Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>>;

    async fn check(chunks: &[&'static str], bytes_max: usize, budget: &Budget, expected: Result<&str, Error>) {
        let chunks = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes())));
        let held = Held { counter: budget.0.clone(), bytes: 0 };
        let body = read_at_most(stream::iter(chunks), bytes_max, held).await;
        assert_eq!(body.as_ref().map(|body| &*body.bytes).map_err(|error| *error), expected.map(str::as_bytes));
    }

    #[tokio::test]
    async fn bodies_are_bounded() {
        let budget = Budget::new(10);
        check(&[], 0, &budget, Ok("")).await;
        check(&["abc"], 3, &budget, Ok("abc")).await;
        check(&["a", "", "b", "cd"], 4, &budget, Ok("abcd")).await;
        check(&["", "ab", "c"], 4, &budget, Ok("abc")).await;
        check(&["ab", "cd"], 3, &budget, Err(Error::TooLarge { bytes_max: 3 })).await;
        check(&["0123456789", "x"], 20, &budget, Err(Error::Full)).await;
        check(&["0123456789"], 20, &budget, Ok("0123456789")).await;
        assert_eq!(budget.0.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_senders_are_not_waited_for() {
        let request = TestRequest::default().to_http_request();
        let silent: BoxedPayloadStream = Box::pin(stream::pending());
        let mut payload = Payload::Stream { payload: silent };
        let payload = web::Payload::from_request(&request, &mut payload).await.unwrap();
        let body = read(payload, request.headers(), 5, &Budget::default()).await;
        assert_eq!(body.map(|_| ()), Err(Error::TooSlow));
    }
}
