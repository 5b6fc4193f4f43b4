//! Lets artifacts go with their runs: what belongs to a run that is gone, or whose payloads were let go, is removed.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::artifacts::Artifacts;
use crate::clock::Clock;
use crate::domain::event::Event;
use crate::engine::Retention;
use crate::id::RunId;
use crate::limits;
use crate::store::{self, Store};

/// Looks after artifacts.
pub(super) struct Sweep {
    pub(super) artifacts: Artifacts,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) retention: Retention,
}

impl Sweep {
    /// Looks now and then until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut after = None;
        loop {
            let pause = match self.look(after).await {
                Ok(Some(last)) => {
                    after = Some(last);
                    limits::ARTIFACT_SWEEP_PAUSE
                }
                Ok(None) => {
                    after = None;
                    limits::ARTIFACT_SWEEP_EVERY
                }
                Err(why) => {
                    tracing::warn!(why, "artifacts of old runs could not be let go; trying again");
                    after = None;
                    limits::ARTIFACT_SWEEP_EVERY
                }
            };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// One bounded look at the oldest runs behind `after`; answers where the next one begins, if there is more.
    async fn look(&self, after: Option<RunId>) -> Result<Option<RunId>, String> {
        let now = self.clock.now();
        let places = self.artifacts.store();
        if after.is_none() {
            places.tidy(now.minus(limits::ARTIFACT_UNFINISHED_KEPT)).await.map_err(|error| error.to_string())?;
        }
        let runs = places.runs(after, limits::ARTIFACT_SWEEP_RUNS).await.map_err(|error| error.to_string())?;
        let Retention { runs: kept, payloads, failed_runs } = self.retention;
        let youngest: Duration = kept.min(payloads).min(failed_runs);
        for run in &runs {
            // Before that no rule lets anything of it go, so its log need not be read.
            if now.since(run.made_at()) < youngest {
                return Ok(None);
            }
            if self.is_over(*run).await? {
                places.remove(*run).await.map_err(|error| error.to_string())?;
                tracing::info!(run.id = %run, "the artifacts of {run} went with it");
            }
        }
        Ok(runs.last().copied().filter(|_| runs.len() == limits::ARTIFACT_SWEEP_RUNS))
    }

    /// Whether the run is gone or stripped. Only its log decides: lists lag.
    async fn is_over(&self, run: RunId) -> Result<bool, String> {
        match self.store.log(run).await {
            Err(store::Error::NoRun(_)) => Ok(true),
            Err(error) => Err(error.to_string()),
            Ok(log) => Ok(log.is_empty()
                || log.iter().any(|entry| matches!(&entry.event, Event::Accepted(accepted) if accepted.stripped))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::artifacts::Label;
    use crate::clock::TestClock;
    use crate::clock::Timestamp;
    use crate::store::memory::Memory;

    const DAY: Duration = Duration::from_hours(24);

    #[tokio::test]
    async fn artifacts_of_runs_that_are_gone_go_when_their_time_has_come() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_secs(1_795_338_000);
        let artifacts = Artifacts::in_folder(folder.path());
        let sweep = Sweep {
            artifacts: artifacts.clone(),
            store: Arc::new(Memory::new()),
            clock: Arc::new(TestClock::at(now)),
            retention: Retention { runs: 3 * DAY, payloads: DAY, failed_runs: 5 * DAY },
        };
        let made = async |age: Duration| {
            let run = RunId::floor(now.minus(age));
            let mut writer = artifacts.writer(run, 10).await.unwrap();
            writer.write(b"abc").await.unwrap();
            writer.publish(Label::default()).await.unwrap()
        };
        let (old, young) = (made(2 * DAY).await, made(DAY / 2).await);
        assert_eq!(sweep.look(None).await.unwrap(), None);
        assert!(artifacts.reader(&old).await.is_err(), "the store knows no such run");
        assert!(artifacts.reader(&young).await.is_ok(), "its run may be on its way");
    }
}
