//! What retention lets go, and what it must not touch.

use clawhook::domain::event::Event;
use clawhook::domain::run::Run;
use clawhook::id::RunId;
use clawhook::store::{Error, Prune, Pruned, Receipt, RunQuery, Store};
use std::sync::Arc;

use super::fixture::{Place, acceptance, add, at, claimed, failed, finished, minutes, only, prepared, run_of};

fn prune(minute: i64, batch_max: usize) -> Prune {
    Prune { now: at(minute), runs_before: at(0), failed_before: at(0), payloads_before: at(0), batch_max }
}

/// A run that was accepted at one minute and ended at another.
async fn ended(store: &Arc<dyn Store>, name: &str, accepted: i64, ended: i64, how: Event) -> Run {
    let mut asked = acceptance(name, at(accepted));
    asked.runs[0].body = bytes::Bytes::from(vec![b'x'; 5000]);
    asked.window = minutes(30);
    let mut run = run_of(store, only(store.accept(asked).await)).await;
    let labels = prepared(&[("order", name)]);
    add(store, &mut run, at(accepted), vec![claimed("w", at(99)), labels]).await.unwrap();
    add(store, &mut run, at(ended), vec![how]).await.unwrap();
    run
}

async fn all(store: &Arc<dyn Store>) -> Vec<RunId> {
    let query = RunQuery { limit: 1000, ..RunQuery::default() };
    store.runs(&query).await.unwrap().iter().rev().map(|head| head.id).collect()
}

pub(super) async fn old_runs_go_by_age_and_state(place: Place) {
    let store = &place.store;
    let long = ended(store, "long", 0, 50, finished()).await.id;
    let old = ended(store, "old", 1, 5, finished()).await.id;
    let broken = ended(store, "broken", 2, 6, failed(500)).await.id;
    let open = only(store.accept(acceptance("open", at(3))).await);
    let young = ended(store, "young", 40, 41, finished()).await.id;
    let done = store.prune(&Prune { runs_before: at(20), failed_before: at(4), ..prune(20, 100) }).await.unwrap();
    assert_eq!(done, Pruned { runs_deleted: 1, ..Pruned::default() });
    assert_eq!(all(store).await, [long, broken, open, young]);
    assert!(matches!(store.log(old).await, Err(Error::NoRun(_))));
    let found = RunQuery { labels: vec![("order".into(), "old".into())], limit: 9, ..RunQuery::default() };
    assert_eq!(store.runs(&found).await.unwrap(), []);
    // The key outlives the run: a late repeat must not start it again.
    let mut late = acceptance("old", at(30));
    assert_eq!(store.accept(late.clone()).await.unwrap(), Receipt::Duplicate(vec![old]));
    let done = store.prune(&Prune { runs_before: at(45), failed_before: at(45), ..prune(36, 100) }).await.unwrap();
    assert_eq!(done, Pruned { runs_deleted: 2, keys_forgotten: 3, ..Pruned::default() });
    assert_eq!(all(store).await, [long, open]);
    late.at = at(37);
    assert!(matches!(store.accept(late).await.unwrap(), Receipt::New(_)));
}

pub(super) async fn payloads_are_stripped_once(place: Place) {
    let store = &place.store;
    let mut old = ended(store, "old", 1, 5, failed(500)).await;
    let young = ended(store, "young", 2, 30, finished()).await;
    let ask = Prune { payloads_before: at(20), ..prune(20, 100) };
    let head = old.head();
    let done = store.prune(&ask).await.unwrap();
    assert_eq!(done, Pruned { runs_stripped: 1, ..Pruned::default() });
    let stripped = store.log(old.id).await.unwrap();
    assert_eq!(stripped.len(), 4);
    assert!(stripped.iter().all(|entry| *entry == entry.clone().without_payloads()));
    assert_eq!(Run::fold(old.id, stripped).unwrap().head(), head);
    assert_eq!(store.log(young.id).await.unwrap()[0].body.len(), 5000);
    assert_eq!(store.prune(&ask).await.unwrap(), Pruned::default());
    // It is found as before, by state and by label.
    for query in [
        RunQuery { states: vec![head.state], limit: 9, ..RunQuery::default() },
        RunQuery { labels: vec![("order".into(), "old".into())], limit: 9, ..RunQuery::default() },
    ] {
        assert_eq!(store.runs(&query).await.unwrap(), std::slice::from_ref(&head));
    }
    // What it gets after a resume is stripped too.
    let resumed = Event::Resumed { by: "ann".into(), again: vec![], reopened: vec![], repin: None };
    add(store, &mut old, at(10), vec![resumed, claimed("w", at(12)), finished()]).await.unwrap();
    assert_eq!(store.prune(&ask).await.unwrap().runs_stripped, 1);
    assert_eq!(store.prune(&Prune { runs_before: at(20), ..ask }).await.unwrap().runs_deleted, 1);
    assert_eq!(all(store).await, [young.id]);
}

pub(super) async fn a_batch_is_bounded(place: Place) {
    let store = &place.store;
    for number in 0..25 {
        ended(store, &number.to_string(), 1, 2, finished()).await;
    }
    let mut touched = Vec::new();
    loop {
        let done = store.prune(&Prune { payloads_before: at(10), ..prune(10, 10) }).await.unwrap();
        touched.push(done.runs_stripped);
        if !done.more {
            break;
        }
    }
    assert_eq!(touched, [10, 10, 5]);
    let done = store.prune(&Prune { runs_before: at(10), ..prune(10, 10) }).await.unwrap();
    assert_eq!((done.runs_deleted, done.more, all(store).await.len()), (10, true, 15));
}
