//! Blocking work of a task on a thread of its own, with artifacts as plain readers and writers. When the attempt is cut
//! off, the work ends at its next read, write or look.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf as _, Bytes};
use tokio::runtime::Handle as Runtime;
use tokio::sync::Semaphore;

use crate::artifacts::{self, Artifacts, Handle, Label, Reader, Writer};
use crate::domain::failure::{Class, Failure, Fault};
use crate::id::RunId;
use crate::limits;

/// Threads for tables, in all runs together: each may hold some megabytes and a core.
static THREADS: Semaphore = Semaphore::const_new(limits::TABLE_THREADS_MAX);

/// What work on a thread of its own may use.
#[derive(Debug, Clone)]
pub(in crate::tasks) struct Aside {
    runtime: Runtime,
    over: Arc<AtomicBool>,
    artifacts: Artifacts,
    run: RunId,
}

/// Tells the thread that nobody waits any more.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Does `work` aside, when its turn comes.
pub(in crate::tasks) async fn aside<T: Send + 'static>(
    artifacts: &Artifacts,
    run: RunId,
    work: impl FnOnce(&Aside) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let here = |why: String| Failure::new("table.failed", Fault::Here, why).retriable(Class::Connect, None);
    let turn = THREADS.acquire().await.map_err(|error| here(error.to_string()))?;
    let over = Over(Arc::default());
    let aside = Aside { runtime: Runtime::current(), over: Arc::clone(&over.0), artifacts: artifacts.clone(), run };
    let done = tokio::task::spawn_blocking(move || {
        // The turn is over when the thread is, not when nobody waits for it.
        let _turn = turn;
        work(&aside)
    });
    let done = done.await.map_err(|error| here(format!("the work broke off: {error}")))?;
    drop(over);
    done
}

impl Aside {
    /// Whether nobody waits any more.
    pub(in crate::tasks) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// The flag behind it, for callbacks.
    pub(in crate::tasks) fn over(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.over)
    }

    pub(in crate::tasks) fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    pub(in crate::tasks) fn run(&self) -> RunId {
        self.run
    }

    /// Waits for something that is not blocking.
    pub(in crate::tasks) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Begins to read an artifact.
    pub(in crate::tasks) fn read(&self, handle: &Handle) -> Result<Pull, artifacts::Error> {
        let reader = self.wait(self.artifacts.reader(handle))?;
        Ok(Pull { aside: self.clone(), reader, rest: Bytes::new(), ended: false })
    }

    /// Begins to write an artifact.
    pub(in crate::tasks) fn write(&self, bytes_max: u64) -> Result<Push, artifacts::Error> {
        let writer = self.wait(self.artifacts.writer(self.run, bytes_max))?;
        Ok(Push { aside: self.clone(), writer })
    }
}

/// An artifact as a plain reader.
#[derive(Debug)]
pub(in crate::tasks) struct Pull {
    aside: Aside,
    reader: Reader,
    rest: Bytes,
    ended: bool,
}

impl Read for Pull {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.ended {
            if self.aside.is_over() {
                return Err(io::Error::other(artifacts::Error::Over));
            }
            match self.aside.runtime.block_on(self.reader.next()).map_err(io::Error::other)? {
                Some(piece) => self.rest = piece,
                None => self.ended = true,
            }
        }
        let taken = buf.len().min(self.rest.len());
        buf[..taken].copy_from_slice(&self.rest[..taken]);
        self.rest.advance(taken);
        Ok(taken)
    }
}

/// An artifact as a plain writer. Dropped before it is published, it was never there.
#[derive(Debug)]
pub(in crate::tasks) struct Push {
    aside: Aside,
    writer: Writer,
}

impl Push {
    pub(in crate::tasks) fn publish(self, label: Label) -> Result<Handle, artifacts::Error> {
        let Self { aside, writer } = self;
        aside.wait(writer.publish(label))
    }
}

impl Write for Push {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.aside.is_over() {
            return Err(io::Error::other(artifacts::Error::Over));
        }
        self.aside.runtime.block_on(self.writer.write(buf)).map_err(io::Error::other)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The failure behind an error of a [`Push`].
pub(in crate::tasks) fn write_failure(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<artifacts::Error>()) {
        Some(error) => error.failure(),
        None => Failure::new("table.failed", Fault::Here, format!("the table could not be written: {error}")),
    }
}
