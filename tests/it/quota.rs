//! Runs that share the budget of a connection, and a far end that is left alone.

use std::num::NonZeroU32;
use std::time::Duration;

use clawhook::domain::state::State;
use clawhook::outbound::connection::Connection;
use clawhook::outbound::{breaker, budget};
use serde_json::json;

use crate::kit::{Kit, check_state, standing};
use crate::standin::Fault;

/// Kinds that call a connection: whether they hold the answer or stream it makes no difference to the far end.
const KINDS: [&str; 2] = ["http_request", "http_download"];

fn calling(kind: &str, words: &str) -> String {
    format!(
        "version: 1\nname: calling\ntasks:\n  - id: call\n    type: {kind}\n    connection: erp\n    with: {{ path: /stock }}\n{words}"
    )
}

fn limited(rate: &str, burst: u32) -> impl FnOnce(&mut Connection) {
    let limit = budget::Limit { rate: rate.parse().unwrap(), burst: NonZeroU32::new(burst).unwrap() };
    move |connection| connection.rate_limit = budget::Settings { rest: Some(limit), operations: Vec::new() }
}

fn fault(status: u16, times: u32, headers: &[(&str, &str)]) -> Fault {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Fault { path: "/stock".to_owned(), status: Some(status), times, headers, ..Fault::default() }
}

#[tokio::test]
async fn runs_over_the_budget_wait_without_a_worker_and_all_get_through() {
    for kind in KINDS {
        let kit = Kit::with_connection(&[&calling(kind, "")], limited("1/m", 2));
        let mut runs = Vec::new();
        for _ in 0..5 {
            runs.push(kit.trigger("calling", json!({})).await);
        }
        kit.settle().await;
        assert_eq!(kit.erp.requests_to("/stock").len(), 2, "the burst");
        let waiting = runs[4];
        assert_eq!(standing(&kit.read(waiting).await, "call"), "paused");
        let why = kit.engine.why_waiting(waiting).await.unwrap().unwrap();
        assert!(why.contains("it waits for quota of `erp`"), "{why}");
        for sent in 3..=5 {
            kit.pass(Duration::from_secs(61)).await;
            assert_eq!(kit.erp.requests_to("/stock").len(), sent, "one a minute");
        }
        for run in runs {
            let run = kit.read(run).await;
            check_state(&run, State::Succeeded);
            assert!(!run.retried, "waiting is no failure");
        }
    }
}

#[tokio::test]
async fn a_short_wait_is_waited_in_place() {
    for kind in KINDS {
        let kit = Kit::with_connection(&[&calling(kind, "")], limited("4/s", 1));
        for _ in 0..2 {
            kit.trigger("calling", json!({})).await;
        }
        kit.settle().await;
        assert_eq!(kit.erp.requests_to("/stock").len(), 2);
    }
}

#[tokio::test]
async fn a_refusal_pauses_everybody_and_is_no_failure() {
    for kind in KINDS {
        let kit = Kit::with_connection(&[&calling(kind, "")], limited("10/s", 100));
        kit.erp.fail(fault(429, 1, &[("Retry-After", "120")]));
        let first = kit.run("calling", json!({})).await;
        assert_eq!(standing(&first, "call"), "paused");
        let second = kit.run("calling", json!({})).await;
        assert_eq!(standing(&second, "call"), "paused");
        kit.pass(Duration::from_secs(119)).await;
        assert_eq!(kit.erp.requests_to("/stock").len(), 1, "nobody before the pause is over");
        kit.pass(Duration::from_secs(2)).await;
        for run in [first, second] {
            check_state(&kit.read(run.id).await, State::Succeeded);
        }
    }
}

#[tokio::test]
async fn a_broken_far_end_is_left_alone_until_one_call_finds_it_well() {
    for kind in KINDS {
        let open_for = Duration::from_secs(30);
        let breaker = breaker::Settings { failures: NonZeroU32::new(3).unwrap(), open_for };
        let kit = Kit::with_connection(&[&calling(kind, "    retry: 3\n    retry_delay: 1s\n")], move |connection| {
            connection.circuit_breaker = Some(breaker);
        });
        kit.erp.fail(fault(503, 3, &[]));
        let mut runs = Vec::new();
        for _ in 0..3 {
            runs.push(kit.run("calling", json!({})).await.id);
        }
        runs.push(kit.run("calling", json!({})).await.id);
        assert_eq!(kit.erp.requests_to("/stock").len(), 3, "the fourth run does not call");
        let why = kit.engine.why_waiting(runs[3]).await.unwrap().unwrap();
        assert!(why.contains("`erp` failed several times in a row"), "{why}");
        kit.pass(Duration::from_secs(10)).await;
        assert_eq!(kit.erp.requests_to("/stock").len(), 3);
        for run in runs {
            check_state(&kit.until_ended(run).await, State::Succeeded);
        }
        assert_eq!(kit.erp.requests_to("/stock").len(), 7, "four calls succeed, and nothing is lost");
    }
}
