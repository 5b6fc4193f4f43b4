//! `clawhook doctor` by the real binary: what it looks at, that nothing stays of it, and what it says beside a gateway.

use std::collections::BTreeMap;
use std::path::Path;

use clawhook::store::sqlite::Sqlite;
use rusqlite::Connection;
use serde_json::Value;

use crate::numbered::folder_on;
use crate::process::{Process, clawhook};
use crate::standin::{self, Standin};
use crate::store_contract::azurite::Account;
use crate::store_contract::database::Database;

const SECRETS: [(&str, &str); 2] =
    [("CLAWHOOK_SECRET_SHOPIFY_US_WEBHOOK_KEY", "hush"), ("CLAWHOOK_SECRET_ERP_API_KEY", "hush")];
const DOORS: [(&str, &str); 2] =
    [("CLAWHOOK__LISTEN__HOOKS__ADDRESS", "127.0.0.1:0"), ("CLAWHOOK__LISTEN__CONTROL__ADDRESS", "127.0.0.1:0")];

/// The exit code, and each finding by what it is about.
fn look<N: AsRef<std::ffi::OsStr>, V: AsRef<std::ffi::OsStr>>(
    folder: &Path,
    arguments: &[&str],
    env: impl IntoIterator<Item = (N, V)>,
) -> (Option<i32>, BTreeMap<String, Value>) {
    let output = clawhook(folder, &[&["doctor", "--json"], arguments].concat(), env);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap().iter();
    let findings = findings.map(|finding| (finding["about"].as_str().unwrap().to_owned(), finding.clone()));
    (output.status.code(), findings.collect())
}

#[track_caller]
fn is(findings: &BTreeMap<String, Value>, about: &str, verdict: &str) {
    let finding = findings.get(about).unwrap_or_else(|| panic!("nothing about {about}: {findings:?}"));
    assert_eq!(finding["verdict"], verdict, "{finding}");
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        files.push(path.clone());
        if path.is_dir() {
            files.extend(self::files(&path));
        }
    }
    files.sort();
    files
}

#[test]
fn looks_at_everything_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    clawhook(at, &["init"], SECRETS);
    let env = [SECRETS, DOORS].concat();
    let before = files(at);
    let (_, findings) = look(at, &[], env.iter().copied());
    for about in ["cgroup v2", "memory", "disk", "clock"] {
        assert!(findings.contains_key(about), "{findings:?}");
    }
    for about in ["hooks door", "control door", "secrets", "storage sqlite"] {
        is(&findings, about, "good");
    }
    let found = findings["storage sqlite"]["found"].as_str().unwrap();
    assert!(found.contains("there is none yet"), "{found}");
    assert_eq!(files(at), before);

    // What it writes into a store that is there goes again.
    drop(Sqlite::open(&at.join("data")).unwrap());
    let (_, findings) = look(at, &[], env.iter().copied());
    let found = findings["storage sqlite"]["found"].as_str().unwrap();
    assert!(found.contains("a durable write takes"), "{found}");
    let store = Connection::open(at.join("data/clawhook.db")).unwrap();
    assert_eq!(store.query_row("SELECT count(*) FROM marks", [], |row| row.get::<_, i64>(0)).unwrap(), 0);

    let (code, findings) = look(at, &[], DOORS);
    assert_eq!(code, Some(1));
    is(&findings, "secret erp-api-key", "bad");
    let (code, findings) = look(at, &["--quick"], env.iter().copied());
    assert_eq!(code, Some(1));
    is(&findings, "gateway", "bad");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_gateway_on_sqlite() {
    beside("sqlite", "", &[], "in use by a gateway that runs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_gateway_on_azure_blob() {
    let Some(container) = Account::by_signature().map(Account::container) else { return };
    let (storage, sas) = container.settings();
    beside("azure-blob", &storage, &[("CLAWHOOK_SECRET_SAS", sas)], "in use by a gateway that runs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_gateway_on_postgres() {
    let Some(database) = Database::create().await else { return };
    let (storage, password) = database.settings();
    beside("postgres", &storage, &[("CLAWHOOK_SECRET_POSTGRES", password)], "a durable write takes").await;
}

async fn beside(backend: &str, storage: &str, secrets: &[(&str, String)], found: &str) {
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let folder = folder_on(storage, secrets, &erp);
    let about = format!("storage {backend}");
    // Before its first start nothing is made on this machine.
    let before = files(&folder.path(""));
    let (_, findings) = look(&folder.path(""), &[], &folder.env);
    is(&findings, &about, "good");
    assert_eq!(files(&folder.path("")), before);

    let gateway = Process::start(&folder, "error").await;
    // The gateway leaves its store's name beside the artifacts in its own time.
    let files = |folder: &Path| {
        files(folder)
            .into_iter()
            .filter(|file| !file.components().any(|part| part.as_os_str() == "artifacts"))
            .collect::<Vec<_>>()
    };
    let before = files(&folder.path(""));
    let (_, findings) = look(&folder.path(""), &[], &folder.env);
    is(&findings, &about, "good");
    assert!(findings[&about]["found"].as_str().unwrap().contains(found), "{findings:?}");
    assert_eq!(files(&folder.path("")), before);
    gateway.stop();
}
