//! `clawhook store migrate`: what a real gateway kept in the embedded store is served, known and finished by one that is
//! started on the new store.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::app::{Control, Folder};
use crate::numbered::{all_runs, check_far_end, folder_on, send};
use crate::process::{Process, clawhook};
use crate::standin::{self, Standin};
use crate::store_contract::azurite::Account;
use crate::store_contract::database::Database;

const DELIVERIES: u32 = 5;
/// The gateway is stopped well before this is over.
const NAP: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_sqlite_to_postgres() {
    let Some(database) = Database::create().await else { return };
    let (storage, password) = database.settings();
    check(&storage, &[("CLAWHOOK_SECRET_POSTGRES", password)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_sqlite_to_azure_blob() {
    let Some(container) = Account::by_signature().map(Account::container) else { return };
    let (storage, sas) = container.settings();
    check(&storage, &[("CLAWHOOK_SECRET_SAS", sas)]).await;
}

async fn check(storage: &str, secrets: &[(&str, String)]) {
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let folder = folder_on("", secrets, &erp);
    let nap = format!(
        "version: 1\nname: nap\ntasks:\n  - {{ id: nap, type: wait, with: {{ for: {}s }} }}\n  \
         - {{ id: done, type: transform, with: {{ input: \"rested\", jq: \".\" }} }}\n\
         outputs: {{ how: \"${{{{ tasks.done }}}}\" }}\n",
        NAP.as_secs()
    );
    folder.write("workflows/nap.yaml", &nap);

    let old = Process::start(&folder, "error").await;
    let mut ended = Vec::new();
    for number in 0..DELIVERIES {
        let run = send(&old.control, &old.hooks, number).await.unwrap().run();
        old.control.ended(&run).await;
        ended.push(run);
    }
    let napping = old.control.post("/v1/workflows/trigger", &json!({ "workflow": "nap", "inputs": {} })).await.run();
    let began = Instant::now();
    old.control.until(&format!("/v1/runs/{napping}"), |run| run["status"] == "waiting").await;
    let (runs, shown) = (all_runs(&old.control, "&workflow=push").await, shown(&old.control, &ended).await);
    assert_eq!(runs.len(), ended.len());
    old.stop();
    assert!(began.elapsed() < NAP, "the old gateway had the time to end the run that waits");

    let settings = std::fs::read_to_string(folder.path("clawhook.yaml")).unwrap();
    folder.write("new.yaml", &format!("{settings}\n{storage}\n"));
    refused_while_a_gateway_works(&folder, &settings, storage, secrets, &erp).await;
    for _ in 0..2 {
        // The second time all is there already.
        let migrated = clawhook(&folder.path(""), &["store", "migrate", "--to", "new.yaml"], &folder.env);
        let said = String::from_utf8(migrated.stderr).unwrap();
        assert!(migrated.status.success() && said.contains(&format!("took {} runs over", runs.len() + 1)), "{said}");
    }
    std::fs::rename(folder.path("new.yaml"), folder.path("clawhook.yaml")).unwrap();
    std::fs::remove_file(folder.path("data/clawhook.db")).unwrap();

    let new = Process::start(&folder, "error").await;
    assert_eq!(shown, self::shown(&new.control, &ended).await);
    for (number, run) in (0..DELIVERIES).zip(&ended) {
        assert_eq!(send(&new.control, &new.hooks, number).await.unwrap().run(), *run, "delivery {number} is known");
    }
    let rested = new.control.ended(&napping).await;
    assert_eq!((&rested["status"], &rested["outputs"]["how"]), (&json!("succeeded"), &json!("rested")), "{rested}");
    assert_eq!(all_runs(&new.control, "&workflow=push").await, runs);
    let fresh = send(&new.control, &new.hooks, DELIVERIES).await.unwrap().run();
    assert_eq!(new.control.ended(&fresh).await["status"], "succeeded");
    check_far_end(&erp, ended.iter().chain([&fresh]));
    new.stop();
}

/// A gateway on the new store that drives a run keeps the store to itself, for as long as its lease lasts.
async fn refused_while_a_gateway_works(
    folder: &Folder,
    settings: &str,
    storage: &str,
    secrets: &[(&str, String)],
    erp: &Standin,
) {
    let other = folder_on(storage, secrets, erp);
    let command = "version: 1\nname: long\ntasks:\n  - id: long\n    type: http_request\n    connection: erp\n    \
                   with: { method: POST, path: /slow, query: { ms: \"20000\" }, json: {} }\n";
    other.write("workflows/long.yaml", command);
    let gateway = Process::start(&other, "error").await;
    let run = gateway.control.post("/v1/workflows/trigger", &json!({ "workflow": "long", "inputs": {} })).await.run();
    gateway.control.until(&format!("/v1/runs/{run}"), |run| run["status"] == "running").await;
    let refused = clawhook(&folder.path(""), &["store", "migrate", "--to", "new.yaml"], &folder.env);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("a gateway works with the store"), "{said}");
    assert_eq!(std::fs::read_to_string(folder.path("clawhook.yaml")).unwrap(), settings);
    let cancelled = gateway.control.post(&format!("/v1/runs/{run}/cancel"), &json!({})).await;
    assert!(cancelled.status < 300, "{cancelled:?}");
    gateway.control.ended(&run).await;
    gateway.stop();
}

/// Runs as people see them, with their logs.
async fn shown(control: &Control, runs: &[String]) -> Vec<(Value, Value)> {
    let mut shown = Vec::new();
    for run in runs {
        let log = control.get(&format!("/v1/runs/{run}/events")).await;
        shown.push((control.get(&format!("/v1/runs/{run}")).await, log));
    }
    shown
}
