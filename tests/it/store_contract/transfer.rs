//! Everything that one store keeps, taken by another: a picture of the embedded store goes into each backend.

use std::path::Path;
use std::sync::Arc;

use clawhook::clock::SystemClock;
use clawhook::domain::delivery::DeliveryKey;
use clawhook::domain::event::{Event, WaitReason};
use clawhook::domain::journal::{JournalEntry, JournalKind};
use clawhook::domain::run::Run;
use clawhook::id::{Revision, WorkflowName};
use clawhook::store::sqlite::Sqlite;
use clawhook::store::transfer::Piece;
use clawhook::store::{self, Error, JournalQuery, Parts, Prune, Receipt, RunQuery, Settings, Store};
use futures_util::TryStreamExt as _;
use serde_json::{Map, json};

use crate::kit::OneSecret;

use super::fixture::{
    Place, acceptance, add, at, claimed, delivery, failed, finished, held, minutes, new_run, only, prepared, run_of,
};

pub(super) async fn takes_everything_of_another_store(place: Place) {
    let folder = tempfile::tempdir().unwrap();
    let old: Arc<dyn Store> = Arc::new(Sqlite::open(folder.path()).unwrap());
    fill(&old).await;
    let pieces = pieces_in(folder.path()).await;
    // Begun again after it was broken off: what is there stays as it is.
    place.store.load(pieces[..pieces.len() / 2].to_vec()).await.unwrap();
    place.store.load(pieces.clone()).await.unwrap();
    same(&old, &place.store).await;
    // Deliveries that came before are known, and no new run takes the place of one that was taken.
    let known = place.store.accept(acceptance("ended", at(30))).await.unwrap();
    assert_eq!(known, old.accept(acceptance("ended", at(30))).await.unwrap());
    assert!(matches!(known, Receipt::Duplicate(_)));
    let fresh = only(place.store.accept(acceptance("fresh", at(1))).await);
    assert!(matches!(old.log(fresh).await, Err(Error::NoRun(_))));
}

/// Runs in every state, and all that is kept beside them.
async fn fill(store: &Arc<dyn Store>) {
    let mut replayed = acceptance("queued", at(0));
    replayed.replay_guard = Some(DeliveryKey::of_body("/hooks/orders", b"{}"));
    store.accept(replayed.clone()).await.unwrap();
    replayed.key = super::fixture::key("flagged");
    store.accept(replayed).await.unwrap();
    let mut ended = acceptance("ended", at(1));
    ended.runs.push(new_run("mail", delivery("orders")));
    let Ok(Receipt::New(ids)) = store.accept(ended).await else { panic!("two runs") };
    for (id, end) in ids.into_iter().zip([finished(), failed(503)]) {
        let mut run = run_of(store, id).await;
        add(store, &mut run, at(2), vec![claimed("w", at(9)), prepared(&[("order", "#7")])]).await.unwrap();
        add(store, &mut run, at(3), vec![end]).await.unwrap();
    }
    let mut running = run_of(store, only(store.accept(acceptance("running", at(4))).await)).await;
    add(store, &mut running, at(5), vec![claimed("w", at(9)), prepared(&[])]).await.unwrap();
    let mut waiting = run_of(store, only(store.accept(acceptance("waiting", at(6))).await)).await;
    let suspended = Event::Suspended { until: at(60), reason: WaitReason::Drained };
    add(store, &mut waiting, at(7), vec![claimed("w", at(9)), prepared(&[]), suspended]).await.unwrap();
    let mut paused = acceptance("held", at(8));
    paused.runs[0].accepted = held(paused.runs[0].accepted.clone());
    store.accept(paused).await.unwrap();

    store.put_document(&Revision::of(b"text"), "text").await.unwrap();
    store.set_mark("paused/route/orders", Some("订单")).await.unwrap();
    let entry = |number: i64| JournalEntry {
        kind: JournalKind::Audit,
        at: at(number),
        what: "run.cancel".into(),
        subject: number.to_string(),
        cause: String::new(),
        detail: json!({ "by": "ops" }).as_object().cloned().unwrap(),
        body: bytes::Bytes::from_static(&[0, 255]),
    };
    store.journal_append((0..3).map(entry).collect()).await.unwrap();
    // Retention has been there: payloads of what ended are gone.
    let prune = Prune { now: at(20), runs_before: at(0), failed_before: at(0), payloads_before: at(10), batch_max: 9 };
    assert_eq!(store.prune(&prune).await.unwrap().runs_stripped, 2);
}

async fn same(old: &Arc<dyn Store>, new: &Arc<dyn Store>) {
    let all = RunQuery { limit: 100, ..RunQuery::default() };
    let heads = old.runs(&all).await.unwrap();
    assert_eq!(heads, new.runs(&all).await.unwrap());
    assert_eq!(heads.len(), 7);
    for head in &heads {
        assert_eq!(old.log(head.id).await.unwrap(), new.log(head.id).await.unwrap());
    }
    let failures = RunQuery { cause: heads.iter().find_map(|head| head.cause.clone()), ..all.clone() };
    let labelled = RunQuery { labels: vec![("order".into(), "#7".into())], ..all };
    for query in [failures, labelled] {
        assert_eq!(old.runs(&query).await.unwrap(), new.runs(&query).await.unwrap());
    }
    assert_eq!(old.due(at(9), 9).await.unwrap(), new.due(at(9), 9).await.unwrap());
    assert_eq!(old.queued(None, 9).await.unwrap().len(), new.queued(None, 9).await.unwrap().len());
    assert_eq!(old.marks("").await.unwrap(), new.marks("").await.unwrap());
    assert_eq!(new.document(&Revision::of(b"text")).await.unwrap().as_deref(), Some("text"));
    let audit = JournalQuery::all(JournalKind::Audit, 9);
    let entries = async |store: &Arc<dyn Store>| {
        store.journal(&audit).await.unwrap().into_iter().map(|row| row.entry).collect::<Vec<_>>()
    };
    assert_eq!(entries(old).await, entries(new).await);
    let workflow = WorkflowName::new("orders").unwrap();
    assert_eq!(old.state(&workflow).await.unwrap(), new.state(&workflow).await.unwrap());
}

async fn pieces_in(folder: &Path) -> Vec<Piece> {
    let parts = Parts {
        settings: Settings { backend: "sqlite".into(), path: folder.to_owned(), ..Settings::default() },
        azure: Arc::default(),
        secrets: Arc::new(OneSecret),
        clock: Arc::new(SystemClock),
    };
    let dump = store::dump(parts).await.unwrap();
    assert_eq!(dump.runs, 7);
    let pieces: Vec<_> = dump.pieces.try_collect().await.unwrap();
    for piece in &pieces {
        assert_eq!(Piece::from_line(&piece.to_line().unwrap()).as_ref(), Ok(piece));
        if let Piece::Run { id, log, head } = piece {
            assert_eq!(Run::fold(*id, log.clone()).unwrap().head(), **head);
        }
    }
    pieces
}

#[tokio::test]
async fn runs_of_one_delivery_that_do_not_follow_each_other_are_refused_here() {
    let folder = tempfile::tempdir().unwrap();
    let store = Sqlite::open(folder.path()).unwrap();
    let runs = [1, 3].map(clawhook::id::RunId::from_u64).to_vec();
    let key = DeliveryKey::of_body("/", b"");
    let error = store.load(vec![Piece::Key { key, runs, expires: at(0).plus(minutes(1)) }]).await.unwrap_err();
    assert!(error.to_string().contains("do not follow each other"), "{error}");
    let state = Piece::State { workflow: WorkflowName::new("w").unwrap(), values: Map::new() };
    store.load(vec![state]).await.unwrap();
}
