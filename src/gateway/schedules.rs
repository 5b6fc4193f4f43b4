//! Schedules: listed with their coming slots, paused, resumed, backfilled.

use std::sync::Arc;

use serde_json::json;

use super::{Caller, Error, Gateway, Scope, view};
use crate::clock::Timestamp;
use crate::domain::schedule::{Slot, State};
use crate::id::ScheduleName;
use crate::tasks::plan::SchedulePlan;

/// Coming slots that a list shows for each schedule.
const NEXT_SHOWN: usize = 5;

impl Gateway {
    /// All schedules with their coming slots, in the order of their names.
    pub async fn schedules(&self, caller: &Caller) -> Result<Vec<view::Schedule>, Error> {
        caller.require(Scope::RunsRead)?;
        let mut shown = Vec::new();
        for plan in self.0.files.catalog().schedules.values() {
            shown.push(self.show_schedule(plan).await?);
        }
        Ok(shown)
    }

    async fn show_schedule(&self, plan: &SchedulePlan) -> Result<view::Schedule, Error> {
        let schedule = &plan.schedule;
        let status = self.0.engine.schedule_status(&schedule.name).await?;
        let now = self.0.clock.now();
        let paused = status.paused.or_else(|| (schedule.state == State::Paused).then(|| "by its file".to_owned()));
        let fires = schedule.state == State::Active && paused.is_none();
        let next = if fires {
            schedule.rule.after(now).take(NEXT_SHOWN).map(|slot| show_slot(plan, &slot)).collect()
        } else {
            Vec::new()
        };
        Ok(view::Schedule {
            name: schedule.name.to_string(),
            rule: schedule.rule.to_string(),
            timezone: schedule.rule.zone().map(|zone| zone.to_string()),
            workflow: plan.workflow.to_string(),
            enabled: schedule.state != State::Disabled,
            paused,
            dealt_with: status.dealt_with.map(|at| at.to_string()),
            next,
            parts: view::Route::parts(&plan.parts),
        })
    }

    /// Pauses a schedule: no slot is entered until it is resumed.
    pub async fn pause_schedule(&self, caller: &Caller, name: &str, reason: &str) -> Result<view::Schedule, Error> {
        caller.require(Scope::RunsWrite)?;
        let plan = self.schedule_named(name)?;
        let note = format!("{}: {reason}", caller.name);
        self.audit(caller, "schedule.pause", name, json!({ "reason": reason })).await?;
        self.0.engine.pause_schedule(&plan.schedule.name, Some(&note)).await?;
        self.show_schedule(&plan).await
    }

    /// Lets a schedule go on. Slots that passed meanwhile are missed, and its `catchup` rules.
    pub async fn resume_schedule(&self, caller: &Caller, name: &str) -> Result<view::Schedule, Error> {
        caller.require(Scope::RunsWrite)?;
        let plan = self.schedule_named(name)?;
        if plan.schedule.state == State::Paused {
            let message = format!("schedule `{name}` is paused by its file; take `paused: true` out of it and reload");
            return Err(Error::Conflict { code: "schedule.paused_by_file", message });
        }
        self.audit(caller, "schedule.resume", name, json!({})).await?;
        self.0.engine.pause_schedule(&plan.schedule.name, None).await?;
        self.show_schedule(&plan).await
    }

    /// Enters the slots from `since` on and before `until` that were missed; the others stay as they are.
    pub async fn backfill(
        &self,
        caller: &Caller,
        name: &str,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<view::Backfilled, Error> {
        caller.require(Scope::RunsWrite)?;
        let plan = self.schedule_named(name)?;
        let detail = json!({ "since": since.to_string(), "until": until.to_string() });
        self.audit(caller, "schedule.backfill", name, detail).await?;
        let done = self.0.engine.backfill(&plan, since, until).await?;
        let entered: Vec<_> = done
            .entered
            .iter()
            .map(|(due, run)| view::EnteredSlot { due: due.to_string(), run_id: run.to_string() })
            .collect();
        Ok(view::Backfilled { entered, known: done.known.iter().map(ToString::to_string).collect(), more: done.more })
    }

    fn schedule_named(&self, name: &str) -> Result<Arc<SchedulePlan>, Error> {
        let missing = || Error::NotFound { what: "schedule", name: name.to_owned() };
        let name = ScheduleName::new(name).map_err(|_| missing())?;
        self.0.files.catalog().schedules.get(&name).cloned().ok_or_else(missing)
    }
}

fn show_slot(plan: &SchedulePlan, slot: &Slot) -> view::Slot {
    let zone = plan.schedule.rule.zone().unwrap_or(chrono_tz::UTC);
    view::Slot {
        due: slot.due.to_string(),
        local: slot.due.to_utc().with_timezone(&zone).to_rfc3339(),
        note: slot.note.map(|note| note.to_string()),
    }
}
