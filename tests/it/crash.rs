//! The real program on the real store, killed at any moment: what was answered with a 2xx is there and ends, what was
//! finished does not happen again, and what was in flight happens again under the same key.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::app::Answer;
use crate::numbered::{all_runs, check_far_end, check_logs, folder_on, send};
use crate::process::Process;
use crate::standin::{self, Standin};

const ROUNDS: u32 = 5;
/// Deliveries of one round.
const BATCH: u32 = 16;
/// The moment of the kill lies somewhere in here: before, in and after the first steps.
const KILL_WITHIN_MS: u64 = 700;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_loses_nothing_and_repeats_nothing() {
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let folder = folder_on("", &[], &erp);

    let mut answered = BTreeMap::new();
    for round in 0..ROUNDS {
        let process = Process::start(&folder, "warn").await;
        // What was not answered is sent again, as every platform does.
        let unanswered = (0..(round + 1) * BATCH).filter(|number| !answered.contains_key(number));
        let sending: Vec<_> = unanswered.map(|number| send_later(&process, number)).collect();
        tokio::time::sleep(Duration::from_millis(rand::random_range(20..KILL_WITHIN_MS))).await;
        process.kill();
        for sent in sending {
            let (number, answer) = sent.await.unwrap();
            answered.extend(answer.map(|answer| (number, answer.run())));
        }
    }

    let process = Process::start(&folder, "warn").await;
    for number in 0..ROUNDS * BATCH {
        let answer = send(&process.control, &process.hooks, number).await.unwrap();
        let known = answered.entry(number).or_insert_with(|| answer.run()).clone();
        assert_eq!(answer.run(), known, "delivery {number} got another run after the restart");
    }
    let open = "/v1/runs?status=queued,running,waiting,cancelling&limit=1";
    process.control.until(open, |page| page["items"] == Value::Array(Vec::new())).await;
    let runs = all_runs(&process.control, "").await;
    assert_eq!(runs.len(), answered.len(), "a run too many or too few");
    assert_eq!(answered.values().collect::<BTreeSet<_>>().len(), answered.len(), "two deliveries share a run");
    assert!(answered.values().all(|run| runs.get(run).is_some_and(|status| status == "succeeded")), "{runs:?}");
    let in_flight = check_logs(&process.control, answered.values()).await;
    check_far_end(&erp, answered.values());
    assert!(in_flight > 0, "no kill found a step in flight: this test shows nothing");
    process.stop();
}

fn send_later(process: &Process, number: u32) -> tokio::task::JoinHandle<(u32, Option<Answer>)> {
    let (control, hooks) = (process.control.clone(), process.hooks.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..KILL_WITHIN_MS / 2))).await;
        (number, send(&control, &hooks, number).await)
    })
}
