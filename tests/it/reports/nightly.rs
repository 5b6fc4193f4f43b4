//! The shipped example of Amazon's nightly reports, from the platform to a real PostgreSQL, with the real program killed
//! in the middle of everything: no row is lost, none is there twice, and each report is asked for once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clawhook::clock::SystemClock;
use serde_json::json;

use super::amazon::{Amazon, Ending, REPORTS};
use super::far::Far;
use crate::app::Folder;
use crate::process::Process;
use crate::standin::{self, Fault, Standin};
use crate::store_contract::database::Database;

const ROWS: u32 = 3_000;
const EXAMPLE: &str = "examples/amazon-nightly";

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE).join(name)).unwrap()
}

/// The shipped files; only addresses, secrets and the pauses between looks are this test's own.
fn folder(far: &Far<Amazon>, erp: &Standin, database: &Database) -> Folder {
    let folder = Folder::new("", None);
    let place = database.keys(database.port());
    let mut settings = read("clawhook.yaml");
    for (shipped, ours) in [
        ("https://sellingpartnerapi-na.amazon.com", far.url()),
        ("https://advertising-api.amazon.com", far.url()),
        ("type: lwa\n", format!("type: lwa\n      token_url: {}/auth/o2/token\n", far.url())),
        ("amzn1.application-oa2-client.example", "amzn1.app".to_owned()),
        ("127.0.0.1:8443", "127.0.0.1:0".to_owned()),
        ("127.0.0.1:8080", "127.0.0.1:0".to_owned()),
        ("source: env", "source: file, path: ./secrets".to_owned()),
        ("http://127.0.0.1:9400", erp.url()),
    ] {
        assert!(settings.contains(shipped), "{shipped}");
        settings = settings.replace(shipped, &ours);
    }
    let at = settings.find("databases:\n").unwrap();
    let end = settings.find("channels:\n").unwrap();
    settings.replace_range(at..end, &format!("databases: {{ reports: {{ type: postgres, {place} }} }}\n"));
    folder.write("clawhook.yaml", &settings);
    folder.write("routes/schedules.yaml", &read("routes/schedules.yaml"));
    let workflow = read("workflows/amazon-nightly-reports.yaml");
    let quick = workflow.replace("poll: { timeout:", "poll: { interval: 400ms, max_interval: 1s, timeout:");
    assert_ne!(quick, workflow);
    folder.write("workflows/amazon-nightly-reports.yaml", &quick);
    for name in ["lwa-client-secret", "amazon-us-refresh-token", "amazon-ads-refresh-token"] {
        folder.secret(name, "not-a-real-one");
    }
    folder.secret("postgres", &database.password());
    folder
}

fn sales() -> String {
    let head = "amazon-order-id\tsku\tpurchase-date\tquantity\titem-price\tcurrency\r\n";
    let line = |row: u32| {
        let (lamp, quantity) = (row % 7, row % 5 + 1);
        format!("111-{row}\t2\" LAMP {lamp}\t2026-11-21T10:00:00+00:00\t{quantity}\t19.90\tUSD\r\n")
    };
    std::iter::once(head.to_owned()).chain((0..ROWS).map(line)).collect()
}

fn campaigns() -> String {
    let row = |number: u64| {
        format!(
            "{{\"date\":\"2026-11-21\",\"campaignId\":{},\"campaignName\":\"夏 {number}\",\"impressions\":10,\"clicks\":1,\"cost\":0.10,\"sales14d\":1.25}}",
            9_007_199_254_740_993 + number
        )
    };
    format!("[{}]", (0..500).map(row).collect::<Vec<_>>().join(","))
}

/// Looks until something is so, a bounded number of times.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..6_000 {
        if so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came to this: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nights_are_whole_whatever_is_killed() {
    let Some(database) = Database::create().await else { return };
    let mut platform = Amazon::new(6, Ending::rows(&sales()));
    platform.ads_rows = campaigns();
    let far = Far::start(Arc::new(SystemClock), platform);
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let folder = folder(&far, &erp, &database);
    let process = Process::start(&folder, "warn").await;
    let day = json!({ "workflow": "amazon-nightly-reports", "inputs": { "day": "2026-11-21" } });
    let run = process.control.post("/v1/workflows/trigger", &day).await.run();

    let look = format!("{REPORTS}/50001");
    until("a report is waited for", async || far.count("GET", &look) > 1).await;
    process.kill();

    // The files come in drops, so that the next kill finds them half way.
    for link in 0..4 {
        let path = format!("/storage/{link}");
        far.standin.fail(Fault { path, times: 1, trickle_ms: 300, ..Fault::default() });
    }
    let process = Process::start(&folder, "warn").await;
    let files = || far.standin.requests().iter().filter(|request| request.path.starts_with("/storage/")).count();
    until("a file comes", async || files() > 0).await;
    process.kill();

    // Nobody but this test may write, so that the load is under way for as long as it takes to kill it.
    let client = database.client().await;
    client.batch_execute("BEGIN; LOCK TABLE amazon_sales, amazon_ads IN EXCLUSIVE MODE").await.unwrap();
    let process = Process::start(&folder, "warn").await;
    let loading =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("a load is under way", async || database.number(loading).await > 0).await;
    process.kill();
    client.batch_execute("COMMIT").await.unwrap();

    let process = Process::start(&folder, "warn").await;
    let done = process.control.until(&format!("/v1/runs/{run}"), |run| run["ended_at"].is_string()).await;
    assert_eq!(done["status"], "succeeded", "{done}");
    assert_eq!(done["outputs"], json!({ "sales": ROWS, "ads": 500 }), "{done}");
    check(&database).await;
    let alerts = erp.requests_to("/alerts");
    assert_eq!((alerts.len(), &alerts[0].json().unwrap()["title"]), (1, &json!("Amazon reports of 2026-11-21")));
    let asked = (far.count("POST", REPORTS), far.lock().platform.ads.len());
    assert_eq!(asked, (1, 1), "each was asked for once");

    // The same day again replaces its rows.
    let again = process.control.post("/v1/workflows/trigger", &day).await.run();
    let done = process.control.until(&format!("/v1/runs/{again}"), |run| run["ended_at"].is_string()).await;
    assert_eq!(done["status"], "succeeded", "{done}");
    check(&database).await;
    far.check();
    assert_eq!(far.lock().desk.refused, 0, "no call was one too many");
    process.stop();
}

async fn check(database: &Database) {
    let quantity: u32 = (0..ROWS).map(|row| row % 5 + 1).sum();
    for (sql, expected) in [
        ("SELECT count(*) FROM amazon_sales", i64::from(ROWS)),
        ("SELECT sum(quantity) FROM amazon_sales", i64::from(quantity)),
        ("SELECT (sum(item_price) * 100)::bigint FROM amazon_sales", i64::from(ROWS) * 1990),
        ("SELECT count(*) FROM amazon_ads", 500),
        ("SELECT max(campaign_id) FROM amazon_ads", 9_007_199_254_740_993 + 499),
        ("SELECT (sum(cost) * 100)::bigint FROM amazon_ads", 500 * 10),
    ] {
        assert_eq!(database.number(sql).await, expected, "{sql}");
    }
}

/// The example is checked as a user would, and its schedule says when the next night is.
#[tokio::test]
async fn the_files_of_the_example_hold_no_mistake() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let secrets = ["LWA_CLIENT_SECRET", "AMAZON_US_REFRESH_TOKEN", "AMAZON_ADS_REFRESH_TOKEN", "REPORTS_DB_PASSWORD"];
    let env = secrets.map(|name| (format!("CLAWHOOK_SECRET_{name}"), "x"));
    let config = format!("{EXAMPLE}/clawhook.yaml");
    let checked = crate::process::clawhook(root, &["check", "--config", &config], env);
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{said}");
    assert_eq!(said.trim(), "1 workflow, 0 routes, 1 schedule, 3 tests, 0 problems");
}
