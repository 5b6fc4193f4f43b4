//! Measures one try at one request: where its own connection got to, and how long each part took.
//!
//! The pool may open a connection for one request and give it to another, so the time of a connection is kept with
//! the try that opened it, and a try that got somebody else's connection reports none.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::client::legacy::connect::CaptureConnection;
use tokio::time::Instant;

use super::connect::LinkInfo;
use super::error::{Cause, Phase};
use crate::domain::attempt::Timings;

tokio::task_local! {
    /// The try whose request the pool is being asked to send; the connector reads it when it is called.
    pub(super) static TRACE: Arc<Trace>;
}

static TRIES: AtomicU64 = AtomicU64::new(1);

/// One try, as its connector sees it.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) id: u64,
    pub(super) connect_timeout: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    parts: Timings,
    remote: Option<SocketAddr>,
    cause: Option<Cause>,
}

impl Trace {
    pub(super) fn new(connect_timeout: Duration) -> Self {
        let state =
            State { phase: Phase::Start, since: Instant::now(), parts: Timings::default(), remote: None, cause: None };
        Self { id: TRIES.fetch_add(1, Ordering::Relaxed), connect_timeout, state: Mutex::new(state) }
    }

    /// The current part is over, the next one begins.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        state.close();
        state.phase = phase;
    }

    pub(super) fn trying(&self, remote: SocketAddr) {
        self.lock().remote = Some(remote);
    }

    /// Keeps why no connection came about: hyper only passes on that there is none.
    pub(super) fn fail(&self, cause: Cause) {
        let mut state = self.lock();
        state.close();
        state.cause = Some(cause);
    }

    pub(super) fn take_cause(&self) -> Option<Cause> {
        self.lock().cause.take()
    }

    pub(super) fn phase(&self) -> Phase {
        self.lock().phase
    }

    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.lock().remote
    }

    /// DNS, TCP and TLS so far, the running part included.
    fn parts(&self) -> Timings {
        let mut state = self.lock();
        state.close();
        state.parts
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close(&mut self) {
        let now = Instant::now();
        let took = micros(now - self.since);
        self.since = now;
        match self.phase {
            Phase::Dns => self.parts.dns_us += took,
            Phase::Connect => self.parts.connect_us += took,
            Phase::Tls => self.parts.tls_us += took,
            Phase::Start | Phase::Response | Phase::Body => {}
        }
    }
}

/// One call: all its tries, redirects included, added up.
pub(super) struct Call {
    started: Instant,
    timings: Timings,
    attempt: Option<Try>,
    body_since: Option<Instant>,
    /// An earlier try may have arrived, or was answered by a redirect.
    sent_before: bool,
    remote: Option<SocketAddr>,
}

struct Try {
    since: Instant,
    trace: Arc<Trace>,
    captured: CaptureConnection,
}

impl Call {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            timings: Timings::default(),
            attempt: None,
            body_since: None,
            sent_before: false,
            remote: None,
        }
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// A try begins.
    pub(super) fn attempt(&mut self, trace: Arc<Trace>, captured: CaptureConnection) {
        self.body_done();
        self.attempt = Some(Try { since: Instant::now(), trace, captured });
    }

    /// The head of an answer is here.
    pub(super) fn answered(&mut self) {
        self.settle();
        self.body_since = Some(Instant::now());
        self.sent_before = true;
    }

    /// The body of an answer is here.
    pub(super) fn body_done(&mut self) {
        if let Some(since) = self.body_since.take() {
            self.timings.body_us += micros(since.elapsed());
        }
    }

    /// The try ended without an answer, or the call was cut short.
    pub(super) fn failed(&mut self, sent: bool) {
        self.settle();
        self.sent_before |= sent;
    }

    /// What the call is waiting for.
    pub(super) fn phase(&self) -> Phase {
        match &self.attempt {
            _ if self.body_since.is_some() => Phase::Body,
            Some(attempt) if attempt.link().is_some() => Phase::Response,
            Some(attempt) => match attempt.trace.phase() {
                // The connection of this try is there, and the pool is about to hand it over.
                Phase::Response => Phase::Start,
                phase => phase,
            },
            None => Phase::Start,
        }
    }

    /// The connection that the running try was given.
    pub(super) fn link(&self) -> Option<LinkInfo> {
        self.attempt.as_ref().and_then(Try::link)
    }

    /// Whether the running try was given a connection that an earlier one had opened.
    pub(super) fn is_reused(&self) -> bool {
        self.attempt
            .as_ref()
            .is_some_and(|attempt| attempt.link().is_some_and(|link| link.opened_by != attempt.trace.id))
    }

    pub(super) fn take_cause(&self) -> Option<Cause> {
        self.attempt.as_ref().and_then(|attempt| attempt.trace.take_cause())
    }

    pub(super) fn sent_before(&self) -> bool {
        self.sent_before
    }

    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// All parts up to now.
    pub(super) fn timings(&mut self) -> Timings {
        self.settle();
        self.body_done();
        self.timings.total_us = micros(self.started.elapsed());
        self.timings
    }

    /// Adds the running try's parts up: what its connection took, and the rest is waiting for the answer.
    fn settle(&mut self) {
        let Some(attempt) = self.attempt.take() else { return };
        let link = attempt.link();
        let reused = link.as_ref().is_some_and(|link| link.opened_by != attempt.trace.id);
        let parts = if reused { Timings::default() } else { attempt.trace.parts() };
        let all = micros(attempt.since.elapsed());
        self.remote = link.map(|link| link.remote).or_else(|| attempt.trace.remote());
        self.timings.reused = reused;
        self.timings.dns_us += parts.dns_us;
        self.timings.connect_us += parts.connect_us;
        self.timings.tls_us += parts.tls_us;
        self.timings.first_byte_us += all.saturating_sub(parts.dns_us + parts.connect_us + parts.tls_us);
    }
}

impl Try {
    fn link(&self) -> Option<LinkInfo> {
        let metadata = self.captured.connection_metadata();
        let mut extensions = http::Extensions::new();
        metadata.as_ref()?.get_extras(&mut extensions);
        extensions.remove()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
