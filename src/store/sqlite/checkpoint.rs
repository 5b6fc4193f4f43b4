//! Keeps the write-ahead log short without holding a commit up. A thread of its own copies the bulk of it into the
//! database file while the writer goes on; then the writer copies the short rest between two commits, so that the log
//! starts again at its beginning. Past a hard bound the writer does it all itself.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::limits;

/// How the log's copying stands, shared by the writer and the copying thread.
#[derive(Debug)]
pub(super) struct Checkpoints {
    stage: Mutex<Stage>,
    changed: Condvar,
    frame_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The log is short.
    Idle,
    /// The copying thread is asked to copy, or does.
    Copying,
    /// It has copied what was there; the writer is to copy the rest.
    Copied,
    /// The store closes.
    Ended,
}

/// Times that the thread goes over the log before it leaves the rest to the writer.
const PASSES_MAX: usize = 4;
/// Not worth another pass when fewer frames came meanwhile.
const PASS_FRAMES_MIN: u64 = 128;

/// Frames in the log, and how many of them are in the database file too.
struct Log {
    frames: u64,
    copied: u64,
}

impl Checkpoints {
    pub(super) fn new(page_bytes: u64) -> Self {
        // Each frame is a page and a header of 24 bytes: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
        Self { stage: Mutex::new(Stage::Idle), changed: Condvar::new(), frame_bytes: page_bytes + 24 }
    }

    /// Called by the writer between two commits.
    pub(super) fn after_commit(&self, writer: &Connection) {
        let Ok(log) = checkpoint(writer, "noop") else { return };
        let bytes = log.frames * self.frame_bytes;
        if bytes > limits::WAL_BYTES_MAX {
            // Waits for readers for as long as the busy timeout, and tries again after the next commit.
            let _ = checkpoint(writer, "restart");
            return;
        }
        let mut stage = self.lock();
        match *stage {
            Stage::Copied => {
                let rest = (log.frames - log.copied.min(log.frames)) * self.frame_bytes;
                // When a reader held the copying up, much is left: then the thread goes again.
                *stage = if rest > limits::WAL_COPY_BYTES / 2 { Stage::Copying } else { Stage::Idle };
                let short = *stage == Stage::Idle;
                drop(stage);
                if short {
                    let _ = checkpoint(writer, "passive");
                } else {
                    self.changed.notify_one();
                }
            }
            // Copied to the end: the next write starts the log again unless a reader still stands in it.
            Stage::Idle if bytes > limits::WAL_COPY_BYTES && log.copied < log.frames => {
                *stage = Stage::Copying;
                drop(stage);
                self.changed.notify_one();
            }
            _ => {}
        }
    }

    /// The copying thread.
    pub(super) fn run(&self, copier: &Connection) {
        while self.wait_for_work() {
            copy(copier);
            let mut stage = self.lock();
            if *stage == Stage::Copying {
                *stage = Stage::Copied;
            }
        }
    }

    /// Lets the copying thread end.
    pub(super) fn close(&self) {
        *self.lock() = Stage::Ended;
        self.changed.notify_one();
    }

    fn wait_for_work(&self) -> bool {
        let mut stage = self.lock();
        loop {
            match *stage {
                Stage::Copying => return true,
                Stage::Ended => return false,
                Stage::Idle | Stage::Copied => {
                    stage = self.changed.wait(stage).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies what is there, and again what came meanwhile, so that little is left for the writer.
fn copy(copier: &Connection) {
    let mut before = 0;
    for _ in 0..PASSES_MAX {
        // A failure, such as a full disk, leaves the log as it is; past its bound the writer tries by itself.
        let Ok(log) = checkpoint(copier, "passive") else { return };
        if log.copied.saturating_sub(before) < PASS_FRAMES_MIN {
            return;
        }
        before = log.copied;
    }
}

/// Copies the whole log and empties its file: when the store closes.
pub(super) fn finish(writer: &Connection) {
    // What could not be copied is still in the log, and is read from there next time.
    let _ = checkpoint(writer, "truncate");
}

fn checkpoint(connection: &Connection, mode: &'static str) -> rusqlite::Result<Log> {
    let sql = match mode {
        "noop" => "PRAGMA wal_checkpoint(noop)",
        "passive" => "PRAGMA wal_checkpoint(passive)",
        "restart" => "PRAGMA wal_checkpoint(restart)",
        _ => "PRAGMA wal_checkpoint(truncate)",
    };
    connection.prepare_cached(sql)?.query_row([], |row| {
        let count = |place| row.get::<_, i64>(place).map(|count| u64::try_from(count).unwrap_or(0));
        Ok(Log { frames: count(1)?, copied: count(2)? })
    })
}
