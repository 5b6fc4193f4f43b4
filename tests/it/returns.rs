//! Returns in batches, as shipped, by the real program: killed at every stage, and nobody is paid twice.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::app::Control;
use crate::examples::{erp, shipped_folder};
use crate::numbered::{LOOK_EVERY, TAKEN_OVER_WITHIN};
use crate::process::Process;
use crate::standin::{Close, Fault, Recorded, Standin};

/// Between two of the eight pieces of an answer to a refund: the refund is made and a kill comes before its answer.
const ANSWER_PIECE_MS: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_stage_pays_each_return_once() {
    let erp = erp();
    let folder = shipped_folder(&erp).await;
    let slow = Fault { path: "/refunds".into(), trickle_ms: ANSWER_PIECE_MS, ..Fault::default() };
    // The first answer is lost after the refund was made, the others come late.
    erp.fail(Fault { close: Some(Close::After), ..slow.clone() });
    erp.fail(Fault { times: 50, ..slow });

    // While the cheap ones are being paid, and once more right after they were taken up again.
    let process = Process::start(&folder, "warn").await;
    let run = process.control.post("/v1/workflows/trigger", &json!({ "workflow": "returns-batch" })).await.run();
    asked_to_pay(&erp, 3).await;
    process.kill();
    let process = Process::start(&folder, "warn").await;
    asked_to_pay(&erp, 4).await;
    process.kill();

    // While people are asked, and right after one of them said yes.
    let process = Process::start(&folder, "warn").await;
    let open = open_approvals(&process.control).await;
    assert_eq!(open, [1, 3].map(|item| format!("{run}:return:{item}:ask")));
    process.kill();
    let process = Process::start(&folder, "warn").await;
    assert_eq!(open_approvals(&process.control).await, open, "a question outlives the gateway");
    let yes = json!({ "decision": "approve", "form": { "reason": "damaged" } });
    process.control.post(&format!("/v1/approvals/{}", open[0]), &yes).await.expect(200);
    process.kill();

    // While the expensive one is being paid.
    let process = Process::start(&folder, "warn").await;
    asked_for(&erp, "480.00").await;
    process.kill();

    let process = Process::start(&folder, "warn").await;
    assert_eq!(open_approvals(&process.control).await, open[1..], "a yes outlives the gateway");
    process.control.post(&format!("/v1/approvals/{}", open[1]), &json!({ "decision": "reject" })).await.expect(200);
    let ended = process.control.until(&format!("/v1/runs/{run}"), |run| run["ended_at"].is_string()).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    let summary = json!({ "returns": 5, "failed": 0, "refunded": 4, "left": ["#1052"] });
    assert_eq!(ended["outputs"]["summary"], summary);

    let paid: Vec<String> = erp.refunds().iter().map(|refund| refund["amount"].to_string()).collect();
    assert_eq!(paid.len(), 4, "{paid:?}");
    assert_eq!(paid.iter().map(String::as_str).collect::<BTreeSet<_>>(), ["12.50", "7.90", "99.99", "480.00"].into());
    assert!(erp.repeats() >= 2, "no kill found a refund under way: this test shows nothing");
    assert_eq!(erp.wrongs(), Vec::<String>::new());
    process.stop();
}

/// Waits until the ERP was asked for this many refunds.
async fn asked_to_pay(erp: &Standin, count: usize) {
    until(&format!("{count} refunds asked for"), || erp.requests_to("/refunds").len() >= count).await;
}

/// Waits until the ERP was asked for a refund of this amount.
async fn asked_for(erp: &Standin, amount: &str) {
    let amounts = || {
        erp.requests_to("/refunds")
            .iter()
            .filter_map(Recorded::json)
            .map(|body| body["amount"].to_string())
            .collect::<Vec<_>>()
    };
    let asked = || amounts().iter().any(|asked| asked == amount);
    until(&format!("a refund of {amount} asked for"), asked).await;
}

async fn until(what: &str, there: impl Fn() -> bool) {
    let began = Instant::now();
    while !there() {
        assert!(began.elapsed() < TAKEN_OVER_WITHIN, "not seen: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The ids of the questions that wait for people, once the run waits for nothing else.
async fn open_approvals(control: &Control) -> Vec<String> {
    let began = Instant::now();
    loop {
        let open = control.get("/v1/approvals").await;
        let waits = control.get("/v1/runs?status=waiting").await["items"].as_array().unwrap().len() == 1;
        let open = open["items"].as_array().unwrap();
        if waits && !open.is_empty() {
            return open.iter().map(|approval| approval["id"].as_str().unwrap().to_owned()).collect();
        }
        assert!(began.elapsed() < TAKEN_OVER_WITHIN, "nobody is asked: {open:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
