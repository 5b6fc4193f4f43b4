//! The doors that fetch: whatever cannot call us is asked for its deliveries, and what it gives enters by the same
//! accept as a webhook. A source lets go of a delivery only when its runs are on disk, or when no route wants it.
//!
//! One loop for each source that is in force. A reload ends those that are gone or changed and begins the new ones;
//! stop lets each bring to its end what it holds.

mod pace;
mod sqs;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::secret::Secrets;
use crate::gateway::Gateway;
use crate::id::SourceName;
use crate::outbound::Client;
use crate::tasks::plan::{SourceKind, SourcePlan};

/// What the loops work with.
#[derive(Debug, Clone)]
pub struct Parts {
    pub gateway: Gateway,
    pub client: Arc<Client>,
    pub secrets: Arc<dyn Secrets>,
    pub clock: Arc<dyn Clock>,
}

/// A loop that runs.
struct Fetching {
    kind: SourceKind,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Keeps a loop for each source in force until `stop`, and returns when all of them have ended.
pub async fn run(parts: Parts, stop: CancellationToken) {
    let mut reloads = parts.gateway.reloads();
    let mut fetching: BTreeMap<SourceName, Fetching> = BTreeMap::new();
    loop {
        let catalog = parts.gateway.catalog();
        let wanted = |name: &SourceName| catalog.sources.get(name).filter(|plan| is_wanted(plan, &catalog));
        let gone: Vec<_> = fetching
            .iter()
            .filter(|(name, one)| wanted(name).is_none_or(|plan| plan.kind != one.kind) || one.task.is_finished())
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(one) = fetching.remove(&name) {
                one.end().await;
            }
        }
        for (name, plan) in &catalog.sources {
            if wanted(name).is_some() && !fetching.contains_key(name) {
                fetching.insert(name.clone(), Fetching::begin(&parts, plan, &stop));
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            // The gateway holds the other end.
            changed = reloads.changed() => if changed.is_err() { break },
        }
    }
    for one in fetching.into_values() {
        one.end().await;
    }
}

/// A source of which no route takes anything is not asked: what it has stays there.
fn is_wanted(plan: &SourcePlan, catalog: &crate::tasks::plan::Catalog) -> bool {
    plan.enabled && plan.routes.iter().any(|name| catalog.routes.get(name).is_some_and(|route| route.enabled))
}

impl Fetching {
    fn begin(parts: &Parts, plan: &SourcePlan, stop: &CancellationToken) -> Self {
        let (stop, name) = (stop.child_token(), plan.name.clone());
        let work = match &plan.kind {
            SourceKind::Sqs(queue) => sqs::run(parts.clone(), name, Arc::clone(queue), stop.clone()),
        };
        #[expect(clippy::disallowed_methods, reason = "`end` waits for it, and `run` calls that for every loop")]
        let task = tokio::spawn(work);
        Self { kind: plan.kind.clone(), stop, task }
    }

    async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a source broke");
        }
    }
}
