//! How the sources stand: what each of them fetched last, and why it does not, for people and for programs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use tokio::sync::watch;

use super::{Caller, Error, Gateway, Scope, members, view};
use crate::clock::Timestamp;
use crate::domain::journal::JournalKind;
use crate::id::SourceName;
use crate::tasks::plan::SourcePlan;

/// What this process knows of its sources.
#[derive(Debug)]
pub(super) struct Board {
    standing: Mutex<BTreeMap<SourceName, Standing>>,
    reloads: watch::Sender<()>,
}

/// How a source stands.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// When the far end last answered.
    answered_at: Option<Timestamp>,
    /// When a message last came.
    fetched_at: Option<Timestamp>,
    /// Messages that are held because they cannot be accepted yet.
    held: usize,
    trouble: Option<Trouble>,
}

#[derive(Debug, Clone)]
struct Trouble {
    since: Timestamp,
    code: &'static str,
    message: String,
}

impl Board {
    pub(super) fn new() -> Self {
        Self { standing: Mutex::default(), reloads: watch::Sender::new(()) }
    }

    /// Tells those who fetch that other files are in force.
    pub(super) fn reloaded(&self) {
        self.reloads.send_replace(());
    }

    fn change<T>(&self, source: &SourceName, change: impl FnOnce(&mut Standing) -> T) -> T {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        change(standing.entry(source.clone()).or_default())
    }
}

impl Gateway {
    /// Speaks up whenever other files come in force.
    pub fn reloads(&self) -> watch::Receiver<()> {
        self.0.sources.reloads.subscribe()
    }

    /// Notes that a source answered, with so many messages; a trouble that was told is over, and that is put on record.
    pub async fn source_answered(&self, source: &SourceName, messages: usize) {
        let now = self.0.clock.now();
        let trouble = self.0.sources.change(source, |standing| {
            standing.answered_at = Some(now);
            if messages > 0 {
                standing.fetched_at = Some(now);
            }
            standing.trouble.take()
        });
        metrics::gauge!("clawhook_source_up", "source" => source.to_string()).set(1.0);
        if let Some(trouble) = trouble {
            tracing::info!(%source, "source {source} answers again");
            let detail = json!({ "since": trouble.since.to_string(), "code": trouble.code });
            self.tell_source("source.recovered", source, detail).await;
        }
    }

    /// Notes that a source does not answer as it should, and puts it on record when that is news.
    pub async fn source_fails(&self, source: &SourceName, code: &'static str, message: &str) {
        let now = self.0.clock.now();
        let is_news = self.0.sources.change(source, |standing| {
            let is_news = standing.trouble.as_ref().is_none_or(|trouble| trouble.code != code);
            let since = standing.trouble.as_ref().map_or(now, |trouble| trouble.since);
            standing.trouble = Some(Trouble { since, code, message: message.to_owned() });
            is_news
        });
        metrics::gauge!("clawhook_source_up", "source" => source.to_string()).set(0.0);
        if is_news {
            tracing::error!(%source, code, "source {source} gives nothing: {message}");
            self.tell_source("source.failing", source, json!({ "code": code, "message": message })).await;
        }
    }

    /// Notes how many messages of a source are held until they can be accepted.
    pub fn source_holds(&self, source: &SourceName, held: usize) {
        self.0.sources.change(source, |standing| standing.held = held);
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        metrics::gauge!("clawhook_source_held", "source" => source.to_string()).set(held as f64);
    }

    async fn tell_source(&self, what: &str, source: &SourceName, detail: serde_json::Value) {
        if let Err(error) = self.journal(JournalKind::Gateway, what, source.as_str(), members(detail)).await {
            tracing::warn!(%error, "`{what}` could not be put on record");
        }
    }

    /// All sources, in the order of their names.
    pub fn sources(&self, caller: &Caller) -> Result<Vec<view::Source>, Error> {
        caller.require(Scope::RunsRead)?;
        let catalog = self.0.files.catalog();
        Ok(catalog.sources.values().map(|plan| self.show_source(plan)).collect())
    }

    fn show_source(&self, plan: &Arc<SourcePlan>) -> view::Source {
        let standing = self.0.sources.change(&plan.name, |standing| standing.clone());
        let state = match (&standing.trouble, plan.enabled) {
            (_, false) => "disabled",
            (Some(_), true) => "failing",
            (None, true) if standing.answered_at.is_none() => "starting",
            (None, true) => "fetching",
        };
        let text = |at: Option<Timestamp>| at.map(|at| at.to_string());
        view::Source {
            name: plan.name.to_string(),
            kind: plan.kind.name().to_owned(),
            place: plan.kind.place(),
            state: state.to_owned(),
            routes: plan.routes.iter().map(ToString::to_string).collect(),
            answered_at: text(standing.answered_at),
            fetched_at: text(standing.fetched_at),
            held: standing.held,
            trouble: standing.trouble.filter(|_| plan.enabled).map(|trouble| view::SourceTrouble {
                since: trouble.since.to_string(),
                code: trouble.code.to_owned(),
                message: trouble.message,
            }),
        }
    }
}
