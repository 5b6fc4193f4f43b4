//! Bulk queries of Shopify and on-request reports of Walmart.

use std::time::Duration;

use clawhook::domain::state::State;
use clawhook::outbound::connection::Connection;
use serde_json::json;

use super::far::Far;
use super::shop::{GRAPHQL, Shop};
use super::walmart::{REQUESTS, Walmart};
use super::{Trial, connection, drips, lost, one};
use crate::kit::{START, check_state, output};

const QUERY: &str = "{ orders { edges { node { id lineItems { edges { node { id } } } } } } }";
const LINES: &str = "{\"id\":\"gid://shopify/Order/1\"}\n{\"id\":\"gid://shopify/LineItem/9\",\"__parentId\":\"gid://shopify/Order/1\"}\n";

fn shop(ending: Result<&'static str, (&'static str, bool)>, more: &str, words: &str) -> Trial<Shop> {
    let far_end = |far: &Far<Shop>| -> Vec<Connection> {
        let proof = json!({ "type": "header", "header": "X-Shopify-Access-Token", "secret_ref": "shop-token" });
        vec![connection("shop", &far.url(), proof)]
    };
    let with = format!("query: \"{QUERY}\", api_version: 2026-10{more}");
    Trial::on(Shop::new(ending), far_end, &one("shop", "shopify_bulk", &with, words))
}

#[tokio::test]
async fn a_bulk_query_gives_its_lines_and_none_is_no_data() {
    let trial = shop(Ok(LINES), "", "");
    trial.far.lock().platform.throttled = 2;
    let run = trial.pull().await;
    assert_eq!(trial.text(&run).await, LINES);
    assert_eq!(output(&run, "report")["file"]["media_type"], "application/jsonl");
    trial.far.check();
    let trial = shop(Ok(""), "", "");
    let run = trial.pull().await;
    let given = output(&run, "report");
    assert_eq!((&given["no_data"], &given["file"]["bytes"]), (&json!(true), &json!(0)));
    assert_eq!(given["report"], "gid://shopify/BulkOperation/0");
    trial.far.check();
}

#[tokio::test]
async fn a_bulk_query_that_failed_says_by_what_and_gives_its_part_when_asked() {
    let failure = shop(Err(("TIMEOUT", true)), "", "").pull().await.failure.unwrap();
    assert!(failure.message.contains("FAILED, TIMEOUT"), "{failure:?}");
    assert!(failure.help.unwrap().contains("partial: true"));
    let trial = shop(Err(("TIMEOUT", true)), ", partial: true", "");
    let run = trial.pull().await;
    assert_eq!(output(&run, "report")["partial"], true);
    assert!(trial.text(&run).await.contains("Order/1"));
    trial.far.check();
}

#[tokio::test]
async fn a_bulk_query_of_others_is_waited_for_and_never_taken() {
    let trial = shop(Ok(LINES), "", "");
    trial.far.lock().platform.foreign(QUERY, 4, START);
    let run = trial.pull().await;
    assert_eq!(trial.text(&run).await, LINES);
    assert_eq!(output(&run, "report")["report"], "gid://shopify/BulkOperation/1");
    trial.far.check();

    let trial = shop(Ok(LINES), ", when_busy: fail", "");
    trial.far.lock().platform.foreign(QUERY, 4, START);
    assert_eq!(trial.pull().await.failure.unwrap().code, "report.busy");

    let trial = shop(Ok(LINES), "", "");
    trial.far.lock().platform.refusal = Some("Invalid bulk query: it has no connection");
    let failure = trial.pull().await.failure.unwrap();
    assert_eq!(failure.code, "report.refused");
    assert!(failure.message.contains("it has no connection"), "{failure:?}");
}

#[tokio::test]
async fn a_bulk_query_whose_start_was_not_heard_of_is_found_again() {
    let trial = shop(Ok(LINES), "", "retry: 2,");
    trial.far.standin.fail(lost(GRAPHQL));
    let run = trial.pull().await;
    assert_eq!(trial.text(&run).await, LINES);
    assert_eq!(trial.far.lock().platform.operations.len(), 1);
    trial.far.check();

    let mut trial = shop(Ok(LINES), "", "");
    let id = trial.kit.trigger("pull", json!({})).await;
    trial.far.standin.fail(drips(GRAPHQL));
    trial.dies_when(|shop| !shop.operations.is_empty()).await;
    trial.kit.settle().await;
    check_state(&trial.kit.until_ended(id).await, State::Succeeded);
    assert_eq!(trial.far.lock().platform.operations.len(), 1);
    trial.far.check();
}

const ITEMS: &str = "SKU,Product Name\r\nA-1,\"lamp, \"\"oak\"\" 橡木\"\r\n";

fn walmart(more: &str, words: &str) -> Trial<Walmart> {
    let far_end = |far: &Far<Walmart>| -> Vec<Connection> {
        let proof = json!({ "type": "walmart", "client_id": "wm-app", "client_secret": { "secret_ref": "wm-secret" },
            "token_url": format!("{}/v3/token", far.url()) });
        vec![connection("walmart", &far.url(), proof)]
    };
    let with = format!("report_type: ITEM, report_version: v4{more}");
    Trial::on(Walmart::new(ITEMS), far_end, &one("walmart", "walmart_report", &with, words))
}

#[tokio::test]
async fn a_walmart_report_comes_out_of_its_zip() {
    let trial = walmart("", "");
    trial.far.lock().platform.late_links = 1;
    trial.far.lock().desk.files.stale = 1;
    let run = trial.pull().await;
    assert_eq!(trial.text(&run).await, ITEMS);
    let file = &output(&run, "report")["file"];
    assert_eq!((&file["name"], &file["media_type"]), (&json!("ItemReport.csv"), &json!("text/csv")));
    assert_eq!(trial.far.count("POST", REQUESTS), 1);
    trial.far.check();

    let trial = walmart("", "");
    trial.far.lock().platform.fails = true;
    assert_eq!(trial.pull().await.failure.unwrap().code, "report.failed");
    trial.far.check();
}

#[tokio::test]
async fn one_request_an_hour_is_waited_for_taken_over_or_told() {
    let half_an_hour_ago = START.minus(Duration::from_mins(30));
    for (more, report, code) in
        [("", "rq-1", ""), (", when_busy: take_over", "rq-0", ""), (", when_busy: fail", "", "report.busy")]
    {
        let trial = walmart(more, "");
        trial.far.lock().platform.foreign("ITEM", half_an_hour_ago);
        let run = trial.pull().await;
        match &run.failure {
            Some(failure) => assert_eq!(failure.code, code, "{failure:?}"),
            None => assert_eq!(output(&run, "report")["report"], report),
        }
        assert_eq!(run.failure.is_some(), !code.is_empty());
        trial.far.check();
    }
}

#[tokio::test]
async fn a_request_whose_answer_was_not_heard_is_found_again() {
    let trial = walmart("", "retry: 2,");
    trial.far.standin.fail(lost(REQUESTS));
    let run = trial.pull().await;
    assert_eq!(output(&run, "report")["report"], "rq-0");
    assert_eq!(trial.far.lock().platform.requests.len(), 1);
    trial.far.check();
}
