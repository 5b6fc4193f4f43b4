//! Stores to test, and short words for what tests put into them.

use std::sync::Arc;
use std::time::Duration;

use clawhook::clock::Timestamp;
use clawhook::domain::delivery::{Delivery, DeliveryKey, RouteRef};
use clawhook::domain::event::{Accepted, Entry, Event, Finished, Prepared};
use clawhook::domain::failure::{Class, Failure, Fault};
use clawhook::domain::run::{Run, RunHead};
use clawhook::domain::trigger::Trigger;
use clawhook::id::{Revision, RouteName, RunId, WorkflowName};
use clawhook::store::faulty::{Faults, Faulty};
use clawhook::store::memory::Memory;
use clawhook::store::sqlite::Sqlite;
use clawhook::store::{Acceptance, Append, Error, NewRun, Receipt, RunQuery, Store};
use serde_json::Map;

use super::azurite::Account;
use super::database::Database;

/// A store, and what goes when the test ends.
pub(super) struct Place {
    pub(super) store: Arc<dyn Store>,
    /// Only one process writes to it.
    pub(super) exclusive: bool,
    _folder: Option<tempfile::TempDir>,
    _database: Option<Database>,
}

impl Place {
    pub(super) fn memory() -> Self {
        Self::of(Memory::new())
    }

    pub(super) fn faulty() -> Self {
        Self::of(Faulty::new(Memory::new(), 1, Faults::NONE))
    }

    pub(super) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(folder.path()).unwrap();
        Self { _folder: Some(folder), ..Self::of(store) }
    }

    /// A container of its own; `None` when there is no Azurite.
    pub(super) async fn azure_blob(account: Option<Account>) -> Option<Self> {
        let container = account?.container();
        let folder = tempfile::tempdir().unwrap();
        let store = container.open(folder.path()).await;
        Some(Self { store, exclusive: false, _folder: Some(folder), _database: None })
    }

    /// A database of its own, when there is a server.
    pub(super) async fn postgres() -> Option<Self> {
        let database = Database::create().await?;
        let store = database.open().await.unwrap();
        Some(Self { exclusive: false, _database: Some(database), ..Self::of(store) })
    }

    fn of(store: impl Store + 'static) -> Self {
        Self { store: Arc::new(store), exclusive: true, _folder: None, _database: None }
    }
}

/// This many minutes into the tests' day.
pub(super) fn at(minute: i64) -> Timestamp {
    Timestamp::from_secs(1_795_000_000 + 60 * minute)
}

pub(super) fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

pub(super) fn key(name: &str) -> DeliveryKey {
    DeliveryKey::of_delivery("/hooks/orders", name.as_bytes())
}

pub(super) fn delivery(route: &str) -> Trigger {
    let route = RouteRef { name: RouteName::new(&format!("{route}-hook")).unwrap(), revision: Revision::of(b"route") };
    let delivery = Delivery {
        id: Some("d-1".into()),
        method: "POST".into(),
        path: "/hooks/orders".into(),
        query: "a=b".into(),
        headers: vec![("x-shopify-topic".into(), "orders/create".into())],
        remote: "192.0.2.1".into(),
        verified_by: "shopify".into(),
        swept_by: None,
    };
    Trigger::Delivery { route, delivery: Box::new(delivery) }
}

pub(super) fn new_run(workflow: &str, trigger: Trigger) -> NewRun {
    let accepted = Accepted::new(WorkflowName::new(workflow).unwrap(), Revision::of(b"workflow"), trigger);
    NewRun { accepted, body: bytes::Bytes::from_static(b"{}") }
}

pub(super) fn held(mut accepted: Accepted) -> Accepted {
    accepted.held = true;
    accepted
}

/// A delivery of this name to the workflow `orders`.
pub(super) fn acceptance(name: &str, at: Timestamp) -> Acceptance {
    let runs = vec![new_run("orders", delivery("orders"))];
    Acceptance { key: key(name), window: minutes(600), replay_guard: None, at, runs }
}

/// The one run of a delivery that was new.
pub(super) fn only(receipt: Result<Receipt, Error>) -> RunId {
    match receipt {
        Ok(Receipt::New(ids)) if ids.len() == 1 => ids[0],
        other => panic!("{other:?}"),
    }
}

pub(super) async fn run_of(store: &Arc<dyn Store>, id: RunId) -> Run {
    Run::fold(id, store.log(id).await.unwrap()).unwrap()
}

/// Adds events at the place that `run` knows, and moves `run` on when that worked.
pub(super) async fn add(store: &Arc<dyn Store>, run: &mut Run, at: Timestamp, events: Vec<Event>) -> Result<(), Error> {
    let mut moved = run.clone();
    for event in events.clone() {
        moved.apply(Entry { seq: moved.next, at, event, body: bytes::Bytes::new() }).unwrap();
    }
    store.append(Append { run: run.id, after: run.next, at, events, head: moved.head(), state: None }).await?;
    *run = moved;
    Ok(())
}

/// What the list shows of a run.
pub(super) async fn head_of(store: &Arc<dyn Store>, id: RunId) -> RunHead {
    let query = RunQuery { before: Some(RunId::from_u64(id.as_u64() + 1)), limit: 1, ..RunQuery::default() };
    store.runs(&query).await.unwrap().remove(0)
}

pub(super) fn claimed(worker: &str, lease_until: Timestamp) -> Event {
    Event::Claimed { worker: worker.into(), lease_until }
}

pub(super) fn prepared(labels: &[(&str, &str)]) -> Event {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Event::Prepared(Box::new(Prepared { labels, ..Prepared::default() }))
}

pub(super) fn finished() -> Event {
    Event::Finished(Box::new(Finished::Succeeded { outputs: Map::new(), state: Map::new() }))
}

pub(super) fn failed(status: u16) -> Event {
    let failure =
        Failure::new("http.status", Fault::Far, "it said no").at("erp").retriable(Class::Status(status), None);
    Event::Finished(Box::new(Finished::Failed { failure }))
}
