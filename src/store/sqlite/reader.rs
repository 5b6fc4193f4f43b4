//! A few threads that read, each with a connection of its own. They see what is committed, and hold nobody up: in
//! WAL mode readers and the writer do not wait for each other.

use std::fmt;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::super::Error;
use super::queue::{Queue, Refused};
use super::trouble::Outcome;
use crate::limits;

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// The way in to the readers.
pub(super) struct Readers {
    queue: Queue<Read>,
}

impl Readers {
    pub(super) fn new() -> Self {
        Self { queue: Queue::new(limits::READS_QUEUED_MAX) }
    }

    /// Runs `work` on one of the readers, in one snapshot of the database.
    pub(super) async fn call<T, F>(&self, doing: &'static str, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            // A caller that went away does not want to know.
            let _ = reply.send(snapshot(connection, work).map_err(|trouble| trouble.into_error(doing)));
        });
        self.queue.push(read).map_err(|refused| match refused {
            Refused::Full => Error::Full(format!("{} reads are waiting already", limits::READS_QUEUED_MAX)),
            Refused::Closed => Error::Failed { doing, why: "the store is closed".into() },
        })?;
        let gone = |_| Error::Failed { doing, why: "the store's reader ended before it answered".into() };
        answer.await.unwrap_or_else(|error| Err(gone(error)))
    }

    /// Lets the readers end when they have done what is queued.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// A reader's thread.
    pub(super) fn run(&self, connection: &Connection) {
        let mut read = Vec::with_capacity(1);
        while self.queue.take(1, &mut read) {
            read.drain(..).for_each(|read| read(connection));
        }
    }
}

fn snapshot<T>(connection: &Connection, work: impl FnOnce(&Connection) -> Outcome<T>) -> Outcome<T> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    let done = work(connection);
    // Nothing was written, so ending it cannot lose anything.
    let _ = connection.prepare_cached("ROLLBACK").and_then(|mut statement| statement.execute([]));
    done
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("queued", &self.queue.len()).finish()
    }
}
