//! One call of the writer: what to do in a transaction, and whom to tell when it is committed.

use std::fmt;

use tokio::sync::oneshot;

use super::super::Error;
use super::trouble::{Outcome, Trouble, sql_error};
use super::writer::Tx;

/// One thing to do in a transaction, and somebody to tell.
pub(super) trait Command: Send + fmt::Debug {
    /// Does it; an error undoes the whole transaction.
    fn run(&mut self, tx: &mut Tx<'_>) -> rusqlite::Result<()>;
    /// Tells the caller, once it is committed or has failed.
    fn answer(self: Box<Self>, failure: Option<&rusqlite::Error>);
}

/// Tells everyone that it is committed. Each is told by itself and from here: one of them may be kept from listening
/// until another one has heard.
pub(super) fn answer_all(batch: &mut Vec<Box<dyn Command>>) {
    for command in batch.drain(..) {
        command.answer(None);
    }
}

/// Tells everyone that it failed.
pub(super) fn fail_all(batch: &mut Vec<Box<dyn Command>>, failure: &rusqlite::Error) {
    for command in batch.drain(..) {
        command.answer(Some(failure));
    }
}

/// A closure to run, with the caller's end of it.
struct Call<T, F> {
    doing: &'static str,
    work: F,
    outcome: Option<Result<T, Error>>,
    reply: oneshot::Sender<Answer<T, F>>,
}

/// What a caller is told.
pub(super) struct Answer<T, F> {
    pub(super) outcome: Result<T, Error>,
    /// Dropped by the caller: memory is freed fastest where it was taken.
    _work: F,
}

/// A command that runs `work` and gives what came of it; `work` may run more than once, and only the last run counts.
pub(super) fn command<T, F>(doing: &'static str, work: F) -> (Box<dyn Command>, oneshot::Receiver<Answer<T, F>>)
where
    T: Send + 'static,
    F: FnMut(&mut Tx<'_>) -> Outcome<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Call { doing, work, outcome: None, reply }), answer)
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

    fn answer(self: Box<Self>, failure: Option<&rusqlite::Error>) {
        let doing = self.doing;
        let never = || Err(Error::Failed { doing, why: "it was not done".into() });
        let outcome = match failure {
            None => self.outcome.unwrap_or_else(never),
            Some(error) => Err(sql_error(doing, error)),
        };
        // A caller that went away does not want to know.
        let _ = self.reply.send(Answer { outcome, _work: self.work });
    }
}

impl<T, F> fmt::Debug for Call<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", self.doing)
    }
}
