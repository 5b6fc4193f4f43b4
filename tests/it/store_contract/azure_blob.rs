//! What Blob Storage owes beyond the contract: several gateways on one container, answers that are lost, disks that are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clawhook::clock::{TestClock, Timestamp};
use clawhook::domain::delivery::DeliveryKey;
use clawhook::domain::event::Event;
use clawhook::domain::journal::{JournalEntry, JournalKind};
use clawhook::domain::run::Run;
use clawhook::domain::state::State;
use clawhook::id::{Revision, WorkflowName};
use clawhook::store::azure_blob::AzureBlob;
use clawhook::store::{Append, Error, JournalQuery, Prune, Receipt, RunQuery, Store};
use futures_util::future::join_all;
use serde_json::json;

use super::azurite::{Account, Container, How};
use super::fixture::{acceptance, add, at, claimed, failed, finished, minutes, only, prepared, run_of};

/// A gateway on a container, with a disk of its own.
struct Gateway {
    store: Arc<AzureBlob>,
    folder: tempfile::TempDir,
}

impl Gateway {
    async fn on(container: &Container) -> Self {
        Self::with(container, None).await
    }

    async fn with(container: &Container, blocks_max: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: container.try_open(folder.path(), blocks_max).await.unwrap(), folder }
    }

    fn any(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }
}

/// A container by signature: the wire is in the clear, which is faster. The contract runs both ways.
fn container() -> Option<Container> {
    Some(Account::by_signature()?.container())
}

fn names(log: &[clawhook::domain::event::Entry]) -> Vec<&'static str> {
    log.iter().map(|entry| entry.event.name()).collect()
}

async fn all(store: &dyn Store) -> Vec<clawhook::domain::run::RunHead> {
    store.runs(&RunQuery { limit: 1000, ..RunQuery::default() }).await.unwrap()
}

fn long_ago(now: Timestamp) -> Prune {
    let never = Timestamp::from_secs(0);
    Prune { now, runs_before: never, failed_before: never, payloads_before: never, batch_max: 100 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_race_for_a_key() {
    let Some(container) = container() else { return };
    let gateways = [Gateway::on(&container).await, Gateway::on(&container).await];
    for round in 0..5 {
        let asks = (0..12).map(|number| {
            let store = gateways[number % 2].any();
            async move { store.accept(acceptance(&format!("key-{round}"), at(0))).await.unwrap() }
        });
        let receipts = join_all(asks).await;
        let new: Vec<_> = receipts.iter().filter(|receipt| matches!(receipt, Receipt::New(_))).collect();
        let [Receipt::New(ids)] = new[..] else { panic!("{new:?}") };
        assert!(
            receipts.iter().all(|receipt| matches!(receipt, Receipt::New(run) | Receipt::Duplicate(run) if run == ids))
        );
    }
    for gateway in &gateways {
        gateway.store.look(true).await.unwrap();
        assert_eq!(all(&*gateway.store).await.len(), 5);
    }
}

/// All runs are of one millisecond, and their ids are drawn from half a million: some meet, open or ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_is_given_once() {
    let Some(container) = container() else { return };
    let gateway = Gateway::on(&container).await;
    let store = gateway.any();
    let id = only(store.accept(acceptance("a", at(0))).await);
    let next = clawhook::id::RunId::from_u64(id.as_u64() + 1);
    let after = clawhook::id::RunId::from_u64(id.as_u64() + 2);
    // As if other gateways had drawn the next two: one run is open, one has ended.
    for (name, length) in [(format!("open/{next}"), 1), (format!("logs/{after}"), 5)] {
        container.write(&name, length).await;
    }
    let second = only(store.accept(acceptance("b", at(0))).await);
    assert_eq!(second.as_u64(), id.as_u64() + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_race_for_a_run() {
    let Some(container) = container() else { return };
    let gateways = [Gateway::on(&container).await, Gateway::on(&container).await];
    let id = only(gateways[0].store.accept(acceptance("a", at(0))).await);
    // Its log is begun, then continued: both are races.
    for round in 0..2_u16 {
        let run = run_of(&gateways[0].any(), id).await;
        let claims = (0..12).map(|worker| {
            let (store, mut run) = (gateways[worker % 2].any(), run.clone());
            let event = match round {
                0 => claimed(&format!("w{worker}"), at(9)),
                _ => Event::LeaseRenewed { lease_until: at(20 + i64::try_from(worker).unwrap()) },
            };
            async move { add(&store, &mut run, at(1), vec![event]).await }
        });
        let results = join_all(claims).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(Error::Conflict { .. }))), "{results:?}");
    }
    assert_eq!(names(&gateways[1].store.log(id).await.unwrap()), ["accepted", "claimed", "lease_renewed"]);
}

/// Each write of a run's life, its answer lost once or until the caller is told of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_neither_doubles_nor_loses() {
    let Some(shared) = container() else { return };
    let writes = ["/open/", "/guards/", "/deliveries/", "/logs/", "comp=appendblock"];
    let ways = [(1, How::After), (1, How::Before), (4, How::After), (4, How::Before)];
    let cases = writes.into_iter().flat_map(|write| ways.map(|(times, how)| (write, times, how)));
    let count = join_all(cases.map(|(write, times, how)| lose_answers(&shared, write, times, how))).await.len();
    let gateway = Gateway::on(&shared).await;
    gateway.store.look(true).await.unwrap();
    assert_eq!(all(&*gateway.store).await.len(), count, "no run was lost or doubled");
}

async fn lose_answers(shared: &Container, write: &'static str, times: u32, how: How) {
    let container = shared.over_another_wire();
    let gateway = Gateway::on(&container).await;
    let store = gateway.any();
    let name = format!("{write} {times} {how:?}");
    container.wire.cut(write, times, how);
    let mut asked = acceptance(&name, at(0));
    asked.replay_guard = Some(DeliveryKey::of_body("/hooks", name.as_bytes()));
    let first = store.accept(asked.clone()).await;
    container.wire.mend();
    let again = retry(|| store.accept(asked.clone())).await;
    let id = match (first, again) {
        (Ok(Receipt::New(first)), Receipt::Duplicate(again)) if first == again => first[0],
        (Err(Error::Failed { .. }), Receipt::New(ids) | Receipt::Duplicate(ids)) => ids[0],
        other => panic!("{name}: {other:?}"),
    };
    let log = store.log(id).await.unwrap();
    assert_eq!(names(&log), ["accepted"], "{name}: it is no replay of itself");
    let mut run = Run::fold(id, log).unwrap();
    container.wire.cut(write, times, how);
    for events in [vec![claimed("w", at(9)), prepared(&[])], vec![finished()]] {
        let mut later = run.clone();
        if let Err(error) = add(&store, &mut run, at(1), events.clone()).await {
            assert!(matches!(error, Error::Failed { .. }), "{name}: {error}");
            container.wire.mend();
            wait_until_up(&store).await;
            // What the engine does: it reads whether that was written, and writes it if not.
            run = run_of(&store, id).await;
            if run.next == later.next {
                add(&store, &mut later, at(1), events).await.unwrap();
                run = later;
            }
        }
    }
    container.wire.mend();
    wait_until_up(&store).await;
    assert_eq!(names(&store.log(id).await.unwrap()), ["accepted", "claimed", "prepared", "finished"], "{name}");
    // Another gateway finds the one run, ended.
    let other = Gateway::on(&container).await;
    other.store.look(true).await.unwrap();
    let found = all(&*other.store).await;
    let found: Vec<_> = found.iter().filter(|head| head.id == id).map(|head| head.state).collect();
    assert_eq!(found, [State::Succeeded], "{name}");
}

/// Asks until the storage is asked again: it is left alone for a moment after it did not answer.
async fn retry<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> T {
    loop {
        match ask().await {
            Ok(done) => return done,
            Err(Error::Failed { why, .. }) if why.starts_with("a moment ago") => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn wait_until_up(store: &Arc<dyn Store>) {
    retry(|| store.health()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_made_anew_from_an_empty_disk() {
    let Some(container) = container() else { return };
    let first = Gateway::on(&container).await;
    let store = first.any();
    let mut ids = Vec::new();
    for number in 0..8 {
        let id = only(store.accept(acceptance(&number.to_string(), at(number))).await);
        let mut run = run_of(&store, id).await;
        let label = [("order", if number % 2 == 0 { "even" } else { "odd" })];
        let steps = match number {
            0 | 1 => vec![],
            2 | 3 => vec![vec![claimed("w", at(99)), prepared(&label)]],
            4 | 5 => vec![vec![claimed("w", at(99)), prepared(&label)], vec![finished()]],
            _ => vec![vec![claimed("w", at(99)), prepared(&label)], vec![failed(503)]],
        };
        for events in steps {
            add(&store, &mut run, at(number + 1), events).await.unwrap();
        }
        ids.push(id);
    }
    store.prune(&Prune { payloads_before: at(6), ..long_ago(at(7)) }).await.unwrap();
    let state = json!({"cursor": 7}).as_object().cloned();
    let run = run_of(&store, ids[2]).await;
    let renewed = vec![Event::LeaseRenewed { lease_until: at(100) }];
    let mut head = run.head();
    head.due = Some(at(100));
    store.append(Append { run: run.id, after: run.next, at: at(9), events: renewed, head, state }).await.unwrap();
    store.set_mark("paused", Some("yes")).await.unwrap();
    let revision = Revision::of(b"text");
    store.put_document(&revision, "text").await.unwrap();
    let entry = |kind| JournalEntry {
        kind,
        at: at(1),
        what: "run.cancel".into(),
        subject: "s".into(),
        cause: String::new(),
        detail: json!({"a": 1.10}).as_object().cloned().unwrap(),
        body: bytes::Bytes::from_static(b"\xff\n"),
    };
    let kinds = [JournalKind::Audit, JournalKind::Refusal, JournalKind::Gateway];
    store.journal_append(kinds.map(entry).to_vec()).await.unwrap();
    first.store.close().await;

    let second = Gateway::on(&container).await;
    second.store.look(true).await.unwrap();
    let restarted = container.try_open(first.folder.path(), None).await.unwrap();
    for store in [second.any(), restarted as Arc<dyn Store>] {
        let heads = all(&*store).await;
        assert_eq!(heads.iter().map(|head| head.id).collect::<Vec<_>>(), ids.iter().rev().copied().collect::<Vec<_>>());
        for head in &heads {
            assert_eq!(*head, run_of(&store, head.id).await.head());
        }
        let queued = store.queued(None, 9).await.unwrap();
        assert_eq!(queued.iter().map(|queued| queued.id).collect::<Vec<_>>(), ids[..2]);
        assert_eq!(store.due(at(200), 9).await.unwrap().0.len(), 2);
        let even = RunQuery { labels: vec![("order".into(), "even".into())], limit: 9, ..RunQuery::default() };
        assert_eq!(store.runs(&even).await.unwrap().len(), 3);
        let cause = RunQuery { cause: Some("http.status/erp/503".into()), limit: 9, ..RunQuery::default() };
        assert_eq!(store.runs(&cause).await.unwrap().len(), 2);
        assert_eq!(store.open_counts().await.unwrap()[..2], [(State::Queued, 2), (State::Running, 2)]);
        let workflow = WorkflowName::new("orders").unwrap();
        assert_eq!(json!(store.state(&workflow).await.unwrap()), json!({"cursor": 7}));
        assert_eq!(store.marks("").await.unwrap(), [("paused".into(), "yes".into())]);
        assert_eq!(store.document(&revision).await.unwrap().as_deref(), Some("text"));
        for kind in kinds {
            let query = JournalQuery::all(kind, 9);
            let rows = store.journal(&query).await.unwrap();
            assert_eq!(rows.iter().map(|row| row.entry.clone()).collect::<Vec<_>>(), [entry(kind)]);
        }
        assert_eq!(store.accept(acceptance("3", at(9))).await.unwrap(), Receipt::Duplicate(vec![ids[3]]));
        // What is let go is known again too.
        assert_eq!(store.prune(&Prune { payloads_before: at(6), ..long_ago(at(7)) }).await.unwrap().runs_stripped, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_gateway_takes_over_after_the_lease() {
    let Some(mut container) = container() else { return };
    let clock = TestClock::at(at(0));
    container.clock = Arc::new(clock.clone());
    let (dead, living) = (Gateway::on(&container).await, Gateway::on(&container).await);
    let mut driven = run_of(&dead.any(), only(dead.store.accept(acceptance("driven", at(0))).await)).await;
    add(&dead.any(), &mut driven, at(0), vec![claimed("dead-1", at(1)), prepared(&[])]).await.unwrap();
    let queued = only(dead.store.accept(acceptance("queued", at(0))).await);
    drop(dead);
    living.store.look(false).await.unwrap();
    let store = living.any();
    // What is queued is left to who accepted it for a while; what is driven, until its lease ends.
    assert!(store.queued(None, 9).await.unwrap().is_empty());
    assert_eq!(store.due(at(0), 9).await.unwrap(), (vec![], Some(at(1))));
    clock.set(at(1));
    let (due, _) = store.due(at(1), 9).await.unwrap();
    assert_eq!(due.iter().map(|head| head.id).collect::<Vec<_>>(), [driven.id]);
    let mut taken = run_of(&store, driven.id).await;
    add(&store, &mut taken, at(1), vec![Event::LeaseExpired]).await.unwrap();
    let found: BTreeSet<_> = store.queued(None, 9).await.unwrap().into_iter().map(|queued| queued.id).collect();
    assert_eq!(found, BTreeSet::from([driven.id, queued]));
    for id in found {
        let mut run = run_of(&store, id).await;
        add(&store, &mut run, at(2), vec![claimed("living-1", at(3)), finished()]).await.unwrap();
    }
    // A zombie that wakes is told.
    let zombie = Gateway::on(&container).await;
    let late = add(&zombie.any(), &mut driven, at(2), vec![finished()]).await;
    assert!(matches!(late, Err(Error::Conflict { .. })), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_do_becomes_visible() {
    let Some(container) = container() else { return };
    let (here, there) = (Gateway::on(&container).await, Gateway::on(&container).await);
    let mut run = run_of(&there.any(), only(there.store.accept(acceptance("a", at(0))).await)).await;
    here.store.look(false).await.unwrap();
    assert_eq!(all(&*here.store).await[0].state, State::Queued);
    add(&there.any(), &mut run, at(0), vec![claimed("w", at(9)), failed(500)]).await.unwrap();
    here.store.look(false).await.unwrap();
    assert_eq!(all(&*here.store).await, [run.head()]);
    // It is resumed here, and its gateway dies: the other finds it open again.
    let mut resumed = run_of(&here.any(), run.id).await;
    let event = Event::Resumed { by: "ann".into(), again: vec![], reopened: vec![], repin: None };
    add(&here.any(), &mut resumed, at(1), vec![event]).await.unwrap();
    there.store.look(false).await.unwrap();
    assert_eq!(all(&*there.store).await[0].state, State::Queued);
    add(&here.any(), &mut resumed, at(2), vec![claimed("w", at(9)), finished()]).await.unwrap();
    there.store.look(false).await.unwrap();
    assert_eq!(all(&*there.store).await, [resumed.head()]);
    // A lease that is renewed there is asked for once here.
    let mut run = run_of(&there.any(), only(there.store.accept(acceptance("b", at(3))).await)).await;
    add(&there.any(), &mut run, at(3), vec![claimed("w", at(4))]).await.unwrap();
    here.store.look(false).await.unwrap();
    add(&there.any(), &mut run, at(3), vec![Event::LeaseRenewed { lease_until: at(9) }]).await.unwrap();
    assert_eq!(here.store.due(at(5), 9).await.unwrap().0.len(), 1);
    here.store.log(run.id).await.unwrap();
    assert_eq!(here.store.due(at(5), 9).await.unwrap(), (vec![], Some(at(9))));
    // Retention there lets it go here.
    let done = there.store.prune(&Prune { runs_before: at(3), ..long_ago(at(4)) }).await.unwrap();
    assert_eq!(done.runs_deleted, 1);
    here.store.look(true).await.unwrap();
    assert_eq!(all(&*here.store).await, [run.head()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_spares_what_another_gateway_resumed() {
    let Some(container) = container() else { return };
    let (here, there) = (Gateway::on(&container).await, Gateway::on(&container).await);
    let mut runs = Vec::new();
    for (name, strip) in [("rewritten", true), ("plain", false)] {
        let mut run = run_of(&here.any(), only(here.store.accept(acceptance(name, at(0))).await)).await;
        add(&here.any(), &mut run, at(0), vec![claimed("w", at(9)), failed(500)]).await.unwrap();
        if strip {
            let done = here.store.prune(&Prune { payloads_before: at(1), ..long_ago(at(1)) }).await.unwrap();
            assert_eq!(done.runs_stripped, 1);
        }
        let mut there_run = run_of(&there.any(), run.id).await;
        let event = Event::Resumed { by: "ann".into(), again: vec![], reopened: vec![], repin: None };
        add(&there.any(), &mut there_run, at(2), vec![event]).await.unwrap();
        runs.push(there_run);
    }
    let everything = Prune { failed_before: at(1), payloads_before: at(1), ..long_ago(at(3)) };
    let done = here.store.prune(&everything).await.unwrap();
    assert_eq!((done.runs_deleted, done.runs_stripped), (0, 0));
    for run in runs {
        assert_eq!(run_of(&here.any(), run.id).await.state, State::Queued);
        let head = all(&*here.store).await.into_iter().find(|head| head.id == run.id);
        assert_eq!(head, Some(run.head()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_waits_outlives_its_key() {
    let Some(container) = container() else { return };
    let gateway = Gateway::on(&container).await;
    let store = gateway.any();
    let mut asked = acceptance("a", at(0));
    asked.window = minutes(10);
    let waiting = only(store.accept(asked.clone()).await);
    let log = store.log(waiting).await.unwrap();
    // Its delivery is replaced, then forgotten.
    asked.at = at(10);
    let second = only(store.accept(asked).await);
    assert_eq!(store.log(waiting).await.unwrap(), log);
    assert_eq!(store.prune(&long_ago(at(30))).await.unwrap().keys_forgotten, 1);
    for id in [waiting, second] {
        let mut run = run_of(&store, id).await;
        add(&store, &mut run, at(31), vec![claimed("w", at(40)), finished()]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_with_too_many_blocks_is_rewritten() {
    let Some(container) = container() else { return };
    let gateway = Gateway::with(&container, Some(3)).await;
    let (store, other) = (gateway.any(), Gateway::on(&container).await.any());
    let mut run = run_of(&store, only(store.accept(acceptance("a", at(0))).await)).await;
    add(&store, &mut run, at(0), vec![claimed("w", at(9))]).await.unwrap();
    for minute in 10..20 {
        let mut late = run.clone();
        add(&store, &mut run, at(1), vec![Event::LeaseRenewed { lease_until: at(minute) }]).await.unwrap();
        let conflict = add(&other, &mut late, at(1), vec![Event::LeaseExpired]).await;
        assert!(matches!(conflict, Err(Error::Conflict { .. })), "{conflict:?}");
    }
    add(&store, &mut run, at(2), vec![finished()]).await.unwrap();
    assert_eq!(run_of(&other, run.id).await, run);
    assert!(container.wire.take_sent().iter().any(|line| line.starts_with("PUT") && line.contains("/cold/")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_that_is_committed_arrives_whoever_dies() {
    let Some(container) = container() else { return };
    let (dying, living) = (Gateway::on(&container).await, Gateway::on(&container.over_another_wire()).await);
    let workflow = WorkflowName::new("orders").unwrap();
    let mut run = run_of(&dying.any(), only(dying.store.accept(acceptance("a", at(0))).await)).await;
    add(&dying.any(), &mut run, at(0), vec![claimed("w", at(9))]).await.unwrap();
    container.wire.cut("/states/", 100, How::Before);
    let mut moved = run.clone();
    moved
        .apply(clawhook::domain::event::Entry {
            seq: run.next,
            at: at(1),
            event: finished(),
            body: bytes::Bytes::new(),
        })
        .unwrap();
    let state = json!({"cursor": 8}).as_object().cloned();
    let append =
        Append { run: run.id, after: run.next, at: at(1), events: vec![finished()], head: moved.head(), state };
    dying.store.append(append).await.unwrap();
    drop(dying);
    assert_eq!(json!(living.store.state(&workflow).await.unwrap()), json!({}));
    living.store.look(false).await.unwrap();
    assert_eq!(json!(living.store.state(&workflow).await.unwrap()), json!({"cursor": 8}));
    assert_eq!(all(&*living.store).await, [moved.head()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_that_is_gone_is_told_at_once_and_comes_back() {
    let Some(container) = container() else { return };
    let gateway = Gateway::on(&container).await;
    let store = gateway.any();
    let before = only(store.accept(acceptance("before", at(0))).await);
    container.wire.cut("", u32::MAX, How::Before);
    assert!(matches!(store.accept(acceptance("a", at(0))).await, Err(Error::Failed { .. })));
    container.wire.take_sent();
    let refused = join_all((0..50).map(|number| store.accept(acceptance(&format!("x{number}"), at(0))))).await;
    assert!(refused.iter().all(|refused| matches!(refused, Err(Error::Failed { .. }))));
    assert!(store.health().await.is_err());
    // What is in the index can still be shown.
    assert_eq!(all(&*store).await.len(), 1);
    container.wire.mend();
    wait_until_up(&store).await;
    let mut run = run_of(&store, before).await;
    add(&store, &mut run, at(1), vec![claimed("w", at(9)), finished()]).await.unwrap();
    only(store.accept(acceptance("a", at(0))).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_opened_says_what_to_do() {
    let Some(account) = Account::by_signature() else { return };
    let folder = tempfile::tempdir().unwrap();
    let refusal = |container: Container| {
        let folder = folder.path().to_owned();
        async move {
            match container.try_open(&folder, None).await {
                Err(error @ (Error::Open { .. } | Error::Locked { .. })) => error.to_string(),
                other => panic!("{other:?}"),
            }
        }
    };
    let why = refusal(account.clone().with_sas("sv=2024-11-04&sig=bm8=").container()).await;
    assert!(why.contains("check that the signature is valid"), "{why}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}/devstoreaccount1", listener.local_addr().unwrap());
    drop(listener);
    let why = refusal(account.clone().at(&nowhere).container()).await;
    assert!(why.contains("check `storage.endpoint`"), "{why}");
    // One folder has one owner, and the index of another container is made anew.
    let container = account.clone().container();
    let store = container.try_open(folder.path(), None).await.unwrap();
    only(store.accept(acceptance("a", at(0))).await);
    let why = refusal(container).await;
    assert!(why.contains("another Clawhook process"), "{why}");
    store.close().await;
    let other = account.container().try_open(folder.path(), None).await.unwrap();
    assert!(all(&*other).await.is_empty());
    other.close().await;
    std::fs::write(folder.path().join("azure-blob-index.db"), b"certainly not a database").unwrap();
}

/// What a run costs, request by request: `docs/decisions/azure-blob.md` counts them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_are_counted() {
    let Some(container) = container() else { return };
    let gateway = Gateway::on(&container).await;
    let store = gateway.any();
    let sent = || {
        let lines = container.wire.take_sent();
        let folders = ["open", "deliveries", "guards", "logs", "cold", "states", "marks", "journals"];
        lines
            .iter()
            .map(|line| {
                let method = line.split(' ').next().unwrap();
                let what = folders.iter().find(|folder| line.contains(*folder)).unwrap_or(&"?");
                let how = if line.contains("appendblock") {
                    "+"
                } else if line.contains("comp=list") {
                    "*"
                } else {
                    ""
                };
                format!("{method} {what}{how}")
            })
            .collect::<Vec<_>>()
    };
    sent();
    let id = only(store.accept(acceptance("a", at(0))).await);
    let mut accepting = sent();
    accepting.sort();
    assert_eq!(accepting, ["HEAD logs", "PUT deliveries", "PUT open"]);
    assert_eq!(store.queued(None, 9).await.unwrap().len(), 1);
    assert_eq!(sent(), [""; 0]);
    let mut run = run_of(&store, id).await;
    sent();
    let lease = claimed("w", at(9));
    add(&store, &mut run, at(0), vec![lease, prepared(&[])]).await.unwrap();
    assert_eq!(sent(), ["PUT logs", "PUT logs+"]);
    add(&store, &mut run, at(1), vec![finished()]).await.unwrap();
    assert_eq!(sent(), ["PUT logs+", "DELETE open"]);
    // A repeat costs nothing here, and one write and a few reads at another gateway.
    store.accept(acceptance("a", at(1))).await.unwrap();
    assert_eq!(sent(), [""; 0]);
    all(&*store).await;
    assert_eq!(sent(), [""; 0]);
    gateway.store.look(false).await.unwrap();
    assert_eq!(sent(), ["GET open*"]);
    let strip = Prune { payloads_before: at(2), ..long_ago(at(601)) };
    store.prune(&strip).await.unwrap();
    store.prune(&Prune { runs_before: at(2), ..long_ago(at(601)) }).await.unwrap();
    let mut retention = sent();
    retention.sort();
    assert_eq!(
        retention,
        [
            "DELETE cold",
            "DELETE deliveries",
            "DELETE logs",
            "GET deliveries",
            "GET logs",
            "HEAD logs",
            "PUT cold",
            "PUT deliveries"
        ]
    );
    let other = Gateway::on(&container).await;
    sent();
    only(store.accept(acceptance("b", at(1))).await);
    sent();
    assert!(matches!(other.store.accept(acceptance("b", at(1))).await, Ok(Receipt::Duplicate(_))));
    let mut repeat = sent();
    repeat.sort();
    assert_eq!(repeat, ["DELETE open", "HEAD deliveries", "HEAD logs", "PUT deliveries", "PUT open"]);
}
