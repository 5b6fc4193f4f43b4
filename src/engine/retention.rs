//! Lets old runs and payloads go, in bounded batches, so that the disk never fills with what nobody asked to keep.

use std::time::Duration;

use super::{Engine, Error};
use crate::store::{Prune, Pruned};

/// How long things are kept (`retention` in clawhook.yaml).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Runs that succeeded or were cancelled.
    pub runs: Duration,
    /// What came in and went out, of any run that has ended.
    pub payloads: Duration,
    /// Runs that failed.
    pub failed_runs: Duration,
}

/// Runs that one batch touches.
const BATCH: usize = 200;
/// Between two batches, so that deliveries get their turn.
const BETWEEN_BATCHES: Duration = Duration::from_millis(200);
/// Between two looks when nothing is left to do.
const LOOK_EVERY: Duration = Duration::from_mins(10);

impl Engine {
    pub(super) async fn retention_loop(&self) {
        loop {
            let pause = match self.prune().await {
                Ok(pruned) if pruned.more => BETWEEN_BATCHES,
                Ok(_) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(%error, "retention could not let old runs go; trying again");
                    LOOK_EVERY
                }
            };
            tokio::select! {
                () = self.0.drain.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One batch of retention.
    pub async fn prune(&self) -> Result<Pruned, Error> {
        let now = self.0.parts.clock.now();
        let keep = &self.0.parts.settings.retention;
        let prune = Prune {
            now,
            runs_before: now.minus(keep.runs),
            failed_before: now.minus(keep.failed_runs),
            payloads_before: now.minus(keep.payloads),
            batch_max: BATCH,
        };
        let pruned = self.store().prune(&prune).await?;
        if pruned.runs_deleted + pruned.runs_stripped > 0 {
            tracing::info!(deleted = pruned.runs_deleted, stripped = pruned.runs_stripped, "retention let old runs go");
        }
        Ok(pruned)
    }
}
