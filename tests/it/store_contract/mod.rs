//! What every store must do. Each function here is one clause of the contract; `contract!` runs them all against every
//! backend. What only one backend owes is in a file of its own.

mod azure_blob;
pub(crate) mod azurite;
mod beside_memory;
pub(crate) mod database;
mod fixture;
mod lists;
mod postgres;
mod pruning;
mod records;
mod sqlite;
mod transfer;

use clawhook::domain::delivery::DeliveryKey;
use clawhook::domain::event::{Event, WaitReason};
use clawhook::domain::journal::{JournalEntry, JournalKind};
use clawhook::domain::state::State;
use clawhook::id::{Revision, RunId, Seq, WorkflowName};
use clawhook::limits;
use clawhook::store::{Append, Error, JournalQuery, Receipt, RunQuery};
use futures_util::future::join_all;
use serde_json::{Map, json};
use std::sync::Arc;

use lists::{every_filter_agrees_with_a_plain_one, pages_follow_each_other};
use pruning::{a_batch_is_bounded, old_runs_go_by_age_and_state, payloads_are_stripped_once};
use transfer::takes_everything_of_another_store;

use fixture::{
    Place, acceptance, add, at, claimed, delivery, finished, head_of, held, minutes, new_run, only, prepared, run_of,
};

/// Runs each clause against each backend.
macro_rules! contract {
    ($($clause:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test] async fn $clause() { super::$clause(super::Place::memory()).await; })*
        }
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() { super::$clause(super::Place::sqlite()).await; })*
        }
        mod on_azure_blob {
            use super::azurite::Account;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                let Some(place) = super::Place::azure_blob(Account::by_identity()).await else { return };
                super::$clause(place).await;
            })*
        }
        mod on_azure_blob_by_signature {
            use super::azurite::Account;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                let Some(place) = super::Place::azure_blob(Account::by_signature()).await else { return };
                super::$clause(place).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                let Some(place) = super::Place::postgres().await else { return };
                super::$clause(place).await;
            })*
        }
        mod on_faulty_without_faults {
            $(#[tokio::test(start_paused = true)] async fn $clause() { super::$clause(super::Place::faulty()).await; })*
        }
    };
}

contract! {
    accept_writes_the_first_event,
    the_same_key_is_the_same_run,
    a_key_is_forgotten_after_its_window,
    one_of_many_accepts_wins,
    a_delivery_starts_several_runs_at_once,
    several_deliveries_keep_their_own_keys,
    an_old_body_under_a_new_id_is_flagged,
    append_wants_the_place_just_read,
    one_of_many_appends_wins,
    state_is_committed_with_its_append,
    queued_runs_come_oldest_first,
    parked_runs_are_hidden_until_their_lane_is_free,
    due_runs_come_soonest_first,
    held_runs_wait_without_a_moment,
    journals_are_bounded,
    journals_are_filtered,
    documents_and_marks_are_kept,
    a_closed_store_refuses,
    every_filter_agrees_with_a_plain_one,
    pages_follow_each_other,
    old_runs_go_by_age_and_state,
    payloads_are_stripped_once,
    a_batch_is_bounded,
    takes_everything_of_another_store,
}

async fn accept_writes_the_first_event(place: Place) {
    let store = &place.store;
    let mut asked = acceptance("a", at(0));
    asked.runs[0].body = bytes::Bytes::from_static(b"{\"price\": 12.10}\xff\x00");
    let accepted = asked.runs[0].accepted.clone();
    let id = only(store.accept(asked).await);
    let log = store.log(id).await.unwrap();
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].seq, log[0].at, log[0].event.clone()), (Seq(0), at(0), Event::Accepted(Box::new(accepted))));
    assert_eq!(&log[0].body[..], b"{\"price\": 12.10}\xff\x00");
    assert_eq!(id.made_at(), at(0));
    let missing = RunId::from_u64(17);
    assert!(matches!(store.log(missing).await, Err(Error::NoRun(run)) if run == missing));
    assert_eq!(store.exclusive(), place.exclusive);
    assert!(store.health().await.is_ok());
}

async fn the_same_key_is_the_same_run(place: Place) {
    let first = only(place.store.accept(acceptance("a", at(0))).await);
    let again = place.store.accept(acceptance("a", at(1))).await.unwrap();
    assert_eq!(again, Receipt::Duplicate(vec![first]));
    let other = only(place.store.accept(acceptance("b", at(1))).await);
    assert!(other > first);
    // The first run's end changes nothing.
    let mut run = run_of(&place.store, first).await;
    add(&place.store, &mut run, at(2), vec![claimed("w", at(9)), finished()]).await.unwrap();
    assert_eq!(place.store.accept(acceptance("a", at(3))).await.unwrap(), Receipt::Duplicate(vec![first]));
}

async fn a_key_is_forgotten_after_its_window(place: Place) {
    let mut asked = acceptance("a", at(0));
    asked.window = minutes(10);
    let first = only(place.store.accept(asked.clone()).await);
    asked.at = at(9);
    assert_eq!(place.store.accept(asked.clone()).await.unwrap(), Receipt::Duplicate(vec![first]));
    asked.at = at(10);
    let second = only(place.store.accept(asked.clone()).await);
    assert_ne!(first, second);
    asked.at = at(19);
    assert_eq!(place.store.accept(asked).await.unwrap(), Receipt::Duplicate(vec![second]));
}

async fn one_of_many_accepts_wins(place: Place) {
    let asks = (0..64).map(|_| {
        let store = Arc::clone(&place.store);
        async move { store.accept(acceptance("a", at(0))).await.unwrap() }
    });
    let receipts = join_all(asks).await;
    let new: Vec<_> = receipts.iter().filter(|receipt| matches!(receipt, Receipt::New(_))).collect();
    let [Receipt::New(ids)] = new[..] else { panic!("{new:?}") };
    assert!(
        receipts.iter().all(|receipt| matches!(receipt, Receipt::New(run) | Receipt::Duplicate(run) if run == ids))
    );
    assert_eq!(place.store.runs(&RunQuery { limit: 100, ..RunQuery::default() }).await.unwrap().len(), 1);
}

async fn a_delivery_starts_several_runs_at_once(place: Place) {
    let mut asked = acceptance("a", at(0));
    asked.runs = vec![
        new_run("one", delivery("orders")),
        new_run("two", delivery("orders")),
        new_run("three", delivery("orders")),
    ];
    let Receipt::New(ids) = place.store.accept(asked.clone()).await.unwrap() else { panic!("not new") };
    let workflows = join_all(ids.iter().map(|id| async { head_of(&place.store, *id).await.workflow })).await;
    assert_eq!(workflows.iter().map(WorkflowName::as_str).collect::<Vec<_>>(), ["one", "two", "three"]);
    assert_eq!(place.store.accept(asked).await.unwrap(), Receipt::Duplicate(ids));
}

async fn several_deliveries_keep_their_own_keys(place: Place) {
    let all = |names: &[&str], minute| names.iter().map(|name| acceptance(name, at(minute))).collect::<Vec<_>>();
    let first = place.store.accept_all(all(&["a", "b", "c"], 0)).await.unwrap();
    let ids: Vec<_> = first.into_iter().map(|receipt| only(Ok(receipt))).collect();
    for id in &ids {
        assert_eq!(place.store.log(*id).await.unwrap().len(), 1);
    }
    let mut second = place.store.accept_all(all(&["d", "b", "a"], 1)).await.unwrap().into_iter();
    let new = only(Ok(second.next().unwrap()));
    assert!(!ids.contains(&new));
    let known = [Receipt::Duplicate(vec![ids[1]]), Receipt::Duplicate(vec![ids[0]])];
    assert_eq!(second.collect::<Vec<_>>(), known);
    assert_eq!(place.store.accept(acceptance("c", at(2))).await.unwrap(), Receipt::Duplicate(vec![ids[2]]));
    assert_eq!(place.store.accept_all(Vec::new()).await.unwrap(), []);
}

async fn an_old_body_under_a_new_id_is_flagged(place: Place) {
    let guard = |name: &str, minute| {
        let mut asked = acceptance(name, at(minute));
        asked.replay_guard = Some(DeliveryKey::of_body("/hooks", b"the body"));
        asked.window = minutes(10);
        asked
    };
    let first = only(place.store.accept(guard("a", 0)).await);
    assert_eq!(place.store.accept(guard("a", 1)).await.unwrap(), Receipt::Duplicate(vec![first]));
    assert_eq!(place.store.log(first).await.unwrap().len(), 1);
    for (name, minute) in [("b", 2), ("c", 3)] {
        let id = only(place.store.accept(guard(name, minute)).await);
        let log = place.store.log(id).await.unwrap();
        assert_eq!(log[1].event, Event::SuspectedReplay { of: first }, "{name}");
        assert_eq!(head_of(&place.store, id).await.suspected_replay_of, Some(first));
        let mut run = run_of(&place.store, id).await;
        add(&place.store, &mut run, at(minute), vec![claimed("w", at(9))]).await.unwrap();
    }
    let after = only(place.store.accept(guard("d", 10)).await);
    assert_eq!(place.store.log(after).await.unwrap().len(), 1);
}

async fn append_wants_the_place_just_read(place: Place) {
    let store = &place.store;
    let id = only(store.accept(acceptance("a", at(0))).await);
    let mut run = run_of(store, id).await;
    let mut zombie = run.clone();
    add(store, &mut run, at(1), vec![claimed("w", at(9)), prepared(&[("order", "#1")])]).await.unwrap();
    let late = add(store, &mut zombie, at(2), vec![claimed("z", at(9))]).await;
    assert!(matches!(late, Err(Error::Conflict { run, after: Seq(1) }) if run == id));
    let mut ahead = run.clone();
    ahead.next = ahead.next.plus(1);
    let append =
        Append { run: id, after: ahead.next, at: at(2), events: vec![finished()], head: run.head(), state: None };
    assert!(matches!(store.append(append).await, Err(Error::Conflict { .. })));
    add(store, &mut run, at(3), vec![finished()]).await.unwrap();
    let log = store.log(id).await.unwrap();
    assert_eq!(
        log.iter().map(|entry| entry.event.name()).collect::<Vec<_>>(),
        ["accepted", "claimed", "prepared", "finished"]
    );
    assert_eq!(log.iter().map(|entry| entry.seq.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(head_of(store, id).await, run.head());
    run.id = RunId::from_u64(17);
    let nobody = add(store, &mut run, at(4), vec![]).await;
    assert!(matches!(nobody, Err(Error::NoRun(_))));
}

async fn one_of_many_appends_wins(place: Place) {
    let id = only(place.store.accept(acceptance("a", at(0))).await);
    let run = run_of(&place.store, id).await;
    let claims = (0..32).map(|worker| {
        let (store, mut run) = (Arc::clone(&place.store), run.clone());
        async move { add(&store, &mut run, at(1), vec![claimed(&format!("w{worker}"), at(9))]).await }
    });
    let results = join_all(claims).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(Error::Conflict { .. }))));
    assert_eq!(place.store.log(id).await.unwrap().len(), 2);
}

async fn state_is_committed_with_its_append(place: Place) {
    let store = &place.store;
    let workflow = WorkflowName::new("orders").unwrap();
    let id = only(store.accept(acceptance("a", at(0))).await);
    let run = run_of(store, id).await;
    let change = |state: serde_json::Value, after| Append {
        run: id,
        after,
        at: at(1),
        events: vec![claimed("w", at(9))],
        head: run.head(),
        state: state.as_object().cloned(),
    };
    store.append(change(json!({"a": 1.10, "b": {"c": [null]}, "d": "x"}), Seq(1))).await.unwrap();
    assert!(store.append(change(json!({"a": 2}), Seq(1))).await.is_err());
    assert_eq!(json!(store.state(&workflow).await.unwrap()), json!({"a": 1.10, "b": {"c": [null]}, "d": "x"}));
    store.append(change(json!({"a": null, "d": "y", "e": null}), Seq(2))).await.unwrap();
    assert_eq!(json!(store.state(&workflow).await.unwrap()), json!({"b": {"c": [null]}, "d": "y"}));
    assert_eq!(store.state(&WorkflowName::new("other").unwrap()).await.unwrap(), Map::new());
}

async fn queued_runs_come_oldest_first(place: Place) {
    let store = &place.store;
    let mut ids = Vec::new();
    for (number, workflow) in (0..40).zip(["one", "two", "three"].into_iter().cycle()) {
        let mut asked = acceptance(&format!("{number}"), at(number));
        asked.runs = vec![new_run(workflow, delivery("orders"))];
        ids.push(only(store.accept(asked).await));
    }
    let found = |queued: Vec<clawhook::store::Queued>| queued.iter().map(|queued| queued.id).collect::<Vec<_>>();
    assert_eq!(found(store.queued(None, 100).await.unwrap()), ids);
    assert_eq!(found(store.queued(Some(ids[9]), 5).await.unwrap()), ids[10..15]);
    let mut run = run_of(store, ids[10]).await;
    add(store, &mut run, at(50), vec![claimed("w", at(90))]).await.unwrap();
    let queued = store.queued(Some(ids[9]), 2).await.unwrap();
    assert_eq!(queued[0].log, store.log(ids[11]).await.unwrap());
    assert_eq!(found(queued), ids[11..13]);
    add(store, &mut run, at(99), vec![Event::LeaseExpired]).await.unwrap();
    assert_eq!(found(store.queued(Some(ids[9]), 2).await.unwrap()), ids[10..12]);
    assert_eq!(store.open_counts().await.unwrap()[0], (State::Queued, 40));
}

async fn parked_runs_are_hidden_until_their_lane_is_free(place: Place) {
    let store = &place.store;
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(only(store.accept(acceptance(&format!("{number}"), at(number))).await));
    }
    for (id, lane) in [(1, "a"), (2, "a"), (3, "b")] {
        store.park(ids[id], lane).await.unwrap();
    }
    let queued = || async { store.queued(None, 9).await.unwrap().iter().map(|queued| queued.id).collect::<Vec<_>>() };
    assert_eq!(queued().await, ids[..1]);
    assert_eq!(store.parked("a").await.unwrap().unwrap().id, ids[1]);
    assert_eq!(store.parked("b").await.unwrap().unwrap().log, store.log(ids[3]).await.unwrap());
    assert!(store.parked("c").await.unwrap().is_none());
    assert_eq!(head_of(store, ids[1]).await.state, State::Queued);
    assert_eq!(store.open_counts().await.unwrap()[0], (State::Queued, 4));
    // An append takes it out of its lane.
    let mut run = run_of(store, ids[1]).await;
    add(store, &mut run, at(5), vec![claimed("w", at(9))]).await.unwrap();
    assert_eq!(store.parked("a").await.unwrap().unwrap().id, ids[2]);
    // A run that somebody drives cannot be parked.
    store.park(ids[1], "a").await.unwrap();
    assert_eq!(head_of(store, ids[1]).await.state, State::Running);
    assert_eq!(store.parked("a").await.unwrap().unwrap().id, ids[2]);
    store.unpark_all().await.unwrap();
    assert_eq!(queued().await, [ids[0], ids[2], ids[3]]);
    assert!(store.parked("a").await.unwrap().is_none());
}

async fn due_runs_come_soonest_first(place: Place) {
    let store = &place.store;
    let mut runs = Vec::new();
    for number in 0..4 {
        let id = only(store.accept(acceptance(&format!("{number}"), at(number))).await);
        runs.push(run_of(store, id).await);
    }
    assert_eq!(store.due(at(99), 9).await.unwrap(), (vec![], None));
    for (place, lease) in [(0, 40), (1, 20), (2, 30)] {
        add(store, &mut runs[place], at(10), vec![claimed("w", at(lease))]).await.unwrap();
    }
    let reason = WaitReason::Drained;
    add(store, &mut runs[0], at(11), vec![Event::Suspended { until: at(25), reason }]).await.unwrap();
    let due = |minute, limit| async move {
        let (heads, next) = store.due(at(minute), limit).await.unwrap();
        (heads.iter().map(|head| head.id).collect::<Vec<_>>(), next)
    };
    let [first, second, third, _] = [runs[0].id, runs[1].id, runs[2].id, runs[3].id];
    assert_eq!(due(19, 9).await, (vec![], Some(at(20))));
    assert_eq!(due(20, 9).await, (vec![second], Some(at(25))));
    assert_eq!(due(29, 9).await, (vec![second, first], Some(at(30))));
    assert_eq!(due(30, 2).await, (vec![second, first], None));
    assert_eq!(due(30, 9).await, (vec![second, first, third], None));
    add(store, &mut runs[1], at(20), vec![Event::LeaseRenewed { lease_until: at(50) }]).await.unwrap();
    add(store, &mut runs[2], at(21), vec![finished()]).await.unwrap();
    assert_eq!(due(30, 9).await, (vec![first], Some(at(50))));
}

async fn held_runs_wait_without_a_moment(place: Place) {
    let store = &place.store;
    let mut asked = acceptance("a", at(0));
    asked.runs[0].accepted = held(asked.runs[0].accepted.clone());
    let id = only(store.accept(asked).await);
    assert!(store.queued(None, 9).await.unwrap().is_empty());
    assert_eq!(store.due(at(1_000_000), 9).await.unwrap(), (vec![], None));
    let head = head_of(store, id).await;
    assert_eq!((head.state, head.wait), (State::Waiting, Some(WaitReason::Held { source: "orders-hook".into() })));
    let mut run = run_of(store, id).await;
    add(store, &mut run, at(1), vec![Event::Woken]).await.unwrap();
    assert_eq!(store.queued(None, 9).await.unwrap()[0].id, id);
}

fn entry(kind: JournalKind, number: i64) -> JournalEntry {
    JournalEntry {
        kind,
        at: at(number),
        what: if number % 2 == 0 { "run.cancel" } else { "run.replay" }.into(),
        subject: format!("subject-{}", number % 5),
        cause: format!("cause-{}", number % 3),
        detail: json!({"number": number, "price": 12.10}).as_object().cloned().unwrap(),
        body: bytes::Bytes::from(vec![0xff; 3]),
    }
}

fn journal_of(kind: JournalKind, limit: usize) -> JournalQuery {
    JournalQuery::all(kind, limit)
}

async fn journals_are_bounded(place: Place) {
    let store = &place.store;
    let kept = limits::REFUSALS_KEPT_MAX;
    let entries = |count| (0..count).map(|number| entry(JournalKind::Refusal, number)).collect::<Vec<_>>();
    store.journal_append(entries(700)).await.unwrap();
    store.journal_append(vec![entry(JournalKind::Audit, 5)]).await.unwrap();
    store.journal_append(entries(700)).await.unwrap();
    let rows = store.journal(&journal_of(JournalKind::Refusal, 5_000)).await.unwrap();
    assert_eq!(rows.len(), kept);
    assert!(rows.is_sorted_by(|newer, older| newer.id > older.id));
    assert_eq!(rows[0].entry, entry(JournalKind::Refusal, 699));
    assert_eq!(store.journal(&journal_of(JournalKind::Audit, 9)).await.unwrap().len(), 1);
}

async fn journals_are_filtered(place: Place) {
    let store = &place.store;
    store.journal_append((0..60).map(|number| entry(JournalKind::Audit, number)).collect()).await.unwrap();
    let all = store.journal(&journal_of(JournalKind::Audit, 100)).await.unwrap();
    for subject in [None, Some("subject-1")] {
        for cause in [None, Some("cause-2")] {
            for what in [None, Some("run.cancel"), Some("none")] {
                for before in [None, Some(all[20].id)] {
                    let query = JournalQuery {
                        subject: subject.map(Into::into),
                        cause: cause.map(Into::into),
                        what: what.map(Into::into),
                        before,
                        ..journal_of(JournalKind::Audit, 7)
                    };
                    let plain = all.iter().filter(|row| {
                        subject.is_none_or(|subject| row.entry.subject == subject)
                            && cause.is_none_or(|cause| row.entry.cause == cause)
                            && what.is_none_or(|what| row.entry.what == what)
                            && before.is_none_or(|before| row.id < before)
                    });
                    let plain: Vec<_> = plain.take(7).cloned().collect();
                    assert_eq!(store.journal(&query).await.unwrap(), plain, "{query:?}");
                }
            }
        }
    }
}

async fn documents_and_marks_are_kept(place: Place) {
    let store = &place.store;
    let revision = Revision::of("name: x".as_bytes());
    store.put_document(&revision, "name: x").await.unwrap();
    store.put_document(&revision, "name: x").await.unwrap();
    assert_eq!(store.document(&revision).await.unwrap().as_deref(), Some("name: x"));
    assert_eq!(store.document(&Revision::of(b"")).await.unwrap(), None);
    for (name, value) in [("slot/b", "2"), ("slot/a", "1"), ("slot", "0"), ("paused/100%", "yes"), ("slot/订", "3")] {
        store.set_mark(name, Some(value)).await.unwrap();
    }
    store.set_mark("slot/a", Some("9")).await.unwrap();
    store.set_mark("slot/b", None).await.unwrap();
    store.set_mark("slot/never", None).await.unwrap();
    let marks = store.marks("slot/").await.unwrap();
    assert_eq!(marks, [("slot/a".into(), "9".into()), ("slot/订".into(), "3".into())]);
    assert_eq!(store.marks("paused/100%").await.unwrap().len(), 1);
    assert_eq!(store.marks("").await.unwrap().len(), 4);
}

async fn a_closed_store_refuses(place: Place) {
    let id = only(place.store.accept(acceptance("a", at(0))).await);
    place.store.close().await;
    let late = place.store.accept(acceptance("b", at(1))).await;
    assert!(matches!(late, Err(Error::Failed { .. })), "{late:?}");
    assert!(place.store.log(id).await.is_err());
    place.store.close().await;
}
