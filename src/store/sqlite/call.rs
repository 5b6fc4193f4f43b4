//! One call of the writer: what to do in a transaction, and whom to tell when it is committed.

use std::fmt;
use std::thread::{self, ThreadId};

use tokio::sync::oneshot;

use super::super::Error;
use super::trouble::{Outcome, Trouble, sql_error};
use super::writer::Tx;

/// One thing to do in a transaction, and somebody to tell.
pub(super) trait Command: Send + fmt::Debug {
    /// Does it; an error undoes the whole transaction.
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    /// Tells the caller, once it is committed or has failed, and lets it tell the others.
    fn answer(self: Box<Self>, failure: Option<&rusqlite::Error>, others: Others);
    /// The thread on which the caller began to wait.
    fn waits_on(&self) -> ThreadId;
}

/// Commands that are committed and wait to be answered: told when this is dropped, whatever drops it.
#[derive(Debug, Default)]
pub(super) struct Others(Vec<Box<dyn Command>>);

impl Drop for Others {
    fn drop(&mut self) {
        for command in self.0.drain(..) {
            command.answer(None, Self::default());
        }
    }
}

/// Tells everyone that it is committed. To wake a thread costs a system call, which is more than all the rest of an
/// answer: so only one of those who wait on a thread is woken from here, and tells the others from there.
pub(super) fn answer_all(batch: &mut Vec<Box<dyn Command>>) {
    let mut threads: Vec<(ThreadId, Box<dyn Command>, Others)> = Vec::new();
    for command in batch.drain(..) {
        match threads.iter_mut().find(|(thread, ..)| *thread == command.waits_on()) {
            Some((_, _, others)) => others.0.push(command),
            None => threads.push((command.waits_on(), command, Others::default())),
        }
    }
    for (_, command, others) in threads {
        command.answer(None, others);
    }
}

/// Tells everyone that it failed.
pub(super) fn fail_all(batch: &mut Vec<Box<dyn Command>>, failure: &rusqlite::Error) {
    for command in batch.drain(..) {
        command.answer(Some(failure), Others::default());
    }
}

/// A closure to run, with the caller's end of it.
struct Call<T, F> {
    doing: &'static str,
    work: F,
    outcome: Option<Result<T, Error>>,
    reply: oneshot::Sender<Answer<T, F>>,
    waits_on: ThreadId,
}

/// What a caller is told.
pub(super) struct Answer<T, F> {
    pub(super) outcome: Result<T, Error>,
    /// Dropped by the caller: memory is freed fastest where it was taken.
    _work: F,
    _others: Others,
}

/// A command that runs `work` and gives what came of it; `work` may run more than once, and only the last run counts.
pub(super) fn command<T, F>(doing: &'static str, work: F) -> (Box<dyn Command>, oneshot::Receiver<Answer<T, F>>)
where
    T: Send + 'static,
    F: FnMut(&mut Tx<'_>) -> Outcome<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Call { doing, work, outcome: None, reply, waits_on: thread::current().id() }), answer)
}

impl<T, F> Command for Call<T, F>
where
    T: Send,
    F: FnMut(&mut Tx<'_>) -> Outcome<T> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()> {
        self.outcome = Some(match (self.work)(tx) {
            Ok(value) => Ok(value),
            Err(Trouble::Sql(error)) => return Err(error),
            // It may have written before it stopped: undo that too.
            Err(Trouble::Broken(why)) => return Err(rusqlite::Error::ToSqlConversionFailure(why.into())),
            Err(Trouble::Refused(error)) => Err(error),
        });
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<&rusqlite::Error>, others: Others) {
        let doing = self.doing;
        let never = || Err(Error::Failed { doing, why: "it was not done".into() });
        let outcome = match failure {
            None => self.outcome.unwrap_or_else(never),
            Some(error) => Err(sql_error(doing, error)),
        };
        // A caller that went away does not want to know.
        let _ = self.reply.send(Answer { outcome, _work: self.work, _others: others });
    }

    fn waits_on(&self) -> ThreadId {
        self.waits_on
    }
}

impl<T, F> fmt::Debug for Call<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", self.doing)
    }
}
