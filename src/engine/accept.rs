//! The one way in: deliveries, slots and calls all become runs here, in one durable write that dedupes them.

use std::time::Duration;

use bytes::Bytes;

use super::Engine;
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
        let starts = intake.runs.iter().any(|accepted| !accepted.held);
        let acceptance = Acceptance {
            key: intake.key,
            window: intake.window,
            replay_guard: intake.replay_guard,
            at: self.0.parts.clock.now(),
            runs: intake.runs.into_iter().map(|accepted| NewRun { accepted, body: intake.body.clone() }).collect(),
        };
        let accept = self.0.parts.store.accept(acceptance);
        let receipt = tokio::time::timeout(limits::ACCEPT_TIMEOUT, accept).await.map_err(|_| AcceptError::Slow)??;
        if starts && matches!(receipt, Receipt::New(_)) {
            self.0.wake.notify_one();
        }
        Ok(receipt)
    }
}
