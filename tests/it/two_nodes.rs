//! Two gateways on one store, killed at random and restarted in turn under load: what either answered with a 2xx is one
//! run that ends, no finished step runs again, and a slot is one run however many schedulers there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::app::{Answer, Control, Folder};
use crate::numbered::{LOOK_EVERY, TAKEN_OVER_WITHIN, all_end, all_runs, check_far_end, check_logs, folder_on, send};
use crate::process::Process;
use crate::standin::{self, Standin};
use crate::store_contract::azurite::Account;
use crate::store_contract::database::Database;

const ROUNDS: u32 = 3;
/// Deliveries of one round.
const BATCH: u32 = 12;
/// The moment of a kill lies somewhere in here.
const KILL_WITHIN_MS: u64 = 900;

/// A workflow of its own for slots, so that the far end sees deliveries only.
const TICK: &str = r"
version: 1
name: tick
tasks: [{ id: nothing, type: stop, with: { status: succeeded } }]
";
const EVERY_SECOND: &str = r#"
version: 1
schedules: [{ name: tick, cron: "* * * * * *", workflow: tick }]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_azure_blob() {
    let Some(container) = Account::by_signature().map(Account::container) else { return };
    let (storage, sas) = container.settings();
    check(&storage, &[("CLAWHOOK_SECRET_SAS", sas)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    let Some(database) = Database::create().await else { return };
    let (storage, password) = database.settings();
    check(&storage, &[("CLAWHOOK_SECRET_POSTGRES", password)]).await;
}

async fn check(storage: &str, secrets: &[(&str, String)]) {
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let nodes = [node(storage, secrets, &erp), node(storage, secrets, &erp)];
    let mut running = vec![Process::start(&nodes[0], "warn").await, Process::start(&nodes[1], "warn").await];

    let mut answered = BTreeMap::new();
    for round in 0..ROUNDS {
        let sending = send_all(&running, (0..(round + 1) * BATCH).filter(|number| !answered.contains_key(number)));
        tokio::time::sleep(Duration::from_millis(rand::random_range(50..KILL_WITHIN_MS))).await;
        let victim = usize::from(rand::random::<bool>());
        running.remove(victim).kill();
        running.insert(victim, Process::start(&nodes[victim], "warn").await);
        collect(sending, &mut answered).await;
    }
    // A rolling restart under load: each in its turn.
    for (node, round) in (ROUNDS..).take(2).enumerate() {
        let sending = send_all(&running, round * BATCH..(round + 1) * BATCH);
        running.remove(node).stop();
        running.insert(node, Process::start(&nodes[node], "warn").await);
        collect(sending, &mut answered).await;
    }

    let all = (ROUNDS + 2) * BATCH;
    for number in 0..all {
        // Both know every delivery that either took.
        for process in &running {
            let run = taken(process, number).await;
            let known = answered.entry(number).or_insert_with(|| run.clone()).clone();
            assert_eq!(run, known, "delivery {number} is another run on the other gateway");
        }
    }
    let control = &running[0].control;
    all_end(control, answered.values()).await;
    assert_eq!(answered.values().collect::<BTreeSet<_>>().len(), answered.len(), "two deliveries share a run");
    check_logs(control, answered.values()).await;
    check_far_end(&erp, answered.values());
    check_slots(control).await;
    for process in running {
        process.stop();
    }
}

/// The run of a delivery, sent again for as long as the answer says to come again.
async fn taken(process: &Process, number: u32) -> String {
    let began = Instant::now();
    loop {
        let answer = send(&process.control, &process.hooks, number).await.unwrap();
        if answer.status != 503 {
            return answer.run();
        }
        assert!(began.elapsed() < TAKEN_OVER_WITHIN, "delivery {number} is not taken: {answer:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn node(storage: &str, secrets: &[(&str, String)], erp: &Standin) -> Folder {
    let folder = folder_on(storage, secrets, erp);
    folder.write("workflows/tick.yaml", TICK);
    folder.write("routes/tick.yaml", EVERY_SECOND);
    folder
}

type Sending = Vec<tokio::task::JoinHandle<(u32, Option<Answer>)>>;

/// Sends each delivery to either gateway, and every third to both at once.
fn send_all(running: &[Process], numbers: impl Iterator<Item = u32>) -> Sending {
    let mut sending = Vec::new();
    for number in numbers {
        let nodes = if number % 3 == 0 { vec![0, 1] } else { vec![usize::from(rand::random::<bool>())] };
        for node in nodes {
            let (control, hooks) = (running[node].control.clone(), running[node].hooks.clone());
            let after = Duration::from_millis(rand::random_range(0..KILL_WITHIN_MS / 2));
            sending.push(tokio::spawn(async move {
                tokio::time::sleep(after).await;
                (number, send(&control, &hooks, number).await)
            }));
        }
    }
    sending
}

/// Those that were answered with a 2xx, with the run that they were told.
async fn collect(sending: Sending, answered: &mut BTreeMap<u32, String>) {
    for sent in sending {
        let (number, answer) = sent.await.unwrap();
        let Some(answer) = answer.filter(|answer| (200..300).contains(&answer.status)) else { continue };
        let run = answer.run();
        let known = answered.entry(number).or_insert_with(|| run.clone());
        assert_eq!(*known, run, "delivery {number} became two runs");
    }
}

/// Two schedulers were there for most of the time, and every slot is one run.
async fn check_slots(control: &Control) {
    let runs = all_runs(control, "&workflow=tick").await;
    let mut slots: BTreeMap<String, usize> = BTreeMap::new();
    for run in runs.keys() {
        let log = control.get(&format!("/v1/runs/{run}/events")).await;
        let due = &log["items"][0]["detail"]["trigger"]["slot"]["due"];
        assert_ne!(*due, Value::Null, "{log}");
        *slots.entry(due.to_string()).or_default() += 1;
    }
    assert!(slots.len() > 2, "too few slots to show anything: {slots:?}");
    assert!(slots.values().all(|runs| *runs == 1), "a slot fired twice: {slots:?}");
}
