//! Lets artifacts go with their runs: what belongs to a run that is gone, or whose payloads were let go, is removed.
//! A run that the store does not know may as well be another store's. So every store has names, kept among its marks,
//! and leaves one in the place of its artifacts; nothing is removed where a name stands that is not the store's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Whether a person was told that the place is not this store's alone.
    pub(super) told: AtomicBool,
}

/// The name that is left beside artifacts of which nobody knows whose they are.
const UNKNOWN: &str = "unknown";

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
        if !self.is_ours().await? {
            return Ok(None);
        }
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

    /// Whether the place is this store's alone. Leaves the store's name there, so that other stores can tell.
    async fn is_ours(&self) -> Result<bool, String> {
        let ours = self.names().await?;
        let places = self.artifacts.store();
        let mut there = places.stores().await.map_err(|error| error.to_string())?;
        if !there.iter().any(|name| ours.contains(name)) {
            if there.is_empty() && !self.may_be_ours().await? {
                places.add_store(UNKNOWN).await.map_err(|error| error.to_string())?;
                there.push(UNKNOWN.to_owned());
            }
            for name in &ours {
                places.add_store(name).await.map_err(|error| error.to_string())?;
            }
        }
        let Some(other) = there.iter().find(|name| !ours.contains(name)) else { return Ok(true) };
        if !self.told.swap(true, Ordering::Relaxed) {
            let left = places.place_of_store(other);
            tracing::warn!(
                left,
                "artifacts of old runs are not let go: their place holds those of another store too, which left `{left}`; \
                 give each gateway with a store of its own its own `artifacts`, or remove `{left}` when no gateway uses \
                 that store any more"
            );
        }
        Ok(false)
    }

    /// The names of the store; made when there is none. It can have several, because gateways may start at one time, and
    /// because it may have taken in another store.
    async fn names(&self) -> Result<Vec<String>, String> {
        let marks = self.store.marks(store::ARTIFACT_NAME_MARK).await.map_err(|error| error.to_string())?;
        let names = marks.iter().filter_map(|(mark, _)| mark.strip_prefix(store::ARTIFACT_NAME_MARK));
        let mut names: Vec<_> = names.map(str::to_owned).collect();
        if names.is_empty() {
            let name = format!("{:032x}", rand::random::<u128>());
            let mark = format!("{}{name}", store::ARTIFACT_NAME_MARK);
            let made = self.clock.now().to_string();
            self.store.set_mark(&mark, Some(&made)).await.map_err(|error| error.to_string())?;
            names.push(name);
        }
        Ok(names)
    }

    /// Whether a place without names holds nothing, or something of a run that the store knows.
    async fn may_be_ours(&self) -> Result<bool, String> {
        let oldest = self.artifacts.store().runs(None, limits::ARTIFACT_SWEEP_RUNS).await;
        let oldest = oldest.map_err(|error| error.to_string())?;
        for run in &oldest {
            match self.store.log(*run).await {
                Err(store::Error::NoRun(_)) => {}
                Err(error) => return Err(error.to_string()),
                Ok(log) if log.is_empty() => {}
                Ok(_) => return Ok(true),
            }
        }
        Ok(oldest.is_empty())
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
    use crate::artifacts::{Handle, Label};
    use crate::clock::{TestClock, Timestamp};
    use crate::domain::delivery::DeliveryKey;
    use crate::domain::event::Accepted;
    use crate::domain::trigger::Trigger;
    use crate::id::Revision;
    use crate::store::memory::Memory;
    use crate::store::{Acceptance, NewRun, Receipt};

    const DAY: Duration = Duration::from_hours(24);

    struct Kit {
        folder: tempfile::TempDir,
        now: Timestamp,
    }

    impl Kit {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), now: Timestamp::from_secs(1_795_338_000) }
        }

        fn artifacts(&self) -> Artifacts {
            Artifacts::in_folder(self.folder.path())
        }

        fn sweep(&self, store: &Arc<Memory>) -> Sweep {
            Sweep {
                artifacts: self.artifacts(),
                store: Arc::<Memory>::clone(store),
                clock: Arc::new(TestClock::at(self.now)),
                retention: Retention { runs: 3 * DAY, payloads: DAY, failed_runs: 5 * DAY },
                told: AtomicBool::default(),
            }
        }

        async fn write(&self, run: RunId) -> Handle {
            let mut writer = self.artifacts().writer(run, 10).await.unwrap();
            writer.write(b"abc").await.unwrap();
            writer.publish(Label::default()).await.unwrap()
        }

        async fn write_of(&self, age: Duration) -> Handle {
            self.write(RunId::floor(self.now.minus(age))).await
        }

        async fn is_there(&self, handle: &Handle) -> bool {
            self.artifacts().reader(handle).await.is_ok()
        }

        /// Removes a name that a store left, as the warning says.
        fn forget(&self, name: &str) {
            std::fs::remove_file(self.artifacts().store().place_of_store(name)).unwrap();
        }
    }

    #[tokio::test]
    async fn artifacts_of_runs_that_are_gone_go_when_their_time_has_come() {
        let kit = Kit::new();
        let sweep = kit.sweep(&Arc::default());
        assert_eq!(sweep.look(None).await.unwrap(), None, "the place is empty, and this store's from now on");
        let (old, young) = (kit.write_of(2 * DAY).await, kit.write_of(DAY / 2).await);
        assert_eq!(sweep.look(None).await.unwrap(), None);
        assert!(!kit.is_there(&old).await, "the store knows no such run");
        assert!(kit.is_there(&young).await, "its run may be on its way");
    }

    #[tokio::test]
    async fn nothing_goes_from_a_place_that_another_store_uses() {
        let kit = Kit::new();
        let (first, second) = (Arc::default(), Arc::default());
        let first = kit.sweep(&first);
        first.look(None).await.unwrap();
        let old = kit.write_of(2 * DAY).await;

        // A gateway begins with another store: its own, or one that is empty again.
        let second_sweep = kit.sweep(&second);
        second_sweep.look(None).await.unwrap();
        assert!(kit.is_there(&old).await && second_sweep.told.load(Ordering::Relaxed));
        // From then on the first one lets go nothing either: some of it may be the second one's.
        first.look(None).await.unwrap();
        assert!(kit.is_there(&old).await && first.told.load(Ordering::Relaxed));

        // The same after a start, and until a person decides.
        kit.sweep(&second).look(None).await.unwrap();
        assert!(kit.is_there(&old).await);
        kit.forget(&first.names().await.unwrap()[0]);
        kit.sweep(&second).look(None).await.unwrap();
        assert!(!kit.is_there(&old).await);
    }

    #[tokio::test]
    async fn artifacts_without_names_are_left_to_a_person_unless_the_store_knows_their_runs() {
        let kit = Kit::new();
        let old = kit.write_of(2 * DAY).await;
        let sweep = kit.sweep(&Arc::default());
        for _ in 0..2 {
            sweep.look(None).await.unwrap();
            assert!(kit.is_there(&old).await && sweep.told.load(Ordering::Relaxed));
        }
        kit.forget(UNKNOWN);
        sweep.look(None).await.unwrap();
        assert!(!kit.is_there(&old).await);

        let kit = Kit::new();
        let store = Arc::new(Memory::new());
        let known = kit.write(accepted(&store, kit.now.minus(DAY / 2)).await).await;
        let old = kit.write_of(2 * DAY).await;
        kit.sweep(&store).look(None).await.unwrap();
        assert!(!kit.is_there(&old).await && kit.is_there(&known).await);
    }

    async fn accepted(store: &Memory, at: Timestamp) -> RunId {
        let trigger = Trigger::Manual { by: "a".to_owned() };
        let accepted = Accepted::new("w".parse().unwrap(), Revision::of(b"w"), trigger);
        let acceptance = Acceptance {
            key: DeliveryKey::of_call("a", "run", "1"),
            window: DAY,
            replay_guard: None,
            at,
            runs: vec![NewRun { accepted, body: bytes::Bytes::new() }],
        };
        match store.accept(acceptance).await.unwrap() {
            Receipt::New(runs) => runs[0],
            Receipt::Duplicate(_) => unreachable!("the key is new"),
        }
    }
}
