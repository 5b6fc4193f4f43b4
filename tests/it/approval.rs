//! Questions to people: quorum, rejection, expiry, forms, and what is refused. Through the engine with a clock of the
//! test; through the doors with the real REST and command line.

use std::time::Duration;

use clawhook::domain::approval::{Decision, Verdict};
use clawhook::domain::state::State;
use serde_json::{Map, json};

use crate::kit::{Kit, check_state, output, standing, step};

const ASK: &str = r#"
version: 1
name: refund
inputs: { total: { type: number, required: true } }
tasks:
  - id: ask
    if: ${{ inputs.total > 100 }}
    type: approval
    with:
      title: "Refund ${{ inputs.total }}?"
      form: { reason: { type: string, required: true } }
      quorum: 2
      expires: 2h
  - { id: pay, type: http_request, connection: erp, with: { method: POST, path: /echo, json: { total: "${{ inputs.total }}" }, idempotency_key: { header: Idempotency-Key } } }
"#;

fn said(kit: &Kit, by: &str, verdict: Verdict) -> Decision {
    let form = Map::from_iter([("reason".to_owned(), json!("damaged"))]);
    Decision {
        by: by.to_owned(),
        at: clawhook::clock::Clock::now(&kit.clock),
        verdict,
        comment: Some("seen".to_owned()),
        form,
    }
}

#[tokio::test]
async fn enough_people_let_it_go_on() {
    let kit = Kit::new(&[ASK], "");
    let id = kit.trigger("refund", serde_json::from_str(r#"{"total": 120.50}"#).unwrap()).await;
    kit.settle().await;
    let run = kit.read(id).await;
    check_state(&run, State::Waiting);
    assert_eq!((run.head().approvals, kit.engine.active()), (1, 0));
    let why = kit.engine.why_waiting(id).await.unwrap().unwrap();
    assert!(why.contains("people decide: Refund 120.50?"), "{why}");
    // One of two, twice: the same person counts once.
    for _ in 0..2 {
        kit.engine.decide(id, &step("ask"), said(&kit, "li", Verdict::Approve)).await.unwrap();
        kit.settle().await;
        check_state(&kit.read(id).await, State::Waiting);
    }
    assert_eq!(kit.erp.requests_to("/echo").len(), 0);
    kit.engine.decide(id, &step("ask"), said(&kit, "wang", Verdict::Approve)).await.unwrap();
    kit.settle().await;
    let run = kit.read(id).await;
    check_state(&run, State::Succeeded);
    let given = output(&run, "ask");
    assert_eq!((given["decision"].clone(), given["approved"].clone()), (json!("approved"), json!(true)));
    assert_eq!(
        (given["form"]["reason"].clone(), given["decisions"][2]["by"].clone()),
        (json!("damaged"), json!("wang"))
    );
    let late = kit.engine.decide(id, &step("ask"), said(&kit, "zhao", Verdict::Reject)).await;
    assert!(late.unwrap_err().to_string().contains("does not wait for people"));
    assert_eq!(kit.erp.requests_to("/echo").len(), 1);
}

#[tokio::test]
async fn one_no_is_a_no_and_nothing_behind_it_runs() {
    let kit = Kit::new(&[ASK], "");
    let id = kit.trigger("refund", json!({"total": 500})).await;
    kit.settle().await;
    kit.engine.decide(id, &step("ask"), said(&kit, "li", Verdict::Reject)).await.unwrap();
    kit.settle().await;
    let run = kit.read(id).await;
    check_state(&run, State::Failed);
    let failure = run.failure.as_ref().unwrap();
    assert_eq!((failure.code.as_str(), failure.message.as_str()), ("approval.rejected", "`li` said no: seen"));
    assert_eq!(standing(&run, "pay"), "untouched");
    // A resume asks anew: what was said before does not count.
    kit.engine.resume(id, "test").await.unwrap();
    kit.settle().await;
    check_state(&kit.read(id).await, State::Waiting);
    for by in ["li", "wang"] {
        kit.engine.decide(id, &step("ask"), said(&kit, by, Verdict::Approve)).await.unwrap();
    }
    kit.settle().await;
    check_state(&kit.read(id).await, State::Succeeded);
}

#[tokio::test]
async fn nobody_decides() {
    for (on_expire, state, decision) in [
        ("fail", State::Failed, None),
        ("reject", State::Failed, None),
        ("approve", State::Succeeded, Some(json!(true))),
        ("reject, on_reject: continue", State::Succeeded, Some(json!(false))),
    ] {
        let text = ASK
            .replace("expires: 2h", &format!("expires: 2h\n      on_expire: {}", on_expire.replace(", ", "\n      ")));
        let kit = Kit::new(&[&text], "");
        let id = kit.trigger("refund", json!({"total": 500})).await;
        kit.settle().await;
        kit.pass(Duration::from_mins(119)).await;
        check_state(&kit.read(id).await, State::Waiting);
        kit.pass(Duration::from_mins(1)).await;
        let run = kit.read(id).await;
        check_state(&run, state);
        assert_eq!(
            decision,
            (state == State::Succeeded).then(|| output(&run, "ask")["approved"].clone()),
            "{on_expire}"
        );
    }
}

#[tokio::test]
async fn a_yes_that_comes_too_late_does_not_count() {
    let kit = Kit::new(&[ASK], "");
    let id = kit.trigger("refund", json!({"total": 500})).await;
    kit.settle().await;
    kit.clock.advance(Duration::from_hours(2));
    let late = kit.engine.decide(id, &step("ask"), said(&kit, "li", Verdict::Approve)).await;
    assert!(late.unwrap_err().to_string().contains("has expired"));
    kit.settle().await;
    assert_eq!(kit.read(id).await.failure.unwrap().code, "approval.expired");
}

#[tokio::test]
async fn a_question_stays_open_over_a_restart() {
    let kit = Kit::new(&[ASK], "");
    let id = kit.trigger("refund", json!({"total": 500})).await;
    kit.settle().await;
    kit.engine.decide(id, &step("ask"), said(&kit, "li", Verdict::Approve)).await.unwrap();
    let next = kit.restarted(&[ASK], "");
    next.engine.take_over().await.unwrap();
    next.settle().await;
    check_state(&next.read(id).await, State::Waiting);
    next.engine.decide(id, &step("ask"), said(&kit, "wang", Verdict::Approve)).await.unwrap();
    next.settle().await;
    check_state(&next.read(id).await, State::Succeeded);
}

#[tokio::test]
async fn others_are_asked_while_a_branch_goes_on() {
    let text = ASK.replace("  - { id: pay,", "  - { id: slow, needs: [], type: http_request, connection: erp, with: { path: /slow, query: { ms: 300 } } }\n  - { id: pay, needs: [ask, slow],");
    let kit = Kit::new(&[&text], "");
    let id = kit.trigger("refund", json!({"total": 500})).await;
    let decide = async {
        while kit.read(id).await.tasks.get(&step("ask")).is_none_or(|record| record.question().is_none()) {
            tokio::task::yield_now().await;
        }
        for by in ["li", "wang"] {
            kit.engine.decide(id, &step("ask"), said(&kit, by, Verdict::Approve)).await.unwrap();
        }
    };
    tokio::join!(kit.settle(), decide);
    kit.settle().await;
    let run = kit.read(id).await;
    check_state(&run, State::Succeeded);
    let claims = kit.events(id).await.iter().filter(|event| **event == "claimed").count();
    assert_eq!(claims, 1, "the worker took the decisions in and went on");
}
