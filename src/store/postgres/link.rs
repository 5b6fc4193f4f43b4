//! A connection that is kept: a task of its own opens it, waits for its end and opens the next. Callers take what is
//! there; when nothing is, they wait for a moment and then fail, so that a door says 503 instead of hanging.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::Error;
use super::session::{Connector, Purpose, Session};
use super::trouble::{Outcome, Trouble};
use crate::limits;

/// A connection that is kept.
#[derive(Debug, Clone)]
pub(super) struct Link {
    status: watch::Receiver<Status>,
    limit: Duration,
}

#[derive(Debug, Clone)]
enum Status {
    Up(Arc<Session>),
    /// Since when, and why the last try to open another failed.
    Down(Instant, Arc<str>),
    Closed,
}

impl Link {
    /// Keeps a connection until `close`. The first one is given.
    pub(super) fn keep(connector: Arc<Connector>, purpose: Purpose, first: Session, close: CancellationToken) -> Self {
        let (status, watching) = watch::channel(Status::Up(Arc::new(first)));
        let limit = purpose.statement_max;
        let tracker = connector.tracker().clone();
        tracker.spawn(async move {
            let kept = async {
                loop {
                    let session =
                        if let Status::Up(session) = &*status.borrow() { Some(Arc::clone(session)) } else { None };
                    if let Some(session) = session {
                        session.ended().await;
                        tracing::warn!(
                            connection = purpose.name,
                            "a connection to PostgreSQL was lost; opening another"
                        );
                    }
                    let session = open(&connector, &purpose, &status).await;
                    if let Some(listener) = &purpose.listener {
                        // What was announced meanwhile was missed.
                        listener.came.notify_one();
                    }
                    status.send_replace(Status::Up(session));
                }
            };
            tokio::select! {
                () = kept => {}
                () = close.cancelled() => {}
            }
            status.send_replace(Status::Closed);
        });
        Self { status: watching, limit }
    }

    /// The open connection.
    pub(super) async fn session(&self) -> Outcome<Arc<Session>> {
        let mut status = self.status.clone();
        let usable = |status: &Status| match status {
            Status::Up(session) => !session.is_over(),
            Status::Down(..) => false,
            Status::Closed => true,
        };
        // Counted from the loss: in a long outage every call fails at once.
        let lost = if let Status::Down(since, _) = &*self.status.borrow() { *since } else { Instant::now() };
        let waited = tokio::time::timeout_at(lost + limits::POSTGRES_RECONNECT_WAIT, status.wait_for(usable)).await;
        let found = match waited {
            Ok(Ok(status)) => status.clone(),
            Ok(Err(_)) => Status::Closed,
            Err(_) => self.status.borrow().clone(),
        };
        match found {
            Status::Up(session) if !session.is_over() => Ok(session),
            Status::Up(_) => Err(Trouble::Away("it was lost, and another is being opened".to_owned())),
            Status::Down(_, why) => Err(Trouble::Away(why.to_string())),
            Status::Closed => Err(Trouble::Away("the store is closed".to_owned())),
        }
    }

    /// Work on the open connection, within what it is for.
    pub(super) async fn call<T, F>(&self, doing: &'static str, work: impl FnOnce(Arc<Session>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Outcome<T>>,
    {
        let session = self.session().await.map_err(|trouble| trouble.to_error(doing))?;
        let done = session.bounded(self.limit, work(Arc::clone(&session))).await;
        done.map_err(|trouble| trouble.to_error(doing))
    }
}

/// Tries until there is a connection, ever more slowly.
async fn open(connector: &Connector, purpose: &Purpose, status: &watch::Sender<Status>) -> Arc<Session> {
    let (mut pause, longest) = limits::POSTGRES_BACKOFF;
    let lost = Instant::now();
    loop {
        match connector.connect(purpose).await {
            Ok(session) => return Arc::new(session),
            Err(trouble) => {
                let why = trouble.to_error("connecting").to_string();
                tracing::debug!(connection = purpose.name, why, "cannot connect to PostgreSQL; trying again");
                status.send_replace(Status::Down(lost, why.into()));
            }
        }
        // Spread, so that many gateways do not come back in one moment.
        tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        pause = (pause * 2).min(longest);
    }
}
