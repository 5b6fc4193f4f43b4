//! What the embedded store owes beyond the contract: files, restarts, a full disk, and space given back.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clawhook::clock::SystemClock;
use clawhook::id::RunId;
use clawhook::store::sqlite::{Options, Sqlite};
use clawhook::store::{self, Acceptance, Error, Parts, Prune, Receipt, Settings, Store};

use futures_util::FutureExt as _;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::kit::OneSecret;

use super::beside_memory::BesideMemory;
use super::fixture::{acceptance, add, at, claimed, finished, key, minutes, only, run_of};

fn open(folder: &Path) -> Arc<dyn Store> {
    Arc::new(Sqlite::open(folder).unwrap())
}

/// Why the folder cannot be opened.
fn refusal(folder: &Path) -> String {
    match Sqlite::open(folder) {
        Err(error @ (Error::Open { .. } | Error::Locked { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn large(name: &str, minute: i64, bytes: usize) -> Acceptance {
    let mut asked = acceptance(name, at(minute));
    asked.runs[0].body = bytes::Bytes::from(vec![b'x'; bytes]);
    asked
}

/// A worker writes to its log while its attempts write marks and are not polled meanwhile.
#[tokio::test]
async fn a_writer_that_nobody_listens_to_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for round in 0..50 {
        let names: Vec<_> = (0..4).map(|n| format!("mark-{round}-{n}")).collect();
        let mut unheard: Vec<_> = names.iter().map(|name| store.set_mark(name, Some("1"))).collect();
        for write in &mut unheard {
            assert!(write.now_or_never().is_none(), "a write ends when it is on disk");
        }
        let heard = tokio::time::timeout(Duration::from_secs(20), store.set_mark("heard", Some("2"))).await;
        heard.expect("it waits for those who do not listen").unwrap();
        for write in unheard {
            write.await.unwrap();
        }
    }
    store.close().await;
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let before = open(folder.path());
    let first = only(before.accept(acceptance("a", at(0))).await);
    let second = only(before.accept(acceptance("b", at(1_000_000))).await);
    let mut run = run_of(&before, first).await;
    add(&before, &mut run, at(1), vec![claimed("w", at(9))]).await.unwrap();
    before.set_mark("paused", Some("yes")).await.unwrap();
    before.close().await;
    assert_eq!(std::fs::metadata(folder.path().join("clawhook.db-wal")).map_or(0, |wal| wal.len()), 0);
    let after = open(folder.path());
    assert_eq!(after.accept(acceptance("a", at(2))).await.unwrap(), Receipt::Duplicate(vec![first]));
    assert_eq!(run_of(&after, first).await, run);
    assert_eq!(after.queued(None, 9).await.unwrap()[0].id, second);
    assert_eq!(after.marks("").await.unwrap().len(), 1);
    // The clock went back meanwhile; ids go on growing.
    assert!(only(after.accept(acceptance("c", at(3))).await) > second);
}

#[tokio::test]
async fn what_was_answered_survives_without_a_close() {
    let folder = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let id = only(store.accept(acceptance("a", at(0))).await);
    // The files as a killed process leaves them.
    for name in ["clawhook.db", "clawhook.db-wal"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let after = open(copy.path());
    assert_eq!(after.accept(acceptance("a", at(1))).await.unwrap(), Receipt::Duplicate(vec![id]));
    assert_eq!(after.log(id).await.unwrap(), store.log(id).await.unwrap());
}

#[tokio::test]
async fn a_folder_has_one_owner() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let why = refusal(folder.path());
    assert!(why.contains("another Clawhook process has it open"), "{why}");
    store.close().await;
    drop(open(folder.path()));
    // Dropping without a close gives it free too.
    drop(open(folder.path()));
}

#[tokio::test]
async fn files_of_others_and_of_newer_versions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let file = folder.path().join("clawhook.db");
    let set = |sql: &str| rusqlite::Connection::open(&file).unwrap().execute_batch(sql).unwrap();
    set("PRAGMA user_version = 99");
    let why = refusal(folder.path());
    assert!(why.contains("written by a newer Clawhook") && why.contains("install that version"), "{why}");
    set("PRAGMA user_version = 1; PRAGMA application_id = 7");
    assert!(refusal(folder.path()).contains("something else"));
    set("PRAGMA application_id = 0");
    assert!(refusal(folder.path()).contains("something else"));
    std::fs::write(
        &file,
        b"certainly not a database, but long enough to have a header of its own.......................",
    )
    .unwrap();
    assert!(refusal(folder.path()).contains("not a database"));
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("data");
    let store = open(&folder);
    only(store.accept(acceptance("a", at(0))).await);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in std::fs::read_dir(&folder).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

#[tokio::test]
async fn backends_are_found_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let parts = |backend: &str| Parts {
        settings: Settings { backend: backend.into(), path: folder.path().to_owned(), ..Settings::default() },
        azure: Arc::default(),
        secrets: Arc::new(OneSecret),
        clock: Arc::new(SystemClock),
    };
    assert!(store::open(parts("sqlite")).await.is_ok());
    let error = store::open(parts("mysql")).await.unwrap_err().to_string();
    assert!(error.contains("no backend `mysql`; `storage.backend` may be `sqlite`"), "{error}");
}

/// Fills the store until it refuses, and returns what it took.
async fn fill(store: &Arc<dyn Store>) -> (Vec<(String, RunId)>, Error) {
    let mut taken = Vec::new();
    for number in 0..100_000 {
        let name = format!("{number}");
        match store.accept(large(&name, 0, 4000)).await {
            Ok(Receipt::New(ids)) => taken.push((name, ids[0])),
            Ok(other) => panic!("{other:?}"),
            Err(error) => return (taken, error),
        }
    }
    panic!("it never became full");
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let bound = Options { page_count_max: Some(400), ..Options::default() };
    let store: Arc<dyn Store> = Arc::new(Sqlite::open_with(folder.path(), bound).unwrap());
    let (taken, error) = fill(&store).await;
    assert!(matches!(error, Error::Full(_)) && taken.len() > 50, "{error} after {}", taken.len());
    assert!(matches!(store.health().await, Err(Error::Full(_))), "health tells");
    // Nothing was lost, and the refused one left nothing behind.
    for (name, id) in &taken {
        assert_eq!(store.accept(large(name, 1, 4000)).await.unwrap(), Receipt::Duplicate(vec![*id]));
        assert_eq!(store.log(*id).await.unwrap().len(), 1);
    }
    assert_eq!(store.queued(None, 10_000).await.unwrap().len(), taken.len());
    // More room: it goes on with the very delivery that it refused.
    store.close().await;
    drop(store);
    let store = open(folder.path());
    let name = taken.len().to_string();
    assert!(matches!(store.accept(large(&name, 2, 4000)).await, Ok(Receipt::New(_))));
    assert!(store.health().await.is_ok());
}

#[tokio::test]
async fn pruning_makes_room_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let bound = Options { page_count_max: Some(400), ..Options::default() };
    let store: Arc<dyn Store> = Arc::new(Sqlite::open_with(folder.path(), bound).unwrap());
    for number in 0..100 {
        let mut run = run_of(&store, only(store.accept(large(&format!("old-{number}"), 0, 4000)).await)).await;
        add(&store, &mut run, at(1), vec![claimed("w", at(9)), finished()]).await.unwrap();
    }
    let (taken, _) = fill(&store).await;
    let old = Prune { now: at(5), runs_before: at(5), failed_before: at(5), payloads_before: at(5), batch_max: 1000 };
    assert_eq!(store.prune(&old).await.unwrap().runs_deleted, 100);
    let name = taken.len().to_string();
    assert!(matches!(store.accept(large(&name, 6, 4000)).await, Ok(Receipt::New(_))));
    assert!(store.health().await.is_ok());
}

#[tokio::test]
async fn pruning_gives_disk_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for number in 0..600 {
        let mut run = run_of(&store, only(store.accept(large(&number.to_string(), 0, 20_000)).await)).await;
        add(&store, &mut run, at(1), vec![claimed("w", at(9)), finished()]).await.unwrap();
    }
    store.close().await;
    drop(store);
    let size = || std::fs::metadata(folder.path().join("clawhook.db")).unwrap().len();
    let before = size();
    assert!(before > 12_000_000);
    let store = open(folder.path());
    let old = Prune { now: at(5), runs_before: at(5), failed_before: at(5), payloads_before: at(5), batch_max: 200 };
    while store.prune(&old).await.unwrap().more {}
    store.close().await;
    assert!(size() < before / 4, "{before} bytes became {}", size());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_short_while_writes_pour_in() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for round in 0..60 {
        let accepts = (0..200).map(|number| {
            let store = Arc::clone(&store);
            async move { only(store.accept(large(&format!("{round}-{number}"), round, 6000)).await) }
        });
        futures_util::future::join_all(accepts).await;
    }
    let wal = std::fs::metadata(folder.path().join("clawhook.db-wal")).unwrap().len();
    assert!(wal < clawhook::limits::WAL_BYTES_MAX + 16 * 1024 * 1024, "{wal}");
}

/// Keys are sorted away, repacked, forgotten and read again at each restart; all the while it answers as memory does.
#[tokio::test]
async fn keys_are_known_whatever_became_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { segment_keys: Some(40), ..Options::default() };
    let mut beside = BesideMemory::default();
    let random = &mut StdRng::seed_from_u64(3);
    let open = || Sqlite::open_with(folder.path(), options).unwrap();
    let mut store = open();
    for step in 0..3000 {
        let mut asked = acceptance(&random.random_range(0..600).to_string(), at(step / 10));
        asked.window = minutes(if random.random_bool(0.05) { 400 } else { 20 });
        asked.replay_guard = Some(key(&format!("body-{}", random.random_range(0..600))));
        beside.accept(&store, asked, step).await;
        let now = at(step / 10);
        let ask = Prune { now, runs_before: at(0), failed_before: at(0), payloads_before: at(0), batch_max: 10 };
        match step % 400 {
            50 | 250 => while store.prune(&ask).await.unwrap().more {},
            399 => {
                store.close().await;
                drop(store);
                store = open();
            }
            _ => {}
        }
    }
    assert!(beside.duplicates > 300, "{}", beside.duplicates);
    store.close().await;
    let connection = rusqlite::Connection::open(folder.path().join("clawhook.db")).unwrap();
    let segments: i64 = connection.query_row("SELECT count(*) FROM key_segments", [], |row| row.get(0)).unwrap();
    assert!((1..40).contains(&segments), "{segments} segments");
}
