//! The one thread that writes. It takes whatever is queued, does it in one transaction, commits once, and then answers
//! everyone. The cost of a durable write is shared by all that wait, and run ids are handed out in commit order.
//!
//! Each command decides by what it reads, so that one that is refused leaves the others alone. A batch that SQLite
//! stops is undone and done again one by one; when the file cannot be written at all, all of it is refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::{Connection, params};
use tokio::time::Instant;

use super::super::Error;
use super::super::class::{Shape, trigger_code, trigger_of};
use super::call::{Command, answer_all, command, fail_all};
use super::checkpoint::Checkpoints;
use super::keys::Keys;
use super::queue::{AbandonOnDrop, Bound, Queue, Refused};
use super::trouble::{Outcome, is_of_the_file};
use crate::id::{RunId, RunIds, WorkflowName};
use crate::limits;

/// The open transaction, and what the writer knows by heart.
pub(super) struct Tx<'a> {
    pub(super) connection: &'a Connection,
    pub(super) memo: &'a mut Memo,
}

/// What the writer knows by heart.
#[derive(Debug)]
pub(super) struct Memo {
    pub(super) ids: RunIds,
    pub(super) keys: Keys,
    shapes: HashMap<Shape, i64>,
    /// Shapes that the open transaction added.
    uncommitted: Vec<Shape>,
}

/// The way in to the writer, shared by all callers.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Queue<Box<dyn Command>>,
    commit_us: AtomicU64,
    busy_us: AtomicU64,
    failing: AtomicBool,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            queue: Queue::new(Bound { items: limits::WRITES_QUEUED_MAX, bytes: limits::WRITES_QUEUED_BYTES_MAX }),
            commit_us: AtomicU64::new(0),
            busy_us: AtomicU64::new(0),
            failing: AtomicBool::new(false),
        }
    }

    /// Queues `work` and waits until it is committed. `work` may run more than once; only the last run counts.
    pub(super) async fn call<T, F>(&self, doing: &'static str, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Outcome<T> + Send + 'static,
    {
        self.call_with(doing, 0, work).await
    }

    /// The same for work that holds this many bytes of memory.
    pub(super) async fn call_with<T, F>(&self, doing: &'static str, bytes: usize, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Outcome<T> + Send + 'static,
    {
        let (command, answer) = command(doing, work);
        self.queue.push(command, bytes).map_err(|refused| match refused {
            Refused::Full => Error::Full(format!("{} writes wait already", self.queue.len())),
            Refused::Closed => Error::Failed { doing, why: "the store is closed".into() },
        })?;
        let gone = || Error::Failed { doing, why: "the store's writer ended before it answered".into() };
        answer.await.map_err(|_| gone())?.outcome
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn commit_us(&self) -> u64 {
        self.commit_us.load(Ordering::Relaxed)
    }

    /// Time that the writer has spent on batches so far, the wait for the disk left out.
    pub(super) fn busy_us(&self) -> u64 {
        self.busy_us.load(Ordering::Relaxed)
    }

    /// Whether the last commit failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Lets the writer end when it has done what is queued.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// The writer's thread.
    pub(super) fn run(&self, connection: &Connection, mut memo: Memo, checkpoints: &Arc<Checkpoints>) {
        // Should a command panic, nobody waits for ever.
        let _abandon = AbandonOnDrop(&self.queue);
        let bound = Bound { items: limits::WRITES_PER_COMMIT_MAX, bytes: limits::WRITES_PER_COMMIT_BYTES_MAX };
        let mut batch = Vec::new();
        while self.queue.take(bound, &mut batch) {
            self.commit(connection, &mut memo, &mut batch);
            checkpoints.after_commit(connection);
        }
    }

    fn commit(&self, connection: &Connection, memo: &mut Memo, batch: &mut Vec<Box<dyn Command>>) {
        match self.transaction(connection, memo, batch) {
            Ok(()) => answer_all(batch),
            Err(error) if is_of_the_file(&error) || batch.len() == 1 => fail_all(batch, &error),
            Err(_) => {
                for command in batch.drain(..) {
                    let mut alone = vec![command];
                    match self.transaction(connection, memo, &mut alone) {
                        Ok(()) => answer_all(&mut alone),
                        Err(error) => fail_all(&mut alone, &error),
                    }
                }
            }
        }
    }

    fn transaction(
        &self,
        connection: &Connection,
        memo: &mut Memo,
        batch: &mut [Box<dyn Command>],
    ) -> rusqlite::Result<()> {
        let began = Instant::now();
        let mut synced = began;
        let done = run_all(connection, memo, batch).and_then(|()| {
            synced = Instant::now();
            execute(connection, "COMMIT")
        });
        self.failing.store(done.is_err(), Ordering::Relaxed);
        if done.is_ok() {
            memo.committed();
            let ended = Instant::now();
            self.commit_us.store(micros(ended - synced), Ordering::Relaxed);
            self.busy_us.fetch_add(micros(synced - began), Ordering::Relaxed);
        } else {
            memo.undone();
            // SQLite has undone it already when this finds no transaction.
            let _ = execute(connection, "ROLLBACK");
        }
        done
    }
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn run_all(connection: &Connection, memo: &mut Memo, batch: &mut [Box<dyn Command>]) -> rusqlite::Result<()> {
    execute(connection, "BEGIN IMMEDIATE")?;
    let mut tx = Tx { connection, memo };
    batch.iter_mut().try_for_each(|command| command.run(&mut tx))?;
    tx.memo.keys.flush(connection)
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

impl Memo {
    /// Learns what the file holds.
    pub(super) fn read(connection: &Connection, segment_keys: usize) -> Outcome<Self> {
        let ids = RunIds::default();
        let newest: Option<i64> = connection.query_row("SELECT max(id) FROM runs", [], |row| row.get(0))?;
        if let Some(newest) = newest {
            ids.skip_to(run_id(newest));
        }
        let shapes = read_shapes(connection)?.into_iter().map(|(id, shape)| (shape, id)).collect();
        Ok(Self { ids, keys: Keys::read(connection, segment_keys)?, shapes, uncommitted: Vec::new() })
    }

    fn committed(&mut self) {
        self.uncommitted.clear();
        self.keys.committed();
    }

    fn undone(&mut self) {
        for shape in self.uncommitted.drain(..) {
            self.shapes.remove(&shape);
        }
        self.keys.undone();
    }
}

/// Every shape with its number.
pub(super) fn read_shapes(connection: &Connection) -> rusqlite::Result<Vec<(i64, Shape)>> {
    let mut statement = connection.prepare_cached("SELECT id, workflow, trigger, source FROM shapes")?;
    let mut rows = statement.query([])?;
    let mut shapes = Vec::new();
    while let Some(row) = rows.next()? {
        let workflow = WorkflowName::new(row.get_ref(1)?.as_str()?);
        let (Ok(workflow), Some(trigger)) = (workflow, trigger_of(row.get(2)?)) else { continue };
        shapes.push((row.get(0)?, Shape { workflow, trigger, source: row.get(3)? }));
    }
    Ok(shapes)
}

/// The id behind a number in the file.
pub(super) fn run_id(number: i64) -> RunId {
    RunId::from_u64(number.cast_unsigned())
}

/// A count as SQLite takes it.
pub(super) fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The number of an id in the file: ids fit 63 bits.
pub(super) fn run_number(run: RunId) -> i64 {
    run.as_u64().cast_signed()
}

impl Tx<'_> {
    /// The number of a shape, a new one when it was not seen before.
    pub(super) fn shape(&mut self, shape: &Shape) -> rusqlite::Result<i64> {
        if let Some(id) = self.memo.shapes.get(shape) {
            return Ok(*id);
        }
        self.connection
            .prepare_cached("INSERT INTO shapes (workflow, trigger, source) VALUES (?1, ?2, ?3)")?
            .execute(params![shape.workflow.as_str(), trigger_code(shape.trigger), shape.source])?;
        let id = self.connection.last_insert_rowid();
        self.memo.shapes.insert(shape.clone(), id);
        self.memo.uncommitted.push(shape.clone());
        Ok(id)
    }
}
