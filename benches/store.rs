//! How fast the embedded store is, and what limits it: `cargo bench --bench store -- [RUNS]`, where RUNS (1000000 when
//! not given) is how many runs are stored before lists are measured; 0 leaves that part out.
//!
//! Everything runs in one process on one disk; the tasks that ask share the cores with the writer. Rates are given as a
//! ratio to plain inserts of the same bytes with the same group commit, so that they can be compared between machines.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]
#![expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clawhook::clock::{Clock, SystemClock, Timestamp};
use clawhook::domain::delivery::{Delivery, DeliveryKey, RouteRef};
use clawhook::domain::event::{Accepted, Entry, Event, Finished, Prepared};
use clawhook::domain::failure::{Class, Failure, Fault};
use clawhook::domain::run::Run;
use clawhook::domain::state::State;
use clawhook::domain::trigger::{Trigger, TriggerKind};
use clawhook::id::{Revision, RouteName, RunId, WorkflowName};
use clawhook::store::sqlite::Sqlite;
use clawhook::store::{Acceptance, Append, NewRun, Receipt, RunQuery, Store};
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::Instant;

const SECONDS: u64 = 3;

fn main() {
    let runs = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(measure(runs));
}

async fn measure(runs: u64) {
    let folder = tempfile::tempdir_in(".").unwrap();
    println!("fdatasync of 64 KiB: p50 {:?}, p99 {:?}", sync_time(folder.path(), 50), sync_time(folder.path(), 99));
    let before = memory();
    let store = Sqlite::open(&folder.path().join("empty")).unwrap();
    println!("memory: {before} before an empty store is open, {} after", memory());
    drop(store);
    println!("\naccepts             | per second | of plain | p50 ms | p99 ms | writer µs/accept (CPU)");
    for (body, tasks, guard) in
        [(1024, 32, false), (1024, 128, false), (1024, 128, true), (6144, 32, false), (6144, 128, false)]
    {
        let plain = plain_inserts(&folder.path().join(format!("plain-{body}-{tasks}-{guard}")), body, tasks).await;
        let store = Arc::new(Sqlite::open(&folder.path().join(format!("{body}-{tasks}-{guard}"))).unwrap());
        let cpu = writer_cpu();
        let measured = accepts(&store, body, tasks, guard).await;
        let cpu = writer_cpu().saturating_sub(cpu).as_secs_f64() * 1e6 / measured.count as f64;
        let guarded = if guard { " guard" } else { "" };
        println!(
            "{:>5} B, {tasks:>3} tasks{guarded:6} | {:>10.0} | {:>7.0}% | {:>6.2} | {:>6.2} | {cpu:>6.1}",
            body,
            measured.rate(),
            100.0 * measured.rate() / plain.rate(),
            measured.percentile(50),
            measured.percentile(99),
        );
        store.close().await;
    }
    if runs == 0 {
        return;
    }
    let store = Arc::new(Sqlite::open(&folder.path().join("many")).unwrap());
    fill(&store, runs).await;
    lists(&store).await;
    let measured = accepts(&store, 1024, 128, true).await;
    println!(
        "\nwith {runs} runs stored: {:.0} accepts/s of 1 KiB with replay guard from 128 tasks, p99 {:.2} ms",
        measured.rate(),
        measured.percentile(99)
    );
    println!("{:?}", store.health().await.unwrap());
    println!("{}", memory());
    let began = Instant::now();
    store.close().await;
    println!("close: {:?}", began.elapsed());
    drop(store);
    let began = Instant::now();
    let store = Sqlite::open(&folder.path().join("many")).unwrap();
    println!("open: {:?}", began.elapsed());
    drop(store);
}

/// How long each of many calls took.
struct Measured {
    count: u64,
    elapsed: Duration,
    micros: Vec<u32>,
}

impl Measured {
    fn new(elapsed: Duration, parts: Vec<Vec<u32>>) -> Self {
        let mut micros: Vec<u32> = parts.into_iter().flatten().collect();
        micros.sort_unstable();
        Self { count: micros.len() as u64, elapsed, micros }
    }

    fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }

    /// Milliseconds.
    fn percentile(&self, percent: usize) -> f64 {
        f64::from(self.micros[(self.micros.len() - 1) * percent / 100]) / 1000.0
    }
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

fn sync_time(folder: &Path, percent: usize) -> Duration {
    let path = folder.join("sync");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&vec![0; 16 << 20]).unwrap();
    file.sync_all().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let block = vec![1; 65536];
    let mut times: Vec<_> = (0..200_u64)
        .map(|round| {
            std::os::unix::fs::FileExt::write_all_at(&file, &block, (round % 256) * 65536).unwrap();
            let began = Instant::now();
            file.sync_data().unwrap();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

/// Time on a core of every thread of this process that is named `store-write`.
fn writer_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let own = tasks.filter(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "store-write")
    });
    let nanos = own.filter_map(|task| {
        std::fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().filter(|line| line.starts_with("VmRSS")).collect()
}

/// The same bytes into one table by one thread that commits whatever waits: as fast as SQLite gets.
async fn plain_inserts(path: &Path, body: usize, tasks: usize) -> Measured {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA wal_autocheckpoint = 2000;
             CREATE TABLE plain (id INTEGER PRIMARY KEY, body BLOB)",
        )
        .unwrap();
    let (sender, receiver) = std::sync::mpsc::sync_channel::<(Bytes, oneshot::Sender<()>)>(4096);
    let writer = std::thread::spawn(move || {
        let mut insert = connection.prepare("INSERT INTO plain (body) VALUES (?1)").unwrap();
        while let Ok(first) = receiver.recv() {
            let batch: Vec<_> = std::iter::once(first).chain(receiver.try_iter().take(511)).collect();
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            for (body, _) in &batch {
                insert.execute([&body[..]]).unwrap();
            }
            connection.execute_batch("COMMIT").unwrap();
            for (_, reply) in batch {
                let _ = reply.send(());
            }
        }
    });
    // The event of a delivery beside its body is about this long.
    let body = Bytes::from(vec![b'x'; body + 1000]);
    let measured = hammer(tasks, move |_| {
        let (sender, body) = (sender.clone(), body.clone());
        async move {
            let (reply, answer) = oneshot::channel();
            sender.try_send((body, reply)).unwrap();
            answer.await.unwrap();
        }
    })
    .await;
    writer.join().unwrap();
    measured
}

/// Calls from many tasks at once for a few seconds.
async fn hammer<F, Fut>(tasks: usize, call: F) -> Measured
where
    F: Fn(u64) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    let (call, number) = (Arc::new(call), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let tracker = tokio_util::task::TaskTracker::new();
    let parts = (0..tasks).map(|_| {
        let (call, number) = (Arc::clone(&call), Arc::clone(&number));
        tracker.spawn(async move {
            let mut times = Vec::new();
            while began.elapsed() < Duration::from_secs(SECONDS) {
                let asked = Instant::now();
                call(number.fetch_add(1, Ordering::Relaxed)).await;
                times.push(micros(asked));
            }
            times
        })
    });
    let parts = join_all(parts.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect();
    Measured::new(began.elapsed(), parts)
}

fn acceptance(route: u64, body: &Bytes, at: Timestamp) -> Acceptance {
    let delivery = Delivery {
        id: Some("b54557e4-bdd9-4b37-8a5f-bf7d70bcd043".into()),
        method: "POST".into(),
        path: "/hooks/shopify/us/orders".into(),
        query: String::new(),
        headers: [
            ("content-type", "application/json"),
            ("user-agent", "Shopify-Captain-Hook"),
            ("x-shopify-topic", "orders/create"),
            ("x-shopify-shop-domain", "friends.myshopify.com"),
            ("x-shopify-api-version", "2026-07"),
            ("x-shopify-webhook-id", "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"),
            ("x-shopify-triggered-at", "2026-03-29T18:00:27.877041743Z"),
            ("x-shopify-event-id", "98880550-7158-44d4-b7cd-2c97c8a091b5"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        remote: "192.0.2.17".into(),
        verified_by: "shopify".into(),
        swept_by: None,
    };
    let route_ref =
        RouteRef { name: RouteName::new(&format!("route-{route}")).unwrap(), revision: Revision::of(b"route") };
    let workflow = WorkflowName::new(&format!("workflow-{}", route / 2)).unwrap();
    let trigger = Trigger::Delivery { route: route_ref, delivery: Box::new(delivery) };
    let accepted = Accepted::new(workflow, Revision::of(b"workflow"), trigger);
    Acceptance {
        key: DeliveryKey::unique(),
        window: Duration::from_hours(72),
        replay_guard: None,
        at,
        runs: vec![NewRun { accepted, body: body.clone() }],
    }
}

async fn accepts(store: &Arc<Sqlite>, body: usize, tasks: usize, guard: bool) -> Measured {
    let (store, body) = (Arc::clone(store), Bytes::from(vec![b'x'; body]));
    hammer(tasks, move |number| {
        let mut asked = acceptance(number % 20, &body, SystemClock.now());
        asked.replay_guard = guard.then(DeliveryKey::unique);
        let store = Arc::clone(&store);
        async move {
            store.accept(asked).await.unwrap();
        }
    })
    .await
}

/// Adds events to a run that was just accepted or driven.
async fn append(store: &Sqlite, run: &mut Run, at: Timestamp, events: Vec<Event>) {
    let after = run.next;
    for event in events.clone() {
        run.apply(Entry { seq: run.next, at, event, body: Bytes::new() }).unwrap();
    }
    store.append(Append { run: run.id, after, at, events, head: run.head(), state: None }).await.unwrap();
}

/// Stores runs over 20 routes and 10 workflows, ended but for a few, with two labels each, one in ten thousand failed.
async fn fill(store: &Arc<Sqlite>, runs: u64) {
    let (number, appended) = (AtomicU64::new(0), AtomicU64::new(0));
    let body = Bytes::from(vec![b'x'; 200]);
    let base = SystemClock.now().minus(Duration::from_secs(runs));
    let cpu = writer_cpu();
    let began = Instant::now();
    let work = || async {
        let mut append_us = Vec::new();
        loop {
            let number = number.fetch_add(1, Ordering::Relaxed);
            if number >= runs {
                return append_us;
            }
            let at = base.plus(Duration::from_secs(number));
            let asked = acceptance(number % 20, &body, at);
            let first = Entry {
                seq: clawhook::id::Seq(0),
                at,
                event: Event::Accepted(Box::new(asked.runs[0].accepted.clone())),
                body: Bytes::new(),
            };
            let Receipt::New(ids) = store.accept(asked).await.unwrap() else { continue };
            let mut run = Run::fold(ids[0], [first]).unwrap();
            if number % 1000 == 999 {
                continue;
            }
            let asked = Instant::now();
            append(store, &mut run, at, started(number, at)).await;
            append_us.push(micros(asked));
            let asked = Instant::now();
            append(store, &mut run, at, vec![finished(number)]).await;
            append_us.push(micros(asked));
            appended.fetch_add(2, Ordering::Relaxed);
        }
    };
    let parts = join_all((0..256).map(|_| work())).await;
    let cpu = writer_cpu().saturating_sub(cpu).as_secs_f64() * 1e6 / runs as f64;
    let measured = Measured::new(began.elapsed(), parts);
    println!(
        "\n{runs} runs from 256 tasks: {:.0} runs/s (one accept, two appends each), append p50 {:.2} ms, p99 {:.2} ms, \
         writer {cpu:.1} µs CPU a run, {}",
        measured.rate() / 2.0,
        measured.percentile(50),
        measured.percentile(99),
        memory(),
    );
}

fn started(number: u64, at: Timestamp) -> Vec<Event> {
    let labels = [("team", format!("team-{}", number % 3)), ("order", format!("#{number}"))];
    let prepared = Prepared {
        labels: labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        ..Prepared::default()
    };
    let claimed = Event::Claimed { worker: "w1".into(), lease_until: at.plus(Duration::from_secs(30)) };
    vec![claimed, Event::Prepared(Box::new(prepared))]
}

fn finished(number: u64) -> Event {
    let failure =
        || Failure::new("http.status", Fault::Far, "it said no").at("erp").retriable(Class::Status(503), None);
    Event::Finished(Box::new(match number % 10_000 {
        7 => Finished::Failed { failure: failure() },
        _ => Finished::Succeeded { outputs: serde_json::Map::new(), state: serde_json::Map::new() },
    }))
}

async fn lists(store: &Arc<Sqlite>) {
    let workflow = |name: &str| Some(WorkflowName::new(name).unwrap());
    let label = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let base = RunQuery { limit: 50, ..RunQuery::default() };
    let newest = store.runs(&base).await.unwrap().last().map_or(0, |head| head.accepted_at.as_millis());
    let early = Timestamp::from_millis(newest).minus(Duration::from_secs(1_000));
    let queries = [
        ("nothing", base.clone()),
        ("workflow", RunQuery { workflow: workflow("workflow-3"), ..base.clone() }),
        ("failed", RunQuery { states: vec![State::Failed], ..base.clone() }),
        ("failed, old", RunQuery { states: vec![State::Failed], until: Some(early), ..base.clone() }),
        ("ended", RunQuery { states: State::ALL[4..].to_vec(), ..base.clone() }),
        ("running (none)", RunQuery { states: vec![State::Running], ..base.clone() }),
        (
            "workflow, failed (none)",
            RunQuery { workflow: workflow("workflow-0"), states: vec![State::Failed], ..base.clone() },
        ),
        (
            "workflow, queued",
            RunQuery { workflow: workflow("workflow-9"), states: vec![State::Queued], ..base.clone() },
        ),
        ("source", RunQuery { source: Some("route-7".into()), ..base.clone() }),
        (
            "source, workflow (none)",
            RunQuery { source: Some("route-7".into()), workflow: workflow("workflow-1"), ..base.clone() },
        ),
        ("trigger slot (none)", RunQuery { trigger: Some(TriggerKind::Slot), ..base.clone() }),
        ("label, one run", RunQuery { labels: label("order", "#4711"), ..base.clone() }),
        ("label, a third", RunQuery { labels: label("team", "team-1"), ..base.clone() }),
        (
            "label a third, failed",
            RunQuery { labels: label("team", "team-1"), states: vec![State::Failed], ..base.clone() },
        ),
        (
            "label a third, workflow, failed (none)",
            RunQuery {
                labels: label("team", "team-1"),
                workflow: workflow("workflow-0"),
                states: vec![State::Failed],
                ..base.clone()
            },
        ),
        (
            "two labels, one run",
            RunQuery { labels: [label("team", "team-1"), label("order", "#4711")].concat(), ..base.clone() },
        ),
        (
            "two labels, each a third (none)",
            RunQuery { labels: [label("team", "team-1"), label("team", "team-2")].concat(), ..base.clone() },
        ),
        ("cause", RunQuery { cause: Some("http.status/erp/503".into()), ..base.clone() }),
        (
            "cause, workflow",
            RunQuery { cause: Some("http.status/erp/503".into()), workflow: workflow("workflow-3"), ..base.clone() },
        ),
        ("page far back", RunQuery { before: Some(RunId::floor(early)), ..base.clone() }),
    ];
    println!("\nlists of 50               | found | best ms | worst ms of 20");
    for (name, query) in queries {
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..20 {
            let asked = Instant::now();
            found = store.runs(&query).await.unwrap().len();
            times.push(micros(asked));
        }
        times.sort_unstable();
        println!("{name:25} | {found:>5} | {:>7.2} | {:>7.2}", f64::from(times[0]) / 1e3, f64::from(times[19]) / 1e3);
    }
    for (name, work) in [("queued(64)", 0), ("due(64)", 1), ("open_counts", 2)] {
        let asked = Instant::now();
        match work {
            0 => drop(store.queued(None, 64).await.unwrap()),
            1 => drop(store.due(SystemClock.now(), 64).await.unwrap()),
            _ => drop(store.open_counts().await.unwrap()),
        }
        println!("{name:25} |       | {:>7.2}", f64::from(micros(asked)) / 1e3);
    }
}
