//! The store is gone for a while under load, and comes back, below a gateway that runs on: whoever sends meanwhile is
//! told in time to come again, and never that something is kept which is lost; then all goes on without a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use clawhook::limits;
use rusqlite::Connection;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::app::Control;
use crate::numbered::{LOOK_EVERY, all_end, all_runs, check_far_end, check_logs, folder_on, send};
use crate::process::Process;
use crate::standin::{self, Standin};
use crate::store_contract::azurite::Account;
use crate::store_contract::database::Database;
use crate::wire::{Line, Wire};

const SENDERS: u32 = 6;
/// Pause of a sender after each answer.
const SEND_EVERY: Duration = Duration::from_millis(150);
/// Deliveries that are taken before the outage, and after it.
const TAKEN_MIN: u64 = 30;
/// How long these may take.
const TAKEN_WITHIN: Duration = Duration::from_mins(1);
/// Longest that anybody may be kept waiting: the gateway's own limit, and what a busy machine adds to it.
const ANSWERED_WITHIN: Duration = limits::ACCEPT_TIMEOUT.saturating_add(Duration::from_secs(4));
/// Age of an outage from which on nothing can be taken any more: what was under way when it began is through.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// How soon after the outage deliveries are taken again: the longest pause between two looks for the store, and a
/// connection.
const BACK_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_down_for_half_a_minute() {
    postgres(Line::Refusing, Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_silent() {
    postgres(Line::Silent, Duration::from_secs(12)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_blob_down() {
    azure_blob(Line::Refusing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_blob_silent() {
    azure_blob(Line::Silent).await;
}

/// Another program has the file for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_locked_by_another_program() {
    let mut other = None;
    let outage = |file: std::path::PathBuf, away: bool| {
        other = away.then(|| {
            let connection = Connection::open(file).unwrap();
            connection.busy_timeout(TAKEN_WITHIN).unwrap();
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            connection
        });
    };
    check("", &[], outage, Duration::from_secs(10)).await;
}

async fn postgres(line: Line, length: Duration) {
    let Some(database) = Database::create().await else { return };
    let wire = Wire::to(database.port()).await;
    let (storage, password) = database.settings_at(wire.port);
    let secrets = [("CLAWHOOK_SECRET_POSTGRES", password)];
    let outage = |_, away| wire.set(if away { line } else { Line::Open });
    check(&storage, &secrets, outage, length).await;
}

async fn azure_blob(line: Line) {
    let Some(account) = Account::by_signature() else { return };
    let wire = Wire::to(account.port()).await;
    let (storage, sas) = account.through(wire.port).container().settings();
    let outage = |_, away| wire.set(if away { line } else { Line::Open });
    check(&storage, &[("CLAWHOOK_SECRET_SAS", sas)], outage, Duration::from_secs(10)).await;
}

/// `outage` is given the file of an embedded store, and whether the store is to be away or to come back.
async fn check(
    storage: &str,
    secrets: &[(&str, String)],
    mut outage: impl FnMut(std::path::PathBuf, bool),
    length: Duration,
) {
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let folder = folder_on(storage, secrets, &erp);
    let file = folder.path("data/clawhook.db");
    let process = Process::start(&folder, "error").await;
    let load = Load::begin(&process);

    load.taken(TAKEN_MIN).await;
    outage(file.clone(), true);
    let (gone, seen) = (Instant::now(), load.tries());
    tokio::time::sleep(length).await;
    let asked = Instant::now();
    let not_ready = process.control.ask("/readyz").await;
    let back = Instant::now();
    outage(file, false);
    load.taken(load.taken_so_far() + TAKEN_MIN).await;
    let tries = load.end().await;

    // An answer to every try, and no other than that it is kept or is to be sent again.
    assert!(
        not_ready.status == 503 && back - asked < ANSWERED_WITHIN,
        "the gateway believes that it is ready: {not_ready:?}"
    );
    for sent in &tries {
        assert!(sent.took < ANSWERED_WITHIN, "{sent:?}");
        assert!(sent.status == 202 || sent.status == 503 && sent.retry_after > Some(0), "{sent:?}");
    }
    let meanwhile: Vec<_> =
        tries.iter().filter(|sent| sent.began > gone + SETTLED_AFTER && sent.began + sent.took < back).collect();
    assert!(meanwhile.len() > 5 && seen > 0, "{} answers in the outage show nothing", meanwhile.len());
    assert!(meanwhile.iter().all(|sent| sent.status == 503), "taken without a store: {meanwhile:?}");
    let first = tries.iter().filter(|sent| sent.status == 202).map(|sent| sent.began + sent.took);
    let first = first.filter(|at| *at > back).min().unwrap();
    assert!(first < back + BACK_WITHIN, "deliveries were taken again after {:?}", first - back);

    // What was kept is one run each; what was sent again because of a 503 is no second one.
    let control = &process.control;
    let mut answered = BTreeMap::new();
    for sent in tries.into_iter().filter(|sent| sent.status == 202) {
        let again = send(control, &process.hooks, sent.number).await.unwrap().run();
        assert_eq!(sent.run, Some(again), "delivery {} is another run when it comes again", sent.number);
        answered.insert(sent.number, sent.run.unwrap());
    }
    all_end(control, answered.values()).await;
    let runs = all_runs(control, "").await;
    assert_eq!(runs.into_keys().collect::<BTreeSet<_>>(), answered.values().cloned().collect::<BTreeSet<_>>());
    check_logs(control, answered.values()).await;
    check_far_end(&erp, answered.values());
    control.get("/readyz").await;
    process.stop();
}

/// One try to deliver.
#[derive(Debug)]
struct Sent {
    number: u32,
    began: Instant,
    took: Duration,
    status: u16,
    retry_after: Option<u64>,
    run: Option<String>,
}

/// Senders that deliver one after the other, each as often as it takes.
struct Load {
    senders: Vec<JoinHandle<Vec<Sent>>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    tries: AtomicU64,
    taken: AtomicU64,
    /// Deliveries with this number and above are not begun.
    numbers: AtomicU32,
    end: tokio_util::sync::CancellationToken,
}

impl Load {
    fn begin(process: &Process) -> Self {
        let counts = Arc::<Counts>::default();
        let sender = |_| tokio::spawn(deliver(process.control.clone(), process.hooks.clone(), Arc::clone(&counts)));
        Self { senders: (0..SENDERS).map(sender).collect(), counts }
    }

    fn tries(&self) -> u64 {
        self.counts.tries.load(Ordering::Relaxed)
    }

    fn taken_so_far(&self) -> u64 {
        self.counts.taken.load(Ordering::Relaxed)
    }

    /// Waits until so many deliveries were taken in all.
    async fn taken(&self, count: u64) {
        let began = Instant::now();
        while self.taken_so_far() < count {
            assert!(began.elapsed() < TAKEN_WITHIN, "only {} of {count} were taken", self.taken_so_far());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Lets every sender bring what it has begun to its end.
    async fn end(self) -> Vec<Sent> {
        self.counts.end.cancel();
        let mut all = Vec::new();
        for sender in self.senders {
            all.extend(sender.await.unwrap());
        }
        all
    }
}

async fn deliver(control: Control, hooks: String, counts: Arc<Counts>) -> Vec<Sent> {
    let mut all = Vec::new();
    while !counts.end.is_cancelled() {
        let number = counts.numbers.fetch_add(1, Ordering::Relaxed);
        loop {
            let began = Instant::now();
            let answer = send(&control, &hooks, number).await.expect("the gateway answers");
            let retry_after = answer.header("retry-after").and_then(|secs| secs.parse().ok());
            let run = (answer.status == 202).then(|| answer.run());
            let taken = run.is_some();
            all.push(Sent { number, began, took: began.elapsed(), status: answer.status, retry_after, run });
            counts.tries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(SEND_EVERY).await;
            if taken {
                counts.taken.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
    all
}
