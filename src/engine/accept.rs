//! The one way in: deliveries, slots and calls all become runs here, in one durable write that dedupes them.

use std::time::Duration;

use bytes::Bytes;

use super::Engine;
use crate::clock::Timestamp;
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::Accepted;
use crate::limits;
use crate::store::{self, Acceptance, NewRun, Receipt};

/// Something that wants to become runs.
#[derive(Debug, Clone)]
pub struct Intake {
    /// What makes it the same as another.
    pub key: DeliveryKey,
    /// How long it is remembered.
    pub window: Duration,
    /// Flag the runs when this body came before under another key.
    pub replay_guard: Option<DeliveryKey>,
    /// One run for each.
    pub runs: Vec<Accepted>,
    /// Raw body of the delivery, after redaction.
    pub body: Bytes,
}

/// Why nothing was accepted. In every case the sender should come again.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The store did not say in time whether it wrote. If it did, the next try is a duplicate and gets the same runs.
    #[error("the store did not answer within {} s", limits::ACCEPT_TIMEOUT.as_secs())]
    Slow,
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Draining,
}

impl Engine {
    /// Accepts once. When this returns `Ok`, the runs are on disk.
    pub async fn accept(&self, intake: Intake) -> Result<Receipt, AcceptError> {
        if self.is_draining() {
            return Err(AcceptError::Draining);
        }
        let starts = intake.starts();
        let accept = self.0.parts.store.accept(intake.acceptance(self.0.parts.clock.now()));
        let receipt = tokio::time::timeout(limits::ACCEPT_TIMEOUT, accept).await.map_err(|_| AcceptError::Slow)??;
        if starts && matches!(receipt, Receipt::New(_)) {
            self.0.wake.notify_one();
        }
        Ok(receipt)
    }

    /// Accepts what came in one request, once each. When this returns `Ok`, the runs of all of them are on disk.
    pub async fn accept_all(&self, intakes: Vec<Intake>) -> Result<Vec<Receipt>, AcceptError> {
        if self.is_draining() {
            return Err(AcceptError::Draining);
        }
        let starts = intakes.iter().any(Intake::starts);
        let at = self.0.parts.clock.now();
        let accept = self.0.parts.store.accept_all(intakes.into_iter().map(|intake| intake.acceptance(at)).collect());
        let receipts = tokio::time::timeout(limits::ACCEPT_TIMEOUT, accept).await.map_err(|_| AcceptError::Slow)??;
        if starts && receipts.iter().any(|receipt| matches!(receipt, Receipt::New(_))) {
            self.0.wake.notify_one();
        }
        Ok(receipts)
    }
}

impl Intake {
    /// Whether any of its runs is to begin at once.
    fn starts(&self) -> bool {
        self.runs.iter().any(|accepted| !accepted.held)
    }

    fn acceptance(self, at: Timestamp) -> Acceptance {
        let Self { key, window, replay_guard, runs, body } = self;
        let runs = runs.into_iter().map(|accepted| NewRun { accepted, body: body.clone() }).collect();
        Acceptance { key, window, replay_guard, at, runs }
    }
}
