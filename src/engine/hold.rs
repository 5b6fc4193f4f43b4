//! How others reach the worker of a run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::log::read;
use crate::domain::event::Event;
use crate::domain::run::Run;
use crate::id::RunId;

/// How others reach the worker of a run. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Hold {
    /// It is to stop.
    pub(super) cancel: CancellationToken,
    /// Somebody else wrote to the run's log, or handed something over.
    pub(super) news: Arc<Notify>,
    inbox: Arc<Mutex<Vec<Handed>>>,
}

/// Events that the worker is to write, because it writes so often that nobody else gets in.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) events: Vec<Event>,
    /// Whether they are on record.
    pub(super) written: oneshot::Sender<bool>,
}

/// How long a worker is given to write what was handed to it.
const HANDED_MAX: Duration = Duration::from_secs(5);

impl Hold {
    /// What was handed over since the last look.
    pub(super) fn take_handed(&self) -> Vec<Handed> {
        std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn hand(&self, handed: Handed) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).push(handed);
        self.news.notify_one();
    }
}

impl Engine {
    /// Lets the worker of this process that drives a run write these events. Nothing when there is none, or when it did
    /// not; it may then still come to it, which all such events bear.
    pub(super) async fn hand_over(&self, id: RunId, events: &[Event]) -> Option<Run> {
        let hold = self.table().active.get(&id).cloned()?;
        let (written, answer) = oneshot::channel();
        hold.hand(Handed { events: events.to_vec(), written });
        let written = tokio::time::timeout(HANDED_MAX, answer).await.ok()?.ok()?;
        if written { read(self.store().as_ref(), id).await.ok() } else { None }
    }
}
