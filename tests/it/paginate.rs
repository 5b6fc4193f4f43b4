//! Calls that read page after page.

use std::num::NonZeroU32;
use std::time::Duration;

use clawhook::domain::run::Run;
use clawhook::domain::state::State;
use clawhook::outbound::budget;
use serde_json::{Value, json};

use crate::kit::{Kit, check_state, output};
use crate::standin::Fault;

fn reading(paginate: &str, words: &str) -> String {
    format!(
        "version: 1\nname: reading\ntasks:\n  - id: read\n    type: http_request\n    connection: erp\n    \
         with: {{ path: /stock, query: {{ size: 2 }}, paginate: {{ items: '${{{{ response.body.rows }}}}', {paginate} }} }}\n    \
         retry_delay: 1s\n{words}"
    )
}

/// The far end answers the next request so.
fn answers(kit: &Kit, body: Value, headers: &[(&str, &str)]) {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    kit.erp.fail(Fault {
        path: "/stock".into(),
        status: Some(200),
        times: 1,
        body: Some(body),
        headers,
        ..Fault::default()
    });
}

fn breaks(kit: &Kit) {
    kit.erp.fail(Fault { path: "/stock".into(), status: Some(503), times: 1, ..Fault::default() });
}

fn queries(kit: &Kit) -> Vec<String> {
    kit.erp.requests_to("/stock").into_iter().map(|request| request.query).collect()
}

async fn read(kit: &Kit) -> Run {
    let id = kit.trigger("reading", json!({})).await;
    kit.settle().await;
    kit.until_ended(id).await
}

#[track_caller]
fn check(run: &Run, items: &Value, pages: u32) {
    check_state(run, State::Succeeded);
    assert_eq!(output(run, "read"), &json!({ "items": items, "pages": pages, "status": 200 }));
}

#[tokio::test]
async fn pages_by_number_and_by_offset_end_with_an_empty_one() {
    for (paginate, expected) in [
        ("style: page, first: 0, into: p", ["size=2&p=0", "size=2&p=1", "size=2&p=2"]),
        ("style: offset", ["size=2&offset=0", "size=2&offset=2", "size=2&offset=3"]),
    ] {
        let kit = Kit::new(&[&reading(paginate, "")], "");
        for rows in [json!([1, 2]), json!([3]), json!([])] {
            answers(&kit, json!({ "rows": rows }), &[]);
        }
        check(&read(&kit).await, &json!([1, 2, 3]), 3);
        assert_eq!(queries(&kit), expected);
    }
}

#[tokio::test]
async fn until_spares_the_empty_page() {
    let kit = Kit::new(&[&reading("style: page, until: '${{ response.body.last }}'", "")], "");
    answers(&kit, json!({ "rows": [1], "last": false }), &[]);
    answers(&kit, json!({ "rows": [2], "last": true }), &[]);
    check(&read(&kit).await, &json!([1, 2]), 2);
}

#[tokio::test]
async fn a_cursor_is_a_parameter_or_a_whole_query() {
    let kit = Kit::new(&[&reading("style: cursor, next: '${{ response.body.meta.next }}'", "")], "");
    answers(&kit, json!({ "rows": [1], "meta": { "next": "a&b=" } }), &[]);
    answers(&kit, json!({ "rows": [2], "meta": { "next": "?limit=1&soIndex=77" } }), &[]);
    answers(&kit, json!({ "rows": [3], "meta": {} }), &[]);
    check(&read(&kit).await, &json!([1, 2, 3]), 3);
    assert_eq!(queries(&kit), ["size=2", "size=2&cursor=a%26b%3D", "limit=1&soIndex=77"]);
}

#[tokio::test]
async fn a_cursor_that_stands_still_is_told() {
    let kit = Kit::new(&[&reading("style: cursor, next: '${{ response.body.next }}'", "")], "");
    for _ in 0..2 {
        answers(&kit, json!({ "rows": [1], "next": "same" }), &[]);
    }
    let run = read(&kit).await;
    assert_eq!(run.failure.unwrap().code, "http.pages");
    assert_eq!(queries(&kit).len(), 2);
}

#[tokio::test]
async fn links_are_followed_and_do_not_leave_the_connection() {
    let kit = Kit::new(&[&reading("style: link", "")], "");
    let next = format!(
        "<{0}/stock?page_info=a>; rel=\"previous\", <{0}/stock?page_info=b&limit=2>; rel=\"next\"",
        kit.erp.url()
    );
    answers(&kit, json!({ "rows": [1] }), &[("Link", &next)]);
    answers(&kit, json!({ "rows": [2] }), &[("Link", "</stock?page_info=c>; rel=next")]);
    answers(&kit, json!({ "rows": [3] }), &[]);
    check(&read(&kit).await, &json!([1, 2, 3]), 3);
    assert_eq!(queries(&kit), ["size=2", "page_info=b&limit=2", "page_info=c"]);

    answers(&kit, json!({ "rows": [1] }), &[("Link", "<https://evil.example/stock?page=2>; rel=next")]);
    let failure = read(&kit).await.failure.unwrap();
    assert_eq!(failure.code, "http.pages");
    assert!(failure.message.contains("leads to another place"), "{}", failure.message);
}

#[tokio::test]
async fn retries_count_for_each_page_and_no_page_is_read_twice() {
    let kit = Kit::new(&[&reading("style: page", "    retry: 1\n")], "");
    for rows in [json!([1]), json!([2]), json!([])] {
        breaks(&kit);
        answers(&kit, json!({ "rows": rows }), &[]);
    }
    check(&read(&kit).await, &json!([1, 2]), 3);
    let expected = ["1", "1", "2", "2", "3", "3"].map(|page| format!("size=2&page={page}"));
    assert_eq!(queries(&kit), expected);
}

#[tokio::test]
async fn a_new_process_begins_at_the_first_page() {
    let workflow = reading("style: page", "    retry: 1\n");
    let kit = Kit::new(&[&workflow], "");
    answers(&kit, json!({ "rows": ["old"] }), &[]);
    breaks(&kit);
    let id = kit.trigger("reading", json!({})).await;
    kit.settle().await;
    assert_eq!(queries(&kit).len(), 2);
    let kit = kit.restarted(&[&workflow], "");
    for rows in [json!([1]), json!([2]), json!([])] {
        answers(&kit, json!({ "rows": rows }), &[]);
    }
    check(&kit.until_ended(id).await, &json!([1, 2]), 3);
    assert_eq!(queries(&kit)[0], "size=2&page=1", "nothing is mixed with what another process read");
}

#[tokio::test]
async fn more_pages_than_allowed_fail_instead_of_giving_a_part() {
    let kit = Kit::new(&[&reading("style: page, max_pages: 2", "")], "");
    for rows in [json!([1]), json!([2])] {
        answers(&kit, json!({ "rows": rows }), &[]);
    }
    let failure = read(&kit).await.failure.unwrap();
    assert_eq!((failure.code.as_str(), failure.message.as_str()), ("http.pages", "there are more than 2 pages"));
}

#[tokio::test]
async fn quotas_hold_between_pages() {
    let limit = budget::Limit { rate: "1/m".parse().unwrap(), burst: NonZeroU32::MIN };
    let kit = Kit::with_connection(&[&reading("style: page", "")], move |connection| {
        connection.rate_limit.rest = Some(limit);
    });
    for rows in [json!([1]), json!([])] {
        answers(&kit, json!({ "rows": rows }), &[]);
    }
    let id = kit.trigger("reading", json!({})).await;
    kit.settle().await;
    kit.pass(Duration::from_secs(50)).await;
    assert_eq!(queries(&kit).len(), 1);
    kit.pass(Duration::from_secs(11)).await;
    check(&kit.read(id).await, &json!([1]), 2);
}
