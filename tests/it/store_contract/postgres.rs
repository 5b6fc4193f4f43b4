//! What the PostgreSQL store owes beyond the contract: several gateways on one database, schemas, a server that goes
//! away, and space given back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use clawhook::clock::Timestamp;
use clawhook::domain::event::Event;
use clawhook::id::RunId;
use clawhook::store::postgres::Postgres;
use clawhook::store::{self, Error, Parts, PostgresPlace, Prune, Receipt, RunQuery, Settings, Store};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::wire::Wire;

use super::beside_memory::BesideMemory;
use super::database::{Database, Password};
use super::fixture::{acceptance, add, at, claimed, finished, key, minutes, only, run_of};

fn old(minute: i64) -> Prune {
    let before = at(minute);
    Prune { now: before, runs_before: before, failed_before: before, payloads_before: before, batch_max: 1000 }
}

async fn all(store: &Arc<dyn Store>) -> Vec<RunId> {
    let query = RunQuery { limit: 10_000, ..RunQuery::default() };
    store.runs(&query).await.unwrap().iter().map(|head| head.id).collect()
}

/// Many keys at two gateways, from many tasks each, in an order of their own: each key makes one run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_accept_each_key_once() {
    const KEYS: usize = 150;
    let Some(database) = Database::create().await else { return };
    let gateways = [database.gateway().await, database.gateway().await];
    let mut asks = Vec::new();
    for task in 0..12 {
        let store = Arc::clone(&gateways[task % 2]);
        asks.push(tokio::spawn(async move {
            let mut receipts = Vec::new();
            for number in 0..KEYS {
                let name = (number * 7 + task * 13) % KEYS;
                let mut asked = acceptance(&name.to_string(), at(0));
                asked.runs = vec![asked.runs[0].clone(); 1 + name % 3];
                asked.replay_guard = Some(key(&format!("body-{}", name % 10)));
                receipts.push((name, store.accept(asked).await.unwrap()));
            }
            receipts
        }));
    }
    let (mut made, mut told) = (HashMap::new(), Vec::new());
    for ask in asks {
        for (name, receipt) in ask.await.unwrap() {
            match receipt {
                Receipt::New(ids) => assert!(made.insert(name, ids).is_none(), "{name} was new twice"),
                Receipt::Duplicate(ids) => told.push((name, ids)),
            }
        }
    }
    assert_eq!((made.len(), told.len()), (KEYS, 11 * KEYS));
    assert!(told.iter().all(|(name, ids)| made[name] == *ids));
    let ids: HashSet<_> = made.values().flatten().copied().collect();
    assert_eq!(ids, all(&gateways[1]).await.into_iter().collect());
    // Of ten bodies each was new once, whichever gateway had it first.
    let mut fresh = 0;
    for ids in made.values() {
        let flagged = gateways[0].log(ids[0]).await.unwrap().len() == 2;
        fresh += usize::from(!flagged);
    }
    assert_eq!(fresh, 10);
}

/// Both read the same place in a log and write: one is told so, the other gets a conflict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_append_each_place_once() {
    const RUNS: usize = 40;
    let Some(database) = Database::create().await else { return };
    let gateways = [database.gateway().await, database.gateway().await];
    let accepts = (0..RUNS).map(|number| gateways[number % 2].accept(acceptance(&number.to_string(), at(0))));
    let ids: Vec<_> = join_all(accepts).await.into_iter().map(only).collect();
    let mut workers = Vec::new();
    for task in 0..8 {
        let (store, mut ids) = (Arc::clone(&gateways[task % 2]), ids.clone());
        ids.rotate_left(task * 5);
        workers.push(tokio::spawn(async move {
            let appends = ids.iter().map(|id| async {
                let mut run = run_of(&store, *id).await;
                if run.next.0 > 1 {
                    return 0;
                }
                match add(&store, &mut run, at(1), vec![claimed(&format!("w{task}"), at(9))]).await {
                    Ok(()) => {
                        add(&store, &mut run, at(2), vec![finished()]).await.unwrap();
                        1
                    }
                    Err(Error::Conflict { .. }) => 0,
                    Err(error) => panic!("{error}"),
                }
            });
            join_all(appends).await.iter().sum::<usize>()
        }));
    }
    let mut won = 0;
    for worker in workers {
        won += worker.await.unwrap();
    }
    assert_eq!(won, RUNS);
    for id in ids {
        assert_eq!(gateways[0].log(id).await.unwrap().len(), 3);
    }
}

/// What one gateway has read from the queue is not given to the other, and what it leaves behind is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_share_the_queue() {
    let Some(database) = Database::create().await else { return };
    let (one, two) = (database.gateway().await, database.gateway().await);
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(only(one.accept(acceptance(&number.to_string(), at(number))).await));
    }
    let queued = async |store: &Arc<dyn Store>, limit| {
        let queued = store.queued(None, limit).await.unwrap();
        queued.iter().map(|queued| queued.id).collect::<Vec<_>>()
    };
    assert_eq!(queued(&one, 8).await, ids[..8]);
    assert_eq!(queued(&two, 8).await, ids[8..16]);
    assert_eq!(queued(&one, 4).await, ids[..4], "its own it sees again");
    one.park(ids[0], "lane").await.unwrap();
    one.close().await;
    assert_eq!(queued(&two, 20).await, ids, "whoever leaves gives back what it held");
    two.park(ids[1], "lane").await.unwrap();
    // One that dies cannot; the others find out.
    database.run("UPDATE clawhook.gateways SET seen = now() - interval '1 hour'").await;
    let three = database.gateway().await;
    database.run("UPDATE clawhook.runs SET offered_until = now() - interval '1 hour'").await;
    assert_eq!(queued(&three, 20).await, ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_hears_of_the_work_of_another() {
    let Some(database) = Database::create().await else { return };
    let (one, two) = (database.gateway().await, database.gateway().await);
    let heard = {
        let two = Arc::clone(&two);
        tokio::spawn(async move { two.work_came().await })
    };
    only(one.accept(acceptance("a", at(0))).await);
    heard.await.unwrap();
    // Its own it knows without being told: only a foreign notice can be the next.
    only(two.accept(acceptance("b", at(0))).await);
    one.work_came().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_start_together_make_one_schema() {
    let Some(database) = Database::create().await else { return };
    let opened = join_all((0..4).map(|_| database.open())).await;
    let stores: Vec<Arc<dyn Store>> = opened.into_iter().map(|store| Arc::new(store.unwrap()) as _).collect();
    assert_eq!(database.number("SELECT count(*) FROM clawhook.steps").await, 1);
    let id = only(stores[0].accept(acceptance("a", at(0))).await);
    assert_eq!(stores[3].accept(acceptance("a", at(1))).await.unwrap(), Receipt::Duplicate(vec![id]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_of_others_and_of_newer_versions_are_refused() {
    let Some(database) = Database::create().await else { return };
    database.run("CREATE SCHEMA clawhook; CREATE TABLE clawhook.mine (id int)").await;
    assert!(database.refusal(database.place.clone()).await.contains("holds tables of something else"));
    database.run("DROP TABLE clawhook.mine").await;
    drop(database.gateway().await);
    database.run("INSERT INTO clawhook.steps (step) VALUES (99)").await;
    let why = database.refusal(database.place.clone()).await;
    assert!(why.contains("written by a newer Clawhook") && why.contains("install that version"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_prove_itself_is_refused() {
    let Some(database) = Database::create().await else { return };
    if database.place.authorities.is_none() {
        return;
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let other = rcgen::CertificateParams::new(vec!["other".to_owned()]).unwrap().self_signed(&key).unwrap();
    let authorities = Some(Arc::from(other.pem().into_bytes()));
    let why = database.refusal(PostgresPlace { authorities, ..database.place.clone() }).await;
    assert!(why.contains("certificate"), "{why}");
    let none = PostgresPlace { authorities: Some(Arc::from(*b"nothing")), ..database.place.clone() };
    assert!(database.refusal(none).await.contains("holds no certificate"));
    let nobody = PostgresPlace { port: 1, ..database.place.clone() };
    assert!(database.refusal(nobody).await.contains("refused"));
    let wrong = Parts { secrets: Arc::new(Password(b"wrong".to_vec())), ..database.parts(database.place.clone()) };
    let why = Postgres::open(wrong).await.unwrap_err().to_string();
    assert!(why.contains("password authentication failed") && !why.contains("wrong"), "{why}");
}

/// Connections are cut again and again while deliveries pour in: each ends in time, and what was told failed is tried
/// again and is then a duplicate or new, never lost, never two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_and_double_nothing() {
    let Some(database) = Database::create().await else { return };
    let gateways = [database.gateway().await, database.gateway().await];
    let mut senders = Vec::new();
    for task in 0..16_usize {
        let gateways = gateways.clone();
        senders.push(tokio::spawn(async move {
            let (mut ids, mut failed) = (Vec::new(), 0);
            for number in 0..60 {
                let name = format!("{task}-{number}");
                let mut tries = 0;
                let id = loop {
                    let store = &gateways[(task + tries) % 2];
                    match store.accept(acceptance(&name, at(0))).await {
                        Ok(Receipt::New(ids) | Receipt::Duplicate(ids)) => break ids[0],
                        Err(Error::Failed { .. } | Error::Full(_)) => failed += 1,
                        Err(error) => panic!("{error}"),
                    }
                    tries += 1;
                };
                ids.push(id);
            }
            (ids, failed)
        }));
    }
    while !senders.iter().all(tokio::task::JoinHandle::is_finished) {
        database.cut().await;
    }
    let (mut ids, mut failures) = (HashSet::new(), 0);
    for sender in senders {
        let (own, failed) = sender.await.unwrap();
        ids.extend(own);
        failures += failed;
    }
    assert!(failures > 0, "no connection was in use when it was cut");
    assert_eq!(ids.len(), 16 * 60);
    assert_eq!(ids, all(&database.gateway().await).await.into_iter().collect());
}

/// The connection breaks while the server commits, and the server goes on: that is told as a failure, and the next try
/// is a duplicate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_of_unknown_outcome_is_a_duplicate_the_next_time() {
    let Some(database) = Database::create().await else { return };
    let wire = Wire::to(database.place.port).await;
    let place = PostgresPlace { port: wire.port, ..database.place.clone() };
    let store: Arc<dyn Store> = Arc::new(Postgres::open(database.parts(place)).await.unwrap());
    only(store.accept(acceptance("before", at(0))).await);
    // A deferred trigger runs within the commit; this one holds it up for as long as the test holds a lock.
    let holder = database.client().await;
    holder
        .batch_execute(
            "SELECT pg_advisory_lock(42);
             CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON clawhook.keys DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION wait()",
        )
        .await
        .unwrap();
    let lost = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.accept(acceptance("a", at(0))).await })
    };
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND NOT granted";
    while database.number(waits).await == 0 {}
    wire.cut();
    let lost = lost.await.unwrap();
    assert!(matches!(lost, Err(Error::Failed { .. })), "{lost:?}");
    holder.batch_execute("SELECT pg_advisory_unlock(42)").await.unwrap();
    while database.number("SELECT count(*) FROM clawhook.runs").await == 1 {}
    let again = loop {
        match store.accept(acceptance("a", at(0))).await {
            Err(Error::Failed { .. }) => {}
            answer => break answer.unwrap(),
        }
    };
    let ids = all(&database.gateway().await).await;
    assert_eq!((again, ids.len()), (Receipt::Duplicate(vec![ids[0]]), 2));
}

/// Accepts until the store is there again.
async fn settled(store: &Arc<dyn Store>, name: &str) -> RunId {
    loop {
        match store.accept(acceptance(name, at(0))).await {
            Ok(Receipt::New(ids) | Receipt::Duplicate(ids)) => return ids[0],
            Err(Error::Failed { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// While nobody may connect, calls fail and do not hang; when they may again, the same store works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_ends_without_a_restart() {
    let Some(database) = Database::create().await else { return };
    let store = database.gateway().await;
    let id = only(store.accept(acceptance("a", at(0))).await);
    let name = &database.place.database;
    database.admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
    let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    database.admin(&cut).await;
    let calls = (0..50).map(|number| {
        let store = Arc::clone(&store);
        async move { store.accept(acceptance(&format!("lost-{number}"), at(0))).await }
    });
    let refused = join_all(calls).await;
    assert!(refused.iter().all(|refused| matches!(refused, Err(Error::Failed { .. }))), "{refused:?}");
    assert!(store.log(id).await.is_err() && store.health().await.is_err());
    database.admin(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    settled(&store, "b").await;
    // The other connections come back as well, each in its time.
    while store.health().await.is_err() || store.runs(&RunQuery { limit: 1, ..RunQuery::default() }).await.is_err() {}
    assert_eq!(all(&store).await.len(), 2);
    assert_eq!(store.accept(acceptance("a", at(1))).await.unwrap(), Receipt::Duplicate(vec![id]));
}

/// A lock that somebody else does not let go fails the call in time, and does not take the store down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_stays_locked_fails_only_its_own_append() {
    let Some(database) = Database::create().await else { return };
    let store = database.gateway().await;
    let (stuck, free) =
        (only(store.accept(acceptance("a", at(0))).await), only(store.accept(acceptance("b", at(0))).await));
    let (mut stuck_run, mut free_run) = (run_of(&store, stuck).await, run_of(&store, free).await);
    let mut holder = database.client().await;
    let held = holder.transaction().await.unwrap();
    held.execute("SELECT 1 FROM clawhook.runs WHERE id = $1 FOR UPDATE", &[&stuck.as_u64().cast_signed()])
        .await
        .unwrap();
    let claim = |name: &str| vec![claimed(name, at(9))];
    let (first, second) =
        tokio::join!(add(&store, &mut stuck_run, at(1), claim("w")), add(&store, &mut free_run, at(1), claim("w")));
    assert!(matches!(first, Err(Error::Failed { .. })), "{first:?}");
    second.unwrap();
    held.rollback().await.unwrap();
    add(&store, &mut stuck_run, at(1), claim("w")).await.unwrap();
}

/// Runs of two weeks; the older week goes as a whole, and its files with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_dropped_whole() {
    const DAY: i64 = 24 * 60;
    let Some(database) = Database::create().await else { return };
    let (store, other) = (database.gateway().await, database.gateway().await);
    for number in 0..50 {
        let mut run = run_of(&store, only(store.accept(acceptance(&format!("old-{number}"), at(number))).await)).await;
        add(&store, &mut run, at(number), vec![claimed("w", at(99)), finished()]).await.unwrap();
    }
    let open = only(other.accept(acceptance("open", at(60))).await);
    let young = only(store.accept(acceptance("young", at(30 * DAY))).await);
    let id = open.as_u64();
    let week = format!("SELECT replace(tableoid::regclass::text, 'runs', 'log') FROM clawhook.runs WHERE id = {id}");
    let week: String = database.client().await.query_one(&week, &[]).await.unwrap().get(0);
    let is_there = async || database.number(&format!("SELECT count(to_regclass('{week}'))")).await == 1;
    // Something in it is still open: single runs go, the partition stays.
    let done = store.prune(&old(20 * DAY)).await.unwrap();
    assert_eq!((done.runs_deleted, is_there().await), (50, true));
    let mut run = run_of(&store, open).await;
    add(&store, &mut run, at(100), vec![claimed("w", at(199)), finished()]).await.unwrap();
    let done = store.prune(&old(20 * DAY)).await.unwrap();
    assert_eq!((done.runs_deleted, is_there().await), (1, false));
    assert_eq!(all(&store).await, [young]);
    // A gateway that still knows the partition finds out that it has to make it again.
    let late = only(other.accept(acceptance("late", at(70))).await);
    assert_eq!(all(&store).await, [young, late]);
}

/// The log of an old week of which most was stripped is written anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stripping_gives_disk_space_back() {
    const DAY: i64 = 24 * 60;
    let Some(database) = Database::create().await else { return };
    let store = database.gateway().await;
    let random = &mut StdRng::seed_from_u64(1);
    let mut last = None;
    for number in 0..100 {
        let mut asked = acceptance(&number.to_string(), at(number));
        asked.runs[0].body = (0..20_000).map(|_| random.random::<u8>()).collect::<Vec<_>>().into();
        let mut run = run_of(&store, only(store.accept(asked).await)).await;
        add(&store, &mut run, at(number), vec![claimed("w", at(999)), finished()]).await.unwrap();
        last = Some(run);
    }
    let size = async || store.health().await.unwrap().disk_bytes;
    let before = size().await;
    assert!(before > 2_000_000);
    let ask = Prune { runs_before: at(0), failed_before: at(0), ..old(20 * DAY) };
    let mut stripped = 0;
    loop {
        let done = store.prune(&ask).await.unwrap();
        stripped += done.runs_stripped;
        if !done.more {
            break;
        }
    }
    assert_eq!(stripped, 100);
    assert!(size().await < before / 2, "{before} bytes became {}", size().await);
    // It is still a log that can be read and written.
    let mut run = last.unwrap();
    let log = store.log(run.id).await.unwrap();
    assert!(log.iter().all(|entry| *entry == entry.clone().without_payloads()));
    run.state = clawhook::domain::state::State::Failed;
    let resumed = Event::Resumed { by: "ann".into(), again: vec![], reopened: vec![], repin: None };
    add(&store, &mut run, at(21 * DAY), vec![resumed]).await.unwrap();
    assert_eq!(store.log(run.id).await.unwrap().len(), 4);
}

/// Keys and guards at random: it answers as memory does, whichever of two gateways is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_known_as_in_memory() {
    let Some(database) = Database::create().await else { return };
    let gateways = [database.gateway().await, database.gateway().await];
    let mut beside = BesideMemory::default();
    let random = &mut StdRng::seed_from_u64(3);
    for step in 0..1000 {
        let store = &gateways[random.random_range(0..2)];
        let mut asked = acceptance(&random.random_range(0..200).to_string(), at(step / 10));
        asked.window = minutes(if random.random_bool(0.05) { 400 } else { 20 });
        // Some guards are the keys of others.
        let guard = random.random_range(0..250);
        asked.replay_guard = Some(if guard < 50 { key(&guard.to_string()) } else { key(&format!("body-{guard}")) });
        beside.accept(store.as_ref(), asked, step).await;
        if step % 200 == 150 {
            let (now, never) = (at(step / 10), Timestamp::from_millis(0));
            let ask = Prune { now, runs_before: never, failed_before: never, payloads_before: never, batch_max: 10 };
            while store.prune(&ask).await.unwrap().more {}
        }
    }
    assert!(beside.duplicates > 100, "{}", beside.duplicates);
}

/// A zero byte cannot be in PostgreSQL's text; requests of strangers may carry one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zero_bytes_do_no_harm() {
    let Some(database) = Database::create().await else { return };
    let store = database.gateway().await;
    let mut asked = acceptance("a\0", at(0));
    asked.runs[0].body = bytes::Bytes::from_static(b"\0");
    let trigger = clawhook::domain::trigger::Trigger::Manual { by: "a\0b".into() };
    asked.runs.push(super::fixture::new_run("orders", trigger));
    let Receipt::New(ids) = store.accept(asked).await.unwrap() else { panic!("not new") };
    store.park(ids[0], "lane\0").await.unwrap();
    assert_eq!(store.parked("lane\0").await.unwrap().unwrap().id, ids[0]);
    let query = RunQuery { source: Some("a\0b".into()), limit: 9, ..RunQuery::default() };
    assert_eq!(store.runs(&query).await.unwrap()[0].id, ids[1]);
    store.set_mark("paused\0", Some("\0")).await.unwrap();
    assert_eq!(store.marks("paused\0").await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_backend_is_found_by_name() {
    let Some(database) = Database::create().await else { return };
    assert!(store::open(database.parts(database.place.clone())).await.is_ok());
    let nowhere = Parts {
        settings: Settings { backend: "postgres".into(), ..Settings::default() },
        ..database.parts(database.place.clone())
    };
    assert!(store::open(nowhere).await.is_err());
}
