//! What is shipped works: the settings, routes and workflows of the repository run against the stand-in as they are,
//! and every task kind is shown in one of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clawhook::tasks;
use serde_json::{Value, json};

use crate::app::{App, Folder, shopify};
use crate::standin::{self, Standin};

pub(crate) const KEY: &str = "demo-webhook-key";
pub(crate) const ERP_KEY: &str = "demo-erp-key";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The shipped files, copied; only addresses and secrets are this test's own.
async fn shipped(erp: &Standin) -> App {
    shipped_folder(erp).await.start().await
}

/// The same, not started yet.
pub(crate) async fn shipped_folder(erp: &Standin) -> Folder {
    let mut folder = Folder::new("", None);
    for name in ["clawhook.yaml", "routes", "workflows"] {
        for file in files(&root().join(name)) {
            let inside = file.strip_prefix(root()).unwrap();
            folder.write(inside.to_str().unwrap(), &std::fs::read_to_string(&file).unwrap());
        }
    }
    folder.secret("shopify-us-webhook-key", KEY);
    folder.secret("erp-api-key", ERP_KEY);
    for (setting, value) in [
        ("LISTEN__HOOKS__ADDRESS", "127.0.0.1:0"),
        ("LISTEN__CONTROL__ADDRESS", "127.0.0.1:0"),
        ("SECRETS__SOURCE", "file"),
        ("SECRETS__PATH", "./secrets"),
        ("CONNECTIONS__ERP__BASE_URL", &erp.url()),
        ("CHANNELS__OPS__URL", &format!("{}/alerts", erp.url())),
    ] {
        folder.env.insert(format!("CLAWHOOK__{setting}"), value.to_owned());
    }
    let (_, loaded) = clawhook::boot::read_files(&folder.path("clawhook.yaml"), &folder.env).await;
    assert!(loaded.problems.is_empty(), "the shipped files have problems: {:?}", loaded.problems);
    folder
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut files: Vec<_> = std::fs::read_dir(path).unwrap().flat_map(|entry| files(&entry.unwrap().path())).collect();
    files.sort();
    files
}

/// An ERP that wants the key of [`shipped_folder`].
pub(crate) fn erp() -> Standin {
    Standin::start(&standin::Settings { api_key: Some(ERP_KEY.to_owned()), ..standin::Settings::default() }).unwrap()
}

#[tokio::test]
async fn the_shipped_order_reaches_the_erp() {
    let erp = erp();
    let app = shipped(&erp).await;
    let order = std::fs::read_to_string(root().join("src/cli/sample_order.json")).unwrap();
    let order = order.trim_end();
    let path = "/hooks/shopify/us/orders";
    let run = app.post(path, &shopify(KEY, "d-1", order), order).await.run();
    let shown = app.control.ended(&run).await;
    assert_eq!(
        (&shown["status"], &shown["outputs"]["erp_order_id"]),
        (&json!("succeeded"), &json!("ERP-1001")),
        "{shown}"
    );
    assert_eq!(erp.orders().len(), 1);
    let sent: Value = serde_json::from_str(order).unwrap();
    let label = sent["name"].as_str().unwrap();
    let found = app.control.get(&format!("/v1/runs?label=order%3D{}", label.replace('#', "%23"))).await;
    assert_eq!(found["items"][0]["id"], run.as_str(), "found by its label");
    // The order is known now: an update does not push it again.
    let again = app.post(path, &shopify(KEY, "d-2", order), order).await.run();
    let shown = app.control.ended(&again).await;
    assert_eq!((&shown["status"], &shown["suspected_replay_of"]), (&json!("succeeded"), &json!(run)), "{shown}");
    assert_eq!(erp.orders().len(), 1);
    assert_eq!(erp.wrongs(), Vec::<String>::new());
    app.stop().await;
}

#[tokio::test]
async fn the_shipped_stock_check_tells_a_gap_once() {
    let erp = erp();
    let app = shipped(&erp).await;
    let gap = standin::Fault {
        path: "/stock".into(),
        times: 1,
        body: Some(json!({ "items": [{ "sku": "LAMP-OAK", "on_hand": 50 }, { "sku": "CHAIR-BLK", "on_hand": 18 }] })),
        ..standin::Fault::default()
    };
    for alerts in [1, 1] {
        // The shop is asked first.
        erp.fail(gap.clone());
        let trigger = json!({ "workflow": "inventory-reconcile", "inputs": { "threshold": 3 }, "wait": "30s" });
        let answer = app.control.post("/v1/workflows/trigger", &trigger).await.expect(200);
        assert_eq!(answer["status"], "succeeded", "{answer}");
        assert_eq!(erp.requests_to("/alerts").len(), alerts, "a gap is told once");
    }
    let told = erp.requests_to("/alerts")[0].json().unwrap();
    assert_eq!((&told["title"], &told["level"]), (&json!("1 SKUs differ"), &json!("warning")));
    let table = json!({ "columns": ["sku", "shop", "erp", "gap"], "rows": [["LAMP-OAK", "50", "42", "8"]], "more": 0 });
    assert_eq!(told["table"], table);
    assert_eq!(erp.wrongs(), Vec::<String>::new());
    app.stop().await;
}

#[tokio::test]
async fn the_shipped_confirmation_waits_and_tells_what_is_missing() {
    let erp = erp();
    let app = shipped(&erp).await;
    let trigger = |source_id: &str, at: &str| {
        let inputs = json!({ "source_id": source_id, "at": at });
        json!({ "workflow": "order-confirm", "inputs": inputs, "wait": true })
    };
    let missing = app.control.post("/v1/workflows/trigger", &trigger("77", "2026-11-01T08:00:00+08:00")).await;
    let missing = missing.expect(200);
    assert_eq!(missing["status"], "failed", "{missing}");
    assert!(missing["failure"]["message"].as_str().unwrap().contains("does not have order 77"), "{missing}");
    let waiting =
        json!({ "workflow": "order-confirm", "inputs": { "source_id": "78", "at": "2199-11-01T08:00:00+08:00" } });
    let run = app.control.post("/v1/workflows/trigger", &waiting).await.run();
    let waiting = app.control.until(&format!("/v1/runs/{run}"), |run| run["status"] == "waiting").await;
    assert!(waiting["why_waiting"].as_str().unwrap().contains("moment"), "{waiting}");
    app.control.post(&format!("/v1/runs/{run}/cancel"), &json!({ "reason": "enough" })).await.expect(200);
    app.stop().await;
}

#[tokio::test]
async fn the_shipped_returns_are_paid_once_and_the_expensive_ones_after_a_yes() {
    let erp = erp();
    let app = shipped(&erp).await;
    // One answer is lost after the refund was made: it is asked for again under the same key.
    erp.fail(standin::Fault {
        path: "/refunds".into(),
        close: Some(standin::Close::After),
        ..standin::Fault::default()
    });
    let run = app.control.post("/v1/workflows/trigger", &json!({ "workflow": "returns-batch" })).await.run();
    let open = app.control.until("/v1/approvals", |approvals| approvals["items"].as_array().unwrap().len() == 2).await;
    let ids: Vec<_> = open["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [1, 3].map(|item| format!("{run}:return:{item}:ask")));
    assert_eq!(open["items"][0]["title"], "Refund 480.00 for order #1043?");
    let shown = app.control.until(&format!("/v1/runs/{run}"), |run| run["status"] == "waiting").await;
    assert_eq!(shown["approvals"], 2, "{shown}");
    let yes = json!({ "decision": "approve", "comment": "damaged", "form": { "reason": "damaged" } });
    let decided = app.control.post(&format!("/v1/approvals/{}", ids[0]), &yes).await.expect(200);
    assert_eq!(decided["decisions"][0]["verdict"], "approve", "{decided}");
    let no = json!({ "decision": "reject" });
    app.control.post(&format!("/v1/approvals/{}", ids[1]), &no).await.expect(200);
    let shown = app.control.ended(&run).await;
    assert_eq!(shown["status"], "succeeded", "{shown}");
    let summary = json!({ "returns": 5, "failed": 0, "refunded": 4, "left": ["#1052"] });
    assert_eq!(shown["outputs"]["summary"], summary);
    let late = app.control.post(&format!("/v1/approvals/{}", ids[1]), &yes).await;
    assert_eq!(late.status, 409, "a click after it was decided");
    let closed = app.control.get(&format!("/v1/approvals/{}", ids[1])).await;
    assert_eq!(closed["status"], "rejected");
    assert_eq!((erp.refunds().len(), erp.repeats()), (4, 1));
    assert_eq!(erp.wrongs(), Vec::<String>::new());
    let audit = app.control.get("/v1/audit").await.to_string();
    assert!(audit.contains("approval.approve") && audit.contains("approval.reject"), "{audit}");
    app.stop().await;
}

#[tokio::test]
async fn the_shipped_schedule_is_in_force() {
    let erp = erp();
    let app = shipped(&erp).await;
    let schedules = app.control.get("/v1/schedules").await;
    let schedule = &schedules["items"][0];
    assert_eq!((&schedule["name"], &schedule["timezone"]), (&json!("inventory-every-2h"), &json!("Asia/Shanghai")));
    assert_eq!(schedule["next"].as_array().unwrap().len(), 5);
    app.stop().await;
}

/// A kind of task without an example is one that nobody finds.
#[test]
fn every_task_kind_has_an_example() {
    // What is off until the settings allow it is shown in the guide.
    let shipped: String = texts(&["workflows", "docs/guide.md"]);
    let shown: BTreeSet<_> = tasks::KINDS.iter().map(|kind| kind.name).collect();
    let missing: Vec<_> = shown.into_iter().filter(|kind| !shipped.contains(&format!("type: {kind}"))).collect();
    assert!(missing.is_empty(), "neither workflows/ nor the guide shows the task kinds {missing:?}");
}

fn texts(folders: &[&str]) -> String {
    let files = folders.iter().flat_map(|folder| files(&root().join(folder)));
    files.map(|file| std::fs::read_to_string(file).unwrap()).collect()
}
