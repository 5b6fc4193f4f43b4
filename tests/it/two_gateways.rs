//! Two gateways, the real program each, on one container of Blob Storage, by managed identity and under the real names of
//! Azure: either is killed at any moment, the last one for good. What was answered with a 2xx has one run, which ends;
//! what was finished does not happen again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::app::{Folder, KEY, OPEN, orders_route};
use crate::crash::{WORKFLOW, all_runs, check_far_end, check_log, send, send_later};
use crate::emulators::wanted;
use crate::process::Process;
use crate::standin::{self, Standin};

const ROUNDS: u32 = 3;
const BATCH: u32 = 12;
const KILL_WITHIN_MS: u64 = 900;
/// A lease, a look, and the time that a queued run is left to who accepted it.
const TAKE_OVER_LOOKS_MAX: usize = 1_200;
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_container_a_kill_loses_nothing_and_repeats_nothing() {
    let Some(storage) = storage() else { return };
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let folders = [node(&storage, &erp), node(&storage, &erp)];
    let mut nodes = [Some(Process::start(&folders[0], "warn").await), Some(Process::start(&folders[1], "warn").await)];
    let mut answered = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut sending: Vec<JoinHandle<_>> = Vec::new();
        for number in (0..(round + 1) * BATCH).filter(|number| !answered.contains_key(number)) {
            // A platform sends again to whatever the load balancer gives it, at times to both.
            for node in nodes.iter().flatten() {
                if rand::random() {
                    sending.push(send_later(node, number));
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(50..KILL_WITHIN_MS))).await;
        let victim = rand::random_range(0..2);
        nodes[victim].take().unwrap().kill();
        for sent in sending {
            let (number, answer) = sent.await.unwrap();
            let Some(answer) = answer.filter(|answer| answer.status == 202) else { continue };
            let known = answered.entry(number).or_insert_with(|| answer.run()).clone();
            assert_eq!(answer.run(), known, "delivery {number} has two runs");
        }
        if round + 1 < ROUNDS {
            nodes[victim] = Some(Process::start(&folders[victim], "warn").await);
        }
    }
    // One is gone for good. The other takes everything over, and knows every delivery.
    let left = nodes.into_iter().flatten().next().unwrap();
    for number in 0..ROUNDS * BATCH {
        let answer = send(&left.control, &left.hooks, number).await.unwrap();
        assert!([200, 202].contains(&answer.status), "{answer:?}");
        let known = answered.entry(number).or_insert_with(|| answer.run()).clone();
        assert_eq!(answer.run(), known, "delivery {number} got another run");
    }
    let runs = until_all_ended(&left, answered.len()).await;
    assert_eq!(answered.values().collect::<BTreeSet<_>>().len(), answered.len(), "two deliveries share a run");
    for run in answered.values() {
        assert_eq!(runs.get(run).map(String::as_str), Some("succeeded"), "{run}");
        let log = left.control.get(&format!("/v1/runs/{run}/events")).await;
        check_log(run, log["items"].as_array().unwrap());
    }
    check_far_end(&erp, answered.values());
    left.stop();
}

/// Looks until as many runs as were answered have ended; more must not come.
async fn until_all_ended(node: &Process, count: usize) -> BTreeMap<String, String> {
    let open = "/v1/runs?status=queued,running,waiting,cancelling&limit=1";
    for _ in 0..TAKE_OVER_LOOKS_MAX {
        if node.control.get(open).await["items"] == Value::Array(Vec::new()) {
            let runs = all_runs(&node.control).await;
            assert!(runs.len() <= count, "a run too many: {runs:?}");
            if runs.len() == count {
                return runs;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("runs of the killed gateway were not taken over: {:?}", all_runs(&node.control).await);
}

/// What every node says of storage, with what it needs of the environment.
struct Storage {
    settings: String,
    env: BTreeMap<String, String>,
}

fn storage() -> Option<Storage> {
    let host = wanted("CLAWHOOK_TEST_AZURITE_HOST_URL")?;
    let address = wanted("CLAWHOOK_TEST_AZURITE_ADDRESS")?;
    let ca = wanted("CLAWHOOK_TEST_CA")?;
    let env = [
        ("IDENTITY_ENDPOINT", wanted("CLAWHOOK_TEST_IDENTITY_ENDPOINT")?),
        ("IDENTITY_HEADER", wanted("CLAWHOOK_TEST_IDENTITY_HEADER")?),
        ("CLAWHOOK_SECRET_SHOP_KEY", KEY.to_owned()),
    ];
    let name = host.trim_start_matches("https://");
    let container = format!("test-{:016x}", rand::random::<u64>());
    let settings = format!(
        "{}\nstorage: {{ backend: azure-blob, path: ./data, endpoint: \"{host}\", container: {container} }}\n\
         azure: {{ dns_overrides: {{ \"{name}\": \"{address}\" }}, ca: \"{ca}\" }}\n",
        OPEN.replace("secrets: { source: file, path: ./secrets }", "")
    );
    Some(Storage { settings, env: env.map(|(name, value)| (name.to_owned(), value)).into() })
}

fn node(storage: &Storage, erp: &Standin) -> Folder {
    let mut folder = Folder::new(&storage.settings, Some(erp));
    folder.env.extend(storage.env.clone());
    folder.write("workflows/push.yaml", WORKFLOW);
    folder.write("routes/orders.yaml", &orders_route(""));
    folder
}
