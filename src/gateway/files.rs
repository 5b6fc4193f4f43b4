//! The files in force, the reload that replaces them all or none, and the older revisions that runs are pinned to.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use serde_json::json;

use super::{Caller, Error, Gateway, Scope, members, routes, view};
use crate::channels::Channels;
use crate::domain::delivery::RouteRef;
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::journal::JournalKind;
use crate::domain::trigger::Trigger;
use crate::engine::Files;
use crate::id::{Revision, RouteName, ScheduleName, WorkflowName};
use crate::store::Store;
use crate::tasks::Connections;
use crate::tasks::plan::{Catalog, Plan, RoutePlan, SchedulePlan, Written};

/// Reads the files again, and compiles texts that were files once.
#[async_trait]
pub trait Source: Send + Sync + fmt::Debug {
    /// All files as they stand now; or the report of what is wrong, ready to print.
    async fn load(&self) -> Result<Loaded, String>;
    /// A workflow from the text of an older revision.
    fn workflow(&self, text: &str) -> Result<Plan, String>;
    /// Routes and schedules from the text of an older revision.
    fn routes(&self, text: &str) -> Result<(Vec<RoutePlan>, Vec<SchedulePlan>), String>;
}

/// What the files say.
#[derive(Debug, Default)]
pub struct Loaded {
    pub catalog: Catalog,
    pub connections: Connections,
    pub channels: Channels,
    /// Hashes of what the settings say.
    pub written: Written,
}

/// The files in force.
#[derive(Debug)]
pub struct FilesInForce {
    source: Box<dyn Source>,
    store: Arc<dyn Store>,
    now: ArcSwap<Now>,
    /// Plans of older revisions, compiled once.
    older: Mutex<Older>,
}

#[derive(Debug)]
struct Now {
    catalog: Arc<Catalog>,
    connections: Arc<Connections>,
    channels: Arc<Channels>,
    written: Arc<Written>,
}

impl Now {
    fn of(loaded: Loaded) -> Self {
        Self {
            catalog: Arc::new(loaded.catalog),
            connections: Arc::new(loaded.connections),
            channels: Arc::new(loaded.channels),
            written: Arc::new(loaded.written),
        }
    }
}

#[derive(Debug, Default)]
struct Older {
    plans: HashMap<Revision, Arc<Plan>>,
    routes: HashMap<(Revision, RouteName), Arc<RoutePlan>>,
    schedules: HashMap<(Revision, ScheduleName), Arc<SchedulePlan>>,
}

impl FilesInForce {
    /// Puts what was loaded in force. `keep_documents` must have been called for it.
    pub fn new(source: Box<dyn Source>, store: Arc<dyn Store>, loaded: Loaded) -> Self {
        Self { source, store, now: ArcSwap::from_pointee(Now::of(loaded)), older: Mutex::default() }
    }

    /// Writes the text of every file to the store, so that runs can be pinned to it.
    pub async fn keep_documents(store: &dyn Store, catalog: &Catalog) -> Result<(), Error> {
        for (revision, text) in &catalog.documents {
            store.put_document(revision, text).await?;
        }
        Ok(())
    }

    /// What is in force.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.now.load().catalog)
    }

    /// What the settings in force say, as hashes.
    pub fn written(&self) -> Arc<Written> {
        Arc::clone(&self.now.load().written)
    }

    async fn document(&self, revision: &Revision, what: &str) -> Result<String, Failure> {
        match self.store.document(revision).await {
            Ok(Some(text)) => Ok(text),
            Ok(None) => Err(gone(what, revision, "the store does not hold its text")),
            Err(error) => {
                let message = format!("{what} could not be read: {error}");
                Err(Failure::new("store.failed", Fault::Here, message).retriable(Class::Other, None))
            }
        }
    }

    fn older(&self) -> std::sync::MutexGuard<'_, Older> {
        self.older.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compiles an older file of routes and schedules, and remembers what it holds.
    async fn compile_routes(&self, revision: &Revision, what: &str) -> Result<(), Failure> {
        let text = self.document(revision, what).await?;
        let (routes, schedules) = self.source.routes(&text).map_err(|why| gone(what, revision, &why))?;
        let mut older = self.older();
        for route in routes {
            older.routes.insert((revision.clone(), route.name.clone()), Arc::new(route));
        }
        for schedule in schedules {
            older.schedules.insert((revision.clone(), schedule.schedule.name.clone()), Arc::new(schedule));
        }
        Ok(())
    }
}

fn gone(what: &str, revision: &Revision, why: &str) -> Failure {
    Failure::new("files.missing", Fault::Config, format!("{what} at revision {revision} cannot be used: {why}"))
        .help("replay the run to use the file as it stands now")
}

#[async_trait]
impl Files for FilesInForce {
    async fn plan(&self, workflow: &WorkflowName, revision: &Revision) -> Result<Arc<Plan>, Failure> {
        let current = self.current_plan(workflow).filter(|plan| plan.revision == *revision);
        if let Some(plan) = current.or_else(|| self.older().plans.get(revision).cloned()) {
            return Ok(plan);
        }
        let what = format!("workflow `{workflow}`");
        let text = self.document(revision, &what).await?;
        let plan = Arc::new(self.source.workflow(&text).map_err(|why| gone(&what, revision, &why))?);
        self.older().plans.insert(revision.clone(), Arc::clone(&plan));
        Ok(plan)
    }

    fn current_plan(&self, workflow: &WorkflowName) -> Option<Arc<Plan>> {
        self.now.load().catalog.workflows.get(workflow).cloned()
    }

    async fn route(&self, route: &RouteRef) -> Result<Arc<RoutePlan>, Failure> {
        let current = self.now.load().catalog.routes.get(&route.name).cloned();
        if let Some(plan) = current.filter(|plan| plan.revision == route.revision) {
            return Ok(plan);
        }
        let key = (route.revision.clone(), route.name.clone());
        let what = format!("route `{}`", route.name);
        if !self.older().routes.contains_key(&key) {
            self.compile_routes(&route.revision, &what).await?;
        }
        let plan = self.older().routes.get(&key).cloned();
        plan.ok_or_else(|| gone(&what, &route.revision, "its file does not hold it"))
    }

    async fn schedule(&self, name: &ScheduleName, revision: &Revision) -> Result<Arc<SchedulePlan>, Failure> {
        let current = self.now.load().catalog.schedules.get(name).cloned();
        if let Some(plan) = current.filter(|plan| plan.revision == *revision) {
            return Ok(plan);
        }
        let key = (revision.clone(), name.clone());
        let what = format!("schedule `{name}`");
        if !self.older().schedules.contains_key(&key) {
            self.compile_routes(revision, &what).await?;
        }
        let plan = self.older().schedules.get(&key).cloned();
        plan.ok_or_else(|| gone(&what, revision, "its file does not hold it"))
    }

    fn current_source(&self, trigger: &Trigger) -> Option<Revision> {
        let now = self.now.load();
        match trigger {
            Trigger::Delivery { route, .. } => now.catalog.routes.get(&route.name).map(|plan| plan.revision.clone()),
            Trigger::Slot { schedule, .. } => now.catalog.schedules.get(schedule).map(|plan| plan.revision.clone()),
            Trigger::Manual { .. }
            | Trigger::Replay { .. }
            | Trigger::Parent { .. }
            | Trigger::Callback { .. }
            | Trigger::Edit { .. } => None,
        }
    }

    fn schedules(&self) -> Vec<Arc<SchedulePlan>> {
        self.now.load().catalog.schedules.values().cloned().collect()
    }

    fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.now.load().connections)
    }

    fn channels(&self) -> Arc<Channels> {
        Arc::clone(&self.now.load().channels)
    }
}

impl Gateway {
    /// What the settings in force say, as hashes by key.
    pub fn settings(&self, caller: &Caller) -> Result<view::Settings, Error> {
        caller.require(Scope::RunsRead)?;
        Ok(view::Settings::of(&self.0.files.written()))
    }

    /// Reads all files again and puts them in force together. When any is wrong, the ones before stay in force.
    pub async fn reload(&self, caller: &Caller) -> Result<view::Reloaded, Error> {
        caller.require(Scope::Admin)?;
        let files = &self.0.files;
        let mut loaded = match files.source.load().await {
            Ok(loaded) => loaded,
            Err(report) => {
                self.audit(caller, "gateway.reload_refused", "files", json!({ "report": report })).await?;
                let message = "the files have problems; the ones before stay in force".to_owned();
                return Err(Error::Invalid { code: "files.invalid", message, help: Some(report) });
            }
        };
        FilesInForce::keep_documents(files.store.as_ref(), &loaded.catalog).await?;
        let before = files.catalog();
        let changed: Vec<_> = loaded
            .catalog
            .workflows
            .values()
            .filter(|plan| before.workflows.get(&plan.name).is_none_or(|old| old.revision != plan.revision))
            .map(|plan| plan.name.to_string())
            .collect();
        let doors = routes::Doors::new(&loaded.catalog);
        let reloaded = view::Reloaded {
            workflows: loaded.catalog.workflows.len(),
            routes: loaded.catalog.routes.len(),
            schedules: loaded.catalog.schedules.len(),
            changed,
        };
        // Doors, store and the like stay as they were started.
        loaded.written.sections.clone_from(&files.written().sections);
        files.now.store(Arc::new(Now::of(loaded)));
        self.0.doors.store(Arc::new(doors));
        self.0.engine.nudge();
        self.0.sources.reloaded();
        let detail = json!({
            "workflows": reloaded.workflows, "routes": reloaded.routes, "schedules": reloaded.schedules, "changed": reloaded.changed,
        });
        self.audit(caller, "gateway.reload", "files", detail.clone()).await?;
        self.journal(JournalKind::Gateway, "gateway.reloaded", "gateway", members(detail)).await?;
        tracing::info!(workflows = reloaded.workflows, routes = reloaded.routes, "files were reloaded");
        Ok(reloaded)
    }
}
