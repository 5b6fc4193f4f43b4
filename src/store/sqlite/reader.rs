//! A thread that reads, with a connection of its own. It sees what is committed, and holds nobody up: in WAL mode
//! readers and the writer do not wait for each other. There are two: one for the engine and one for people, so that no
//! list makes a run wait.

use std::fmt;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::super::Error;
use super::queue::{AbandonOnDrop, Bound, Queue, Refused};
use super::trouble::Outcome;
use crate::limits;

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// The way in to a reader.
pub(super) struct Reader {
    queue: Queue<Read>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { queue: Queue::new(Bound { items: limits::READS_QUEUED_MAX, bytes: 0 }) }
    }

    /// Runs `work` in one snapshot of the database.
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
        self.queue.push(read, 0).map_err(|refused| match refused {
            Refused::Full => Error::Full(format!("{} reads wait already", self.queue.len())),
            Refused::Closed => Error::Failed { doing, why: "the store is closed".into() },
        })?;
        let gone = |_| Error::Failed { doing, why: "the store's reader ended before it answered".into() };
        answer.await.unwrap_or_else(|error| Err(gone(error)))
    }

    /// Lets the reader end when it has done what is queued.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// The reader's thread.
    pub(super) fn run(&self, connection: &Connection) {
        // Should a read panic, nobody waits for ever.
        let _abandon = AbandonOnDrop(&self.queue);
        let mut read = Vec::with_capacity(1);
        while self.queue.take(Bound { items: 1, bytes: 0 }, &mut read) {
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

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("queued", &self.queue.len()).finish()
    }
}
