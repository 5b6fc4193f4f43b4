//! The engine's part in telling people: where the book of alerts is kept, the loop that sends what is due, and what the
//! gateway itself has to say.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Engine;
use crate::channels::message::{Level, Message};
use crate::channels::{AlertBook, BookError};
use crate::domain::schedule::GivenUp;
use crate::id::ChannelName;
use crate::limits;
use crate::store::Store;
use crate::tasks::plan::SchedulePlan;

/// The book of alerts, kept as marks of the store.
#[derive(Debug)]
pub(super) struct Marks(pub(super) Arc<dyn Store>);

#[async_trait]
impl AlertBook for Marks {
    async fn read(&self, prefix: &str) -> Result<Vec<(String, String)>, BookError> {
        self.0.marks(prefix).await.map_err(|error| BookError(error.to_string()))
    }

    async fn write(&self, name: &str, text: Option<&str>) -> Result<(), BookError> {
        self.0.set_mark(name, text).await.map_err(|error| BookError(error.to_string()))
    }
}

impl Engine {
    pub(super) async fn alerts_loop(&self) {
        loop {
            let next = self.look_at_alerts().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "alerts could not be looked through; trying again");
                None
            });
            let pause = next.unwrap_or(limits::ALERTS_LOOK_EVERY).clamp(LOOK_PAUSE_MIN, limits::ALERTS_LOOK_EVERY);
            tokio::select! {
                () = self.0.drain.cancelled() => return,
                () = self.0.told.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Sends every summary of alerts that is due, and answers how long until the next one is.
    pub async fn look_at_alerts(&self) -> Result<Option<Duration>, BookError> {
        let parts = &self.0.parts;
        let next = self.0.alerts.look(&parts.files.channels()).await?;
        Ok(next.map(|next| next.since(parts.clock.now())))
    }

    /// Tells people that slots of a schedule did not fire, when it says whom.
    pub(super) async fn alert_missed(&self, plan: &SchedulePlan, given_up: &GivenUp) {
        let name = &plan.schedule.name;
        let Some(channel) = plan.alert_if_missed.as_deref().and_then(|channel| ChannelName::new(channel).ok()) else {
            return;
        };
        let message = Message {
            title: format!("Schedule {name} missed {} slots", given_up.count),
            text: format!(
                "错过的执行 / missed: {} … {}\n\n`clawhook schedules backfill {name} --since {} --until {}`",
                given_up.first,
                given_up.last,
                given_up.first,
                given_up.last.plus(Duration::from_secs(1)),
            ),
            level: Level::Warning,
            table: None,
        };
        if let Err(error) = self.0.alerts.post(&channel, &format!("schedule.missed/{name}"), message).await {
            tracing::error!(%error, schedule = %name, "nobody could be told that slots of schedule {name} were missed");
        }
        self.0.told.notify_one();
    }
}

/// A loop that is told "now" again and again still lets others work.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(250);
