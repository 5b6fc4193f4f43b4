//! Records of finished runs, exported from any backend.

use std::sync::Arc;

use clawhook::clock::{Clock, TestClock};
use clawhook::domain::event::Event;
use clawhook::domain::journal::{JournalEntry, JournalKind};
use clawhook::domain::run::Run;
use clawhook::domain::trigger::Trigger;
use clawhook::store::Store;
use clawhook::store::memory::Memory;
use clawhook::store::sqlite::Sqlite;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::azurite::{Account, Container};
use super::fixture::{acceptance, add, at, claimed, failed, finished, new_run, only, prepared, run_of};

fn container(clock: &TestClock) -> Option<Container> {
    let mut container = Account::by_signature()?.container();
    container.clock = Arc::new(clock.clone());
    Some(container)
}

async fn accepted(store: &Arc<dyn Store>, name: &str) -> Run {
    run_of(store, only(store.accept(acceptance(name, at(0))).await)).await
}

async fn ended(store: &Arc<dyn Store>, name: &str, how: Event) -> Run {
    let mut run = accepted(store, name).await;
    add(store, &mut run, at(1), vec![claimed("w", at(9)), prepared(&[("order", name)]), how]).await.unwrap();
    run
}

async fn record(container: &Container, run: &Run) -> Option<Value> {
    let day = run.id.made_at().to_utc().format("%Y/%m/%d");
    let bytes = container.read(&format!("runs/{}/{day}/{}.json", run.accepted.workflow, run.id)).await?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn a_record_has_its_place_and_says_everything() {
    let clock = TestClock::at(at(5));
    let Some(container) = container(&clock) else { return };
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let records = container.records(&store);
    assert!(records.export().await.is_ok(), "nothing to do wants no container");
    container.open(tempfile::tempdir().unwrap().path()).await.close().await;
    let mut asked = acceptance("a", at(0));
    asked.runs = vec![new_run("orders", Trigger::Manual { by: "ann".into() })];
    let mut run = run_of(&store, only(store.accept(asked).await)).await;
    add(&store, &mut run, at(1), vec![claimed("w", at(9)), prepared(&[("order", "#1")]), finished()]).await.unwrap();
    assert_eq!(records.export().await.unwrap().records, 1);
    let name = format!("runs/orders/2026/11/18/{}.json", run.id);
    let found: Value = serde_json::from_slice(&container.read(&name).await.unwrap()).unwrap();
    let expected = json!({
        "version": 1, "run_id": run.id.to_string(), "workflow": "orders", "revision": run.accepted.revision.as_str(),
        "status": "succeeded", "trigger": "manual", "source": "ann",
        "accepted_at": at(0).to_string(), "started_at": at(1).to_string(), "ended_at": at(1).to_string(),
        "labels": {"order": "#1"}, "attempts": 0, "retried": false, "suspected_replay_of": null,
        "inputs": {}, "outputs": {}, "failure": null,
    });
    let mut without_events = found.clone();
    let events = without_events.as_object_mut().unwrap().shift_remove("events").unwrap();
    assert_eq!(without_events, expected);
    let names: Vec<_> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event"].as_object().unwrap().keys().next().unwrap())
        .collect();
    assert_eq!(names, ["accepted", "claimed", "prepared", "finished"]);
    assert_eq!((&events[1]["seq"], &events[1]["at"]), (&json!(1), &json!(at(1).to_string())));
}

#[tokio::test]
async fn every_run_that_ends_is_exported_once() {
    let clock = TestClock::at(at(5));
    let Some(container) = container(&clock) else { return };
    container.open(tempfile::tempdir().unwrap().path()).await.close().await;
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(folder.path()).unwrap());
    let mut waiting = accepted(&store, "waiting").await;
    let mut runs = Vec::new();
    for number in 0..230 {
        runs.push(ended(&store, &number.to_string(), finished()).await);
    }
    let exported = container.records(&store).export().await.unwrap();
    assert_eq!((exported.records, exported.more), (230, false));
    assert!(record(&container, &waiting).await.is_none());
    assert!(record(&container, &runs[0]).await.is_some() && record(&container, &runs[229]).await.is_some());
    // Another process goes on where this one was.
    let records = container.records(&store);
    assert_eq!(records.export().await.unwrap().records, 0);
    add(&store, &mut waiting, at(2), vec![claimed("w", at(9)), failed(500)]).await.unwrap();
    let new = ended(&store, "new", finished()).await;
    assert_eq!(records.export().await.unwrap().records, 2);
    assert_eq!(record(&container, &waiting).await.unwrap()["status"], "failed");
    assert!(record(&container, &new).await.is_some());
    assert_eq!(records.export().await.unwrap().records, 0);
}

#[tokio::test]
async fn a_run_that_was_resumed_is_exported_again() {
    let clock = TestClock::at(at(5));
    let Some(container) = container(&clock) else { return };
    container.open(tempfile::tempdir().unwrap().path()).await.close().await;
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let records = container.records(&store);
    let mut run = ended(&store, "a", failed(500)).await;
    assert_eq!(records.export().await.unwrap().records, 1);
    let resume = JournalEntry {
        kind: JournalKind::Audit,
        at: at(6),
        what: "run.resume".into(),
        subject: run.id.to_string(),
        cause: String::new(),
        detail: Map::new(),
        body: bytes::Bytes::new(),
    };
    // The journal has it first; a look in between must not take the old end for the new one.
    store.journal_append(vec![resume]).await.unwrap();
    clock.set(at(6));
    assert_eq!(records.export().await.unwrap().records, 0);
    let resumed = Event::Resumed { by: "ann".into(), again: vec![], reopened: vec![], repin: None };
    add(&store, &mut run, at(6), vec![resumed, claimed("w", at(9)), finished()]).await.unwrap();
    assert_eq!(records.export().await.unwrap().records, 1);
    assert_eq!(record(&container, &run).await.unwrap()["status"], "succeeded");
    assert_eq!(records.export().await.unwrap().records, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_delays_records_and_nothing_else() {
    let clock = TestClock::at(at(5));
    let Some(container) = container(&clock) else { return };
    container.open(tempfile::tempdir().unwrap().path()).await.close().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}/devstoreaccount1", listener.local_addr().unwrap());
    drop(listener);
    let gone = Account::by_signature().unwrap().at(&nowhere).container();
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let run = ended(&store, "a", finished()).await;
    assert!(gone.records(&store).export().await.is_err());
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    tracker.spawn(gone.records(&store).run(stop.clone()));
    let later = ended(&store, "b", finished()).await;
    stop.cancel();
    tracker.close();
    tracker.wait().await;
    assert_eq!(container.records(&store).export().await.unwrap().records, 2);
    assert!(record(&container, &run).await.is_some() && record(&container, &later).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_gateways_one_exports() {
    let clock = TestClock::at(at(5));
    let Some(container) = container(&clock) else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = container.open(folder.path()).await;
    let run = ended(&store, "a", finished()).await;
    let (first, second) = (container.records(&store), container.records(&store));
    assert_eq!(first.export().await.unwrap().records, 1);
    let other = ended(&store, "b", finished()).await;
    assert_eq!(second.export().await.unwrap().records, 0);
    // The first is gone: its turn ends.
    clock.set(at(20));
    assert_eq!(second.export().await.unwrap().records, 1);
    assert!(record(&container, &run).await.is_some() && record(&container, &other).await.is_some());
    assert!(clock.now() > at(5));
}
