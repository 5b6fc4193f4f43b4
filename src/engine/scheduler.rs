//! Enters slots: sleeps to the next one and goes through the same `accept` as every delivery, keyed by schedule and due
//! time, so that restarts, clock jumps and second schedulers cannot fire one twice. How far a schedule has come is a
//! mark in the store; losing it can repeat a slot's `accept`, never its run.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::accept::{AcceptError, Intake};
use super::log::read;
use super::{Engine, Error};
use crate::clock::Timestamp;
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::Accepted;
use crate::domain::journal::{JournalEntry, JournalKind};
use crate::domain::schedule::{GivenUp, Overlap, State as ScheduleState};
use crate::domain::state::State;
use crate::domain::trigger::{Trigger, TriggerKind};
use crate::id::{RunId, ScheduleName};
use crate::limits;
use crate::store::{Receipt, RunQuery};
use crate::tasks::plan::SchedulePlan;

/// The loop looks at the clock at least this often, so that a clock that jumps is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Pause after the store refused.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How a schedule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleStatus {
    /// The newest slot that was dealt with.
    pub dealt_with: Option<Timestamp>,
    /// Who paused it and why, when it was not the file.
    pub paused: Option<String>,
}

/// What a backfill did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backfill {
    /// Slots that were missed and run now.
    pub entered: Vec<(Timestamp, RunId)>,
    /// Slots that had been entered before: nothing happens to them.
    pub known: Vec<Timestamp>,
    /// There are more slots in the range than one backfill takes.
    pub more: bool,
}

impl Engine {
    pub(super) async fn scheduler_loop(&self) {
        loop {
            let next = self.run_schedules().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "slots could not be entered; trying again");
                Some(self.0.parts.clock.now().plus(LOOK_AGAIN))
            });
            let pause = next.map_or(LOOK_EVERY, |next| next.since(self.0.parts.clock.now())).min(LOOK_EVERY);
            tokio::select! {
                () = self.0.drain.cancelled() => return,
                () = self.0.reschedule.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Enters every slot that is due, and answers when the next one is.
    pub async fn run_schedules(&self) -> Result<Option<Timestamp>, Error> {
        let schedules = self.0.parts.files.schedules();
        if schedules.is_empty() {
            return Ok(None);
        }
        // Taken before the marks are read: a process that stood still in between must not pass over what another one,
        // which wrote the first mark meanwhile, is about to enter.
        let looked_at = self.0.parts.clock.now();
        self.begin_sweeps(&schedules, looked_at).await?;
        let marks: BTreeMap<_, _> = self.store().marks(WATERMARK).await?.into_iter().collect();
        let paused: BTreeMap<_, _> = self.store().marks(PAUSED).await?.into_iter().collect();
        let mut next = None;
        for plan in schedules {
            let name = plan.schedule.name.as_str();
            if plan.schedule.state == ScheduleState::Paused || paused.contains_key(&format!("{PAUSED}{name}")) {
                continue;
            }
            let mark = marks.get(&format!("{WATERMARK}{name}")).and_then(|mark| mark.parse().ok());
            let fires = self.run_schedule(&plan, mark.map(Timestamp::from_millis), looked_at).await?;
            next = [next, fires].into_iter().flatten().min();
        }
        Ok(next)
    }

    /// Enters the slots of one schedule that are due, and answers when it fires next.
    async fn run_schedule(
        &self,
        plan: &SchedulePlan,
        mark: Option<Timestamp>,
        looked_at: Timestamp,
    ) -> Result<Option<Timestamp>, Error> {
        let schedule = &plan.schedule;
        let now = self.0.parts.clock.now();
        // A schedule that was never seen, or that is switched off, has missed nothing.
        let Some(watermark) = mark.filter(|_| schedule.state == ScheduleState::Active) else {
            self.set_watermark(&schedule.name, looked_at).await?;
            return Ok(fires_after(plan, looked_at));
        };
        let Some(fires) = fires_after(plan, watermark) else { return Ok(None) };
        if fires > now {
            return Ok(Some(fires));
        }
        let first = schedule.rule.next_after(watermark).map_or(Duration::ZERO, |slot| schedule.jitter_of(slot.due));
        let missed = schedule.missed(watermark, now.minus(first));
        if let Some(given_up) = &missed.given_up {
            self.tell_missed(plan, given_up).await?;
            self.alert_missed(plan, given_up).await;
        }
        let mut dealt_with = missed.given_up.map_or(watermark, |given_up| given_up.last);
        for slot in missed.enter {
            // Each slot has its own jitter: one whose moment has not come waits for the next look.
            if slot.due.plus(schedule.jitter_of(slot.due)) > now {
                break;
            }
            self.enter(plan, slot.due).await?;
            dealt_with = dealt_with.max(slot.due);
        }
        self.set_watermark(&schedule.name, dealt_with).await?;
        Ok(fires_after(plan, dealt_with))
    }

    async fn enter(&self, plan: &SchedulePlan, due: Timestamp) -> Result<(), Error> {
        let schedule = &plan.schedule;
        if matches!(schedule.overlap, Overlap::Skip | Overlap::CancelRunning) {
            let running = self.open_runs(&schedule.name, due).await?;
            if let (Overlap::Skip, Some(run)) = (schedule.overlap, running.first()) {
                return self.tell_skipped(plan, due, *run).await;
            }
            for run in running {
                let reason = format!("`overlap: cancel_running`: the slot of {due} is due");
                match self.cancel(run, "schedule", &reason).await {
                    Ok(_) | Err(Error::State { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.accept_slot(plan, due, false).await?;
        let late = self.0.parts.clock.now().since(due.plus(schedule.jitter_of(due)));
        metrics::histogram!("clawhook_slot_lateness_seconds").record(late.as_secs_f64());
        Ok(())
    }

    async fn accept_slot(&self, plan: &SchedulePlan, due: Timestamp, backfill: bool) -> Result<Receipt, Error> {
        let name = plan.schedule.name.clone();
        let revision = self.0.parts.files.current_plan(&plan.workflow).map(|plan| plan.revision.clone());
        // A schedule that is in force names a workflow that is.
        let revision = revision.unwrap_or_else(|| plan.revision.clone());
        let trigger = Trigger::Slot { schedule: name.clone(), revision: plan.revision.clone(), due, backfill };
        let accepted = Accepted::new(plan.workflow.clone(), revision, trigger);
        let intake = Intake {
            key: DeliveryKey::of_slot(&name, due),
            window: limits::SLOT_KEY_WINDOW,
            replay_guard: None,
            runs: vec![accepted],
            body: Bytes::new(),
        };
        match self.accept(intake).await {
            Ok(receipt) => Ok(receipt),
            Err(AcceptError::Store(error)) => Err(error.into()),
            Err(error @ (AcceptError::Slow | AcceptError::Draining)) => {
                Err(Error::Store(crate::store::Error::Failed { doing: "entering a slot", why: error.to_string() }))
            }
        }
    }

    /// Runs of other slots of this schedule that have not ended, oldest first. The slot's own run is there already
    /// when a process ended between entering it and setting the mark.
    async fn open_runs(&self, name: &ScheduleName, due: Timestamp) -> Result<Vec<RunId>, Error> {
        let query = RunQuery {
            states: vec![State::Queued, State::Running, State::Waiting, State::Cancelling],
            trigger: Some(TriggerKind::Slot),
            source: Some(name.to_string()),
            limit: limits::PAGE_MAX,
            ..RunQuery::default()
        };
        let mut runs = Vec::new();
        for head in self.store().runs(&query).await?.into_iter().rev() {
            let run = read(self.store().as_ref(), head.id).await?;
            if !matches!(run.accepted.trigger, Trigger::Slot { due: other, .. } if other == due) {
                runs.push(run.id);
            }
        }
        Ok(runs)
    }

    /// Enters the slots of a range that were missed; those that were entered before stay as they are.
    pub async fn backfill(&self, plan: &SchedulePlan, since: Timestamp, until: Timestamp) -> Result<Backfill, Error> {
        let until = until.min(self.0.parts.clock.now());
        let found = plan.schedule.backfill(since, until, &std::collections::BTreeSet::new(), limits::CATCHUP_SLOTS_MAX);
        let mut done = Backfill { more: found.more, ..Backfill::default() };
        for slot in found.slots {
            match self.accept_slot(plan, slot.due, true).await? {
                Receipt::New(runs) => done.entered.extend(runs.into_iter().map(|run| (slot.due, run))),
                Receipt::Duplicate(_) => done.known.push(slot.due),
            }
        }
        Ok(done)
    }

    /// How a schedule stands.
    pub async fn schedule_status(&self, name: &ScheduleName) -> Result<ScheduleStatus, Error> {
        let one = |prefix: &'static str| async move {
            let marks = self.store().marks(&format!("{prefix}{name}")).await?;
            let wanted = format!("{prefix}{name}");
            Ok::<_, Error>(marks.into_iter().find(|(mark, _)| *mark == wanted).map(|(_, value)| value))
        };
        let dealt_with = one(WATERMARK).await?.and_then(|mark| mark.parse().ok()).map(Timestamp::from_millis);
        Ok(ScheduleStatus { dealt_with, paused: one(PAUSED).await? })
    }

    /// Pauses a schedule, or lets it go on; `reason` is shown to everyone. Slots that passed meanwhile are missed, and
    /// `catchup` rules.
    pub async fn pause_schedule(&self, name: &ScheduleName, reason: Option<&str>) -> Result<(), Error> {
        self.store().set_mark(&format!("{PAUSED}{name}"), reason).await?;
        self.0.reschedule.notify_one();
        Ok(())
    }

    async fn set_watermark(&self, name: &ScheduleName, at: Timestamp) -> Result<(), Error> {
        Ok(self.store().set_mark(&format!("{WATERMARK}{name}"), Some(&at.as_millis().to_string())).await?)
    }

    async fn tell_missed(&self, plan: &SchedulePlan, given_up: &GivenUp) -> Result<(), Error> {
        let name = &plan.schedule.name;
        let count = given_up.count;
        metrics::counter!("clawhook_slots_missed_total", "schedule" => name.to_string()).increment(count as u64);
        tracing::warn!(schedule = %name, count, "{count} slots of schedule {name} were missed, from {} to {}", given_up.first, given_up.last);
        let detail = json!({
            "count": count,
            "at_least": given_up.more,
            "first": given_up.first.to_string(),
            "last": given_up.last.to_string(),
            "alert": plan.alert_if_missed,
            "help": format!("clawhook schedules backfill {name} --since {} --until {}", given_up.first, given_up.last.plus(Duration::from_secs(1))),
        });
        self.tell("schedule.missed", name, detail).await
    }

    async fn tell_skipped(&self, plan: &SchedulePlan, due: Timestamp, running: RunId) -> Result<(), Error> {
        let name = &plan.schedule.name;
        metrics::counter!("clawhook_slots_skipped_total", "schedule" => name.to_string()).increment(1);
        tracing::warn!(schedule = %name, run.id = %running, "the slot of {due} of schedule {name} was skipped: {running} has not ended");
        let detail = json!({ "due": due.to_string(), "running": running, "alert": plan.alert_if_missed });
        self.tell("schedule.skipped", name, detail).await
    }

    async fn tell(&self, what: &str, name: &ScheduleName, detail: Value) -> Result<(), Error> {
        let detail = match detail {
            Value::Object(detail) => detail,
            _ => Map::new(),
        };
        let entry = JournalEntry {
            kind: JournalKind::Gateway,
            at: self.0.parts.clock.now(),
            what: what.to_owned(),
            subject: name.to_string(),
            cause: String::new(),
            detail,
            body: Bytes::new(),
        };
        Ok(self.store().journal_append(vec![entry]).await?)
    }
}

/// When the first slot after `after` is entered: when it is due, and its jitter later.
fn fires_after(plan: &SchedulePlan, after: Timestamp) -> Option<Timestamp> {
    let slot = plan.schedule.rule.next_after(after)?;
    Some(slot.due.plus(plan.schedule.jitter_of(slot.due)))
}

/// Mark: the newest slot that was dealt with, in milliseconds since the Unix epoch.
const WATERMARK: &str = "schedule/";
/// Mark: who paused the schedule, and why.
const PAUSED: &str = "paused/schedule/";
