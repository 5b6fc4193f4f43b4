//! Since when the sweep of a route can tell what was accepted: kept from the moment at which its keys are made as now.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Engine, Error};
use crate::clock::Timestamp;
use crate::domain::schedule::State;
use crate::domain::sweep::{MARK, Mark, mark_name};
use crate::tasks::plan::SchedulePlan;

impl Engine {
    /// Marks the beginning of every sweep that is new or makes other keys than before, and forgets those that are
    /// switched off. What is older than a beginning was accepted under other keys, or by somebody else, and would run
    /// twice.
    pub(super) async fn begin_sweeps(&self, schedules: &[Arc<SchedulePlan>], now: Timestamp) -> Result<(), Error> {
        let sweeps: Vec<_> = schedules.iter().filter_map(|plan| Some((plan, plan.sweep.as_ref()?))).collect();
        if sweeps.is_empty() {
            return Ok(());
        }
        let marks: BTreeMap<_, _> = self.store().marks(MARK).await?.into_iter().collect();
        for (plan, sweep) in sweeps {
            let name = mark_name(&sweep.of.route);
            let mark = marks.get(&name).map(|text| Mark::parse(text));
            let stands =
                mark.as_ref().is_some_and(|mark| mark.as_ref().is_some_and(|mark| mark.terms == sweep.of.terms));
            match plan.schedule.state {
                State::Disabled if mark.is_some() => self.store().set_mark(&name, None).await?,
                State::Active | State::Paused if !stands => {
                    let begun = Mark::new(sweep.of.terms.clone(), now);
                    self.store().set_mark(&name, Some(&begun.to_string())).await?;
                    tracing::info!(route = %sweep.of.route, "sweeps of route {} look at what changes from now on", sweep.of.route);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
