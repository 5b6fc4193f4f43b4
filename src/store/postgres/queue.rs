//! Writes that wait for one of the store's writers. A writer takes whatever waits, so that one commit serves all who
//! wait for it. What nobody waits for any more is left out: a sender that was told 503 finds nothing half an hour later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::super::Error;
use super::trouble::Trouble;
use crate::limits;

/// The way in.
#[derive(Debug)]
pub(super) struct Queue<W, T> {
    sender: mpsc::Sender<Waiting<W, T>>,
    held: Arc<Held>,
    doing: &'static str,
    close: CancellationToken,
}

/// What waits, over all writers of a queue.
#[derive(Debug, Default)]
pub(super) struct Held {
    items: AtomicUsize,
    bytes: AtomicUsize,
}

/// A write, and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting<W, T> {
    pub(super) work: W,
    reply: oneshot::Sender<Result<T, Error>>,
    held: Arc<Held>,
    bytes: usize,
}

/// The way out, for one writer.
#[derive(Debug)]
pub(super) struct Taker<W, T> {
    receiver: mpsc::Receiver<Waiting<W, T>>,
    close: CancellationToken,
    /// Taken, and not in a batch yet.
    pub(super) ahead: VecDeque<Waiting<W, T>>,
}

impl<W, T> Queue<W, T> {
    /// A queue of what `doing` says; after `close` nothing more is taken in.
    pub(super) fn new(doing: &'static str, close: CancellationToken) -> (Self, Taker<W, T>) {
        let (sender, receiver) = mpsc::channel(limits::WRITES_QUEUED_MAX);
        let taker = Taker { receiver, close: close.clone(), ahead: VecDeque::new() };
        (Self { sender, held: Arc::default(), doing, close }, taker)
    }

    /// Queues a write of about `bytes` and waits for what becomes of it.
    pub(super) async fn call(&self, work: W, bytes: usize) -> Result<T, Error> {
        let closed = || Error::Failed { doing: self.doing, why: "the store is closed".into() };
        if self.close.is_cancelled() {
            return Err(closed());
        }
        let waiting = self.held.bytes.load(Ordering::Relaxed);
        if waiting > 0 && waiting.saturating_add(bytes) > limits::WRITES_QUEUED_BYTES_MAX {
            return Err(Error::Full(format!("writes of {waiting} bytes wait already")));
        }
        let (reply, answer) = oneshot::channel();
        self.held.items.fetch_add(1, Ordering::Relaxed);
        self.held.bytes.fetch_add(bytes, Ordering::Relaxed);
        let waiting = Waiting { work, reply, held: Arc::clone(&self.held), bytes };
        self.sender.try_send(waiting).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Full(format!("{} writes wait already", self.len())),
            mpsc::error::TrySendError::Closed(_) => closed(),
        })?;
        let late = || Error::Failed { doing: self.doing, why: "PostgreSQL did not answer in time".into() };
        match tokio::time::timeout(limits::POSTGRES_WRITE_MAX, answer).await {
            Ok(answer) => answer.map_err(|_| closed())?,
            Err(_) => Err(late()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.items.load(Ordering::Relaxed)
    }
}

impl<W, T> Waiting<W, T> {
    /// Tells who waits.
    pub(super) fn answer(mut self, answer: Result<T, Error>) {
        let (reply, _) = oneshot::channel();
        // A caller that went away does not want to know.
        let _ = std::mem::replace(&mut self.reply, reply).send(answer);
    }

    /// Tells who waits that it was not done.
    pub(super) fn fail(self, trouble: &Trouble, doing: &'static str) {
        self.answer(Err(trouble.to_error(doing)));
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }
}

impl<W, T> Drop for Waiting<W, T> {
    fn drop(&mut self) {
        self.held.items.fetch_sub(1, Ordering::Relaxed);
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl<W, T> Taker<W, T> {
    /// Waits for writes and moves those that are still wanted to `ahead`. False when the queue is closed and empty.
    pub(super) async fn take(&mut self) -> bool {
        loop {
            while let Ok(waiting) = self.receiver.try_recv() {
                self.ahead.push_back(waiting);
            }
            self.ahead.retain(Waiting::is_wanted);
            if !self.ahead.is_empty() {
                return true;
            }
            tokio::select! {
                waiting = self.receiver.recv() => match waiting {
                    Some(waiting) => self.ahead.push_back(waiting),
                    None => return false,
                },
                () = self.close.cancelled(), if !self.receiver.is_closed() => self.receiver.close(),
            }
        }
    }
}

/// Whether one more of `more` bytes fits to a batch of `items` and `bytes`; one fits always.
pub(super) fn fits(items: usize, bytes: usize, more: usize) -> bool {
    items == 0
        || (items < limits::WRITES_PER_COMMIT_MAX && bytes.saturating_add(more) <= limits::WRITES_PER_COMMIT_BYTES_MAX)
}
