//! Sources: what is fetched from a queue enters as a webhook does, is deleted only when it is on disk, and runs once
//! whatever the queue, the store or the gateway do meanwhile.

mod queue;
mod real;

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use self::queue::{Fault, KEY_ID, Queue, SECRET};
use crate::app::{App, Control, Folder, OPEN, PUSH};
use crate::process::{Process, clawhook};
use crate::standin::{self, Standin};

/// More than any message is hidden for here.
const HIDDEN: Duration = Duration::from_hours(2);

/// A source on this queue with one route; `more` lines stand in the route, indented by eight, `queue` ones in `sqs`.
fn source(url: &str, queue: &str, more: &str) -> String {
    format!(
        r#"
version: 1
sources:
  - name: amazon
    sqs:
      queue_url: "{url}"
      region: us-east-1
      access_key_id: {KEY_ID}
      secret_access_key: {{ secret_ref: aws-key }}
      visibility_timeout: 30s
{queue}    routes:
      - name: amazon-orders
        workflow: push
        inputs: {{ order: {{ id: "${{{{ delivery.id }}}}", change: "${{{{ body }}}}" }} }}
{more}"#
    )
}

fn folder(erp: &Standin, routes: &str) -> Folder {
    let folder = Folder::new(OPEN, Some(erp));
    folder.secret("aws-key", SECRET);
    folder.write("workflows/push.yaml", PUSH);
    folder.write("routes/amazon.yaml", routes);
    folder
}

/// A notification as the Selling Partner API sends it.
fn notification(id: &str, kind: &str) -> String {
    let buyer = if kind == "ORDER_CHANGE" { "hush-buyer-name" } else { "nobody" };
    json!({
        "NotificationVersion": "1.0",
        "NotificationType": kind,
        "Payload": { "OrderChangeNotification": { "AmazonOrderId": "903-1", "Buyer": buyer } },
        "NotificationMetadata": { "ApplicationId": "amzn1.sellerapps.app.x", "NotificationId": id },
    })
    .to_string()
}

async fn emptied(queue: &Queue) {
    queue.until("the queue is not empty", |queue| queue.inside().is_empty()).await;
}

/// The runs there are, when all of them have ended.
async fn runs(control: &Control) -> Vec<Value> {
    let open = "/v1/runs?status=queued,running,waiting,cancelling&limit=1";
    control.until(open, |page| page["items"] == json!([])).await;
    control.get("/v1/runs?limit=200").await["items"].as_array().unwrap().clone()
}

async fn stand(control: &Control, state: &str) -> Value {
    let shown = control.until("/v1/sources", |shown| shown["items"][0]["state"] == state).await;
    shown["items"][0].clone()
}

async fn noted(app: &App, what: &str) -> bool {
    let store = app.running.gateway.engine().store();
    let query = clawhook::store::JournalQuery {
        kind: clawhook::domain::journal::JournalKind::Gateway,
        subject: Some("amazon".to_owned()),
        cause: None,
        what: Some(what.to_owned()),
        before: None,
        limit: 10,
    };
    !store.journal(&query).await.unwrap().is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_enter_as_deliveries_do() {
    let (erp, queue) = (Standin::start(&standin::Settings::default()).unwrap(), Queue::start());
    let more = r#"        redact: [ "$.Payload.OrderChangeNotification.Buyer" ]
        filter: ${{ body.NotificationType == "ORDER_CHANGE" }}
      - name: amazon-prices
        workflow: push
        filter: ${{ body.NotificationType in ["ANY_OFFER_CHANGED", "ORDER_CHANGE"] and delivery.verified_by == "sqs" }}
        inputs: { order: { id: "${{ delivery.id }}", name: "${{ headers['x-sqs-message-id'] }}" } }
        paused: true
"#;
    let folder = folder(&erp, &source(&queue.url(), "", more));
    // The same one twice, as an at-least-once sender gives it; one that two routes want; and one that nobody wants.
    queue.send(&notification("n-1", "ORDER_CHANGE"));
    queue.send(&notification("n-1", "ORDER_CHANGE"));
    queue.send(&notification("n-2", "ANY_OFFER_CHANGED"));
    queue.send(&notification("n-3", "FEED_PROCESSING_FINISHED"));
    let app = folder.start().await;
    emptied(&queue).await;

    let held = app.control.until("/v1/runs?status=waiting", |page| page["items"].as_array().unwrap().len() == 2).await;
    assert!(held["items"].as_array().unwrap().iter().all(|run| run["source"] == "amazon-prices"), "{held}");
    let resumed = app.control.post("/v1/routes/amazon-prices/resume", &json!({})).await;
    assert_eq!(resumed.status, 409, "its file pauses it: {}", resumed.text);
    let done =
        app.control.until("/v1/runs?status=succeeded", |page| page["items"].as_array().unwrap().len() == 1).await;
    let run = app.control.get(&format!("/v1/runs/{}", done["items"][0]["id"].as_str().unwrap())).await;
    assert_eq!(run["source"], "amazon-orders");
    assert_eq!(erp.orders().len(), 1);
    let stored = folder.stored_bytes();
    let there = |text: &str| stored.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(there("n-1"));
    for hidden in ["hush-buyer-name", SECRET] {
        // The held runs of the other route share the delivery, so what one route redacts is in none of them.
        assert!(!there(hidden), "{hidden} is on disk");
    }

    let shown = stand(&app.control, "fetching").await;
    assert_eq!((&shown["kind"], &shown["held"]), (&json!("sqs"), &json!(0)));
    assert_eq!(shown["routes"], json!(["amazon-orders", "amazon-prices"]));
    assert!(
        shown["answered_at"].is_string() && shown["fetched_at"].is_string() && shown["trouble"].is_null(),
        "{shown}"
    );
    let routes = app.control.get("/v1/routes").await;
    assert_eq!((&routes["items"][0]["path"], &routes["items"][0]["verify"]), (&json!("source:amazon"), &json!("sqs")));
    // Nobody can bring a delivery of a source to the hooks door.
    for path in ["/source:amazon", "/sources/amazon", "/"] {
        assert_eq!(app.post(path, &[], &notification("n-9", "ORDER_CHANGE")).await.status, 404);
    }
    let metrics = app.control.ask("/metrics").await.text;
    for line in [
        r#"clawhook_deliveries_total{route="amazon-orders",outcome="duplicate"} 1"#,
        r#"clawhook_deliveries_total{route="amazon-orders",outcome="filtered"} 1"#,
        r#"clawhook_source_up{source="amazon"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert_eq!(queue.wrongs(), Vec::<String>::new());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_kept_and_stays_in_the_queue() {
    let (erp, queue) = (Standin::start(&standin::Settings::default()).unwrap(), Queue::start());
    let folder = folder(&erp, &source(&queue.url(), "", ""));
    queue.send("{ this is not JSON");
    queue.send(&notification("n-1", "ORDER_CHANGE"));
    let app = folder.start().await;
    queue.until("the good one is not gone", |queue| queue.inside().len() == 1).await;
    queue.until("it was not put off", |queue| !queue.calls("ChangeMessageVisibilityBatch").is_empty()).await;
    let refusals = app.control.until("/v1/refusals", |page| page["items"].as_array().unwrap().len() == 1).await;
    let kept = &refusals["items"][0];
    assert_eq!((&kept["code"], &kept["subject"]), (&json!("source.unreadable"), &json!("amazon-orders")));
    assert_eq!(kept["body"]["text"], "{ this is not JSON");
    assert!(kept["detail"]["why"].as_str().unwrap().contains("not JSON"), "{kept}");
    let put_off = |place: usize| {
        queue.calls("ChangeMessageVisibilityBatch")[place].asked["Entries"][0]["VisibilityTimeout"].clone()
    };
    assert_eq!(put_off(0), 60);
    // It comes again, later each time, until a redrive policy takes it.
    queue.pass(HIDDEN);
    queue.until("it did not come again", |queue| queue.calls("ChangeMessageVisibilityBatch").len() == 2).await;
    assert_eq!(put_off(1), 120);
    assert_eq!(queue.inside(), [("{ this is not JSON".to_owned(), 2)]);
    assert_eq!(runs(&app.control).await.len(), 1);
    assert_eq!(queue.wrongs(), Vec::<String>::new());
    app.stop().await;
}

/// The store is away: nothing is deleted, and what is held is hidden again, so that it does not count as received often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_deleted_while_the_store_is_away() {
    let (erp, queue) = (Standin::start(&standin::Settings::default()).unwrap(), Queue::start());
    let folder = folder(&erp, &source(&queue.url(), "", ""));
    let app = folder.start().await;
    stand(&app.control, "starting").await;
    let other = Connection::open(folder.path("data/clawhook.db")).unwrap();
    other.busy_timeout(Duration::from_mins(1)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    queue.send(&notification("n-1", "ORDER_CHANGE"));
    queue.until("it is not hidden again", |queue| !queue.calls("ChangeMessageVisibilityBatch").is_empty()).await;
    let again = queue.calls("ChangeMessageVisibilityBatch")[0].asked["Entries"][0]["VisibilityTimeout"].clone();
    assert_eq!(again, 30);
    assert_eq!(queue.calls("DeleteMessageBatch").len(), 0);
    assert_eq!(queue.calls("ReceiveMessage").len(), 1, "nothing is received that cannot be kept");
    assert_eq!(app.control.get("/v1/sources").await["items"][0]["held"], 1);
    assert_eq!(app.control.ask("/readyz").await.status, 503);

    other.execute_batch("COMMIT").unwrap();
    emptied(&queue).await;
    assert_eq!(runs(&app.control).await.len(), 1);
    assert_eq!(queue.wrongs(), Vec::<String>::new());
    app.stop().await;
}

/// `kill -9` between the accept and the delete, and between the reception and the accept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_loses_nothing_and_runs_nothing_twice() {
    let (erp, queue) = (Standin::start(&standin::Settings::default()).unwrap(), Queue::start());
    let folder = folder(&erp, &source(&queue.url(), "", ""));
    for round in 0..3 {
        for number in 0..12 {
            queue.send(&notification(&format!("n-{round}-{number}"), "ORDER_CHANGE"));
        }
        // All is accepted that one answer brought, and nothing of it is deleted.
        queue.hold("DeleteMessageBatch");
        let before = queue.calls("DeleteMessageBatch").len();
        let process = Process::start(&folder, "error").await;
        queue.until("nothing is deleted", |queue| queue.calls("DeleteMessageBatch").len() > before).await;
        process.kill();
        queue.release();
        assert_eq!(queue.inside().len(), 12 * (round + 1), "something was lost");
        queue.pass(HIDDEN);
    }
    let process = Process::start(&folder, "error").await;
    emptied(&queue).await;
    let runs = runs(&process.control).await;
    assert_eq!(runs.len(), 36);
    assert!(runs.iter().all(|run| run["status"] == "succeeded"), "{runs:?}");
    let mut orders: BTreeMap<String, usize> = BTreeMap::new();
    for request in erp.requests_to("/orders") {
        let id = request.json().unwrap()["id"].to_string();
        *orders.entry(id).or_default() += 1;
    }
    assert_eq!(orders.len(), 36);
    assert_eq!(erp.orders().len(), 36);
    assert_eq!(queue.wrongs(), Vec::<String>::new());
    process.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_fails_is_asked_again() {
    let (erp, queue) = (Standin::start(&standin::Settings::default()).unwrap(), Queue::start());
    let folder = folder(&erp, &source(&queue.url(), "", ""));
    queue.fail("ReceiveMessage", Fault::Throttled, 1);
    queue.fail("ReceiveMessage", Fault::ExpiredToken, 1);
    // Deleted, and not told: it is not there to be deleted again, and that is no trouble.
    queue.fail("DeleteMessageBatch", Fault::AnswerLost, 1);
    queue.send(&notification("n-1", "ORDER_CHANGE"));
    let app = folder.start().await;
    let failing = stand(&app.control, "failing").await;
    assert_eq!(failing["trouble"]["code"], "source.keys", "{failing}");
    assert!(failing["trouble"]["message"].as_str().unwrap().contains("ExpiredToken"), "{failing}");
    // A source that fails does not make the gateway unfit for webhooks.
    app.control.get("/readyz").await;
    emptied(&queue).await;
    stand(&app.control, "fetching").await;
    assert_eq!(runs(&app.control).await.len(), 1);
    assert!(noted(&app, "source.failing").await && noted(&app, "source.recovered").await);

    // A key that was exchanged is taken up without a restart.
    queue.exchange("another/secret");
    folder.secret("aws-key", "another/secret");
    queue.send(&notification("n-2", "ORDER_CHANGE"));
    app.control.post("/v1/reload", &json!({})).await.expect(200);
    emptied(&queue).await;
    assert_eq!(runs(&app.control).await.len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_begins_and_ends_sources() {
    let (erp, queue) = (Standin::start(&standin::Settings::default()).unwrap(), Queue::start());
    let folder = folder(&erp, &source(&queue.url(), "", "").replace("    routes:", "    enabled: false\n    routes:"));
    queue.send(&notification("n-1", "ORDER_CHANGE"));
    let app = folder.start().await;
    stand(&app.control, "disabled").await;
    assert_eq!(queue.calls("ReceiveMessage").len(), 0);
    folder.write("routes/amazon.yaml", &source(&queue.url(), "", ""));
    app.control.post("/v1/reload", &json!({})).await.expect(200);
    emptied(&queue).await;
    // What its file says of the queue changed: the loop is another.
    let sns = source(&queue.url(), "      unwrap: sns\n", "");
    folder.write("routes/amazon.yaml", &sns);
    app.control.post("/v1/reload", &json!({})).await.expect(200);
    let wrapped = json!({ "Type": "Notification", "MessageId": "s-1", "Message": notification("n-2", "ORDER_CHANGE") });
    queue.send(&wrapped.to_string());
    queue.send(&notification("n-1", "ORDER_CHANGE"));
    queue.until("the wrapped one is not gone", |queue| queue.inside().len() == 1).await;
    assert_eq!(runs(&app.control).await.len(), 2);
    folder.write("routes/amazon.yaml", "version: 1\n");
    app.control.post("/v1/reload", &json!({})).await.expect(200);
    let asked = queue.calls("ReceiveMessage").len();
    assert_eq!(app.control.get("/v1/sources").await["items"], json!([]));
    queue.send(&notification("n-3", "ORDER_CHANGE"));
    app.stop().await;
    assert_eq!(queue.calls("ReceiveMessage").len(), asked, "a source that is gone is not asked");
}

/// The guard keeps sources, too, away from addresses that nobody allowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guarded_network_is_not_called() {
    let (erp, queue) = (Standin::start(&standin::Settings::default()).unwrap(), Queue::start());
    let folder = folder(&erp, &source(&queue.url(), "", ""));
    folder.write("clawhook.yaml", OPEN);
    folder.write("workflows/push.yaml", "version: 1\nname: push\ninputs: { order: { type: object } }\ntasks: [{ id: a, type: set_state, with: { a: 1 } }]\n");
    queue.send(&notification("n-1", "ORDER_CHANGE"));
    let app = folder.start().await;
    let failing = stand(&app.control, "failing").await;
    assert_eq!(failing["trouble"]["code"], "source.unreachable");
    assert!(failing["trouble"]["message"].as_str().unwrap().contains("is not called because"), "{failing}");
    assert_eq!(queue.calls("ReceiveMessage").len(), 0);
    app.stop().await;
}

/// An API destination of Amazon `EventBridge` is a webhook with a key: its body is the event, and a repeat has its id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_destination_is_a_route() {
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let route = r#"
version: 1
routes:
  - path: /hooks/eventbridge
    verify: { preset: api_key, in: header, name: x-api-key, secret_ref: aws-key }
    dedupe: { key: "${{ body.id }}" }
    respond: { status: 200 }
    workflow: push
    inputs: { order: { id: "${{ body.detail.NotificationMetadata.NotificationId }}", change: "${{ body.detail }}" } }
"#;
    let app = folder(&erp, route).start().await;
    let detail: Value = serde_json::from_str(&notification("n-1", "ORDER_CHANGE")).unwrap();
    let event = json!({ "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": "ORDER_CHANGE",
        "source": "aws.partner/sellingpartnerapi.amazon.com/x", "account": "123456789012", "time": "2026-11-24T02:30:00Z",
        "region": "us-east-1", "resources": [], "detail": detail });
    let headers = |key: &str| [("content-type", "application/json".to_owned()), ("x-api-key", key.to_owned())];
    let sent = app.post("/hooks/eventbridge", &headers(SECRET), &event.to_string()).await;
    let again = app.post("/hooks/eventbridge", &headers(SECRET), &event.to_string()).await;
    assert_eq!((sent.status, sent.run()), (200, again.run()));
    assert_eq!(app.post("/hooks/eventbridge", &headers("wrong"), &event.to_string()).await.status, 401);
    assert_eq!(app.control.ended(&sent.run()).await["status"], "succeeded");
    assert_eq!(erp.orders().len(), 1);
    app.stop().await;
}

/// Tests that users write reach the routes of a source as those of a path, and nothing is fetched in them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_delivers_to_a_route_of_a_source() {
    let folder = Folder::new(OPEN, None);
    folder.secret("aws-key", SECRET);
    folder.write("routes/amazon.yaml", &source("https://sqs.us-east-1.amazonaws.com/123456789012/spapi", "", ""));
    let workflow = "version: 1\nname: push\ninputs: { order: { type: object } }\n\
                    tasks: [{ id: keep, type: set_state, with: { kind: \"${{ inputs.order.change.NotificationType }}\" } }]\n";
    folder.write("workflows/push.yaml", workflow);
    let body = notification("n-1", "ORDER_CHANGE");
    let test = format!(
        "version: 1\nworkflow: push\ntests:\n  - name: a notification\n    delivery: {{ route: amazon-orders, json: {body} }}\n    \
         expect: {{ run: succeeded, state: {{ kind: ORDER_CHANGE }} }}\n"
    );
    folder.write("workflows/push.test.yaml", &test);
    let none: [(&str, &str); 0] = [];
    let output = clawhook(&folder.path(""), &["test"], none);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// What was accepted is deleted before the gateway is gone, also when the queue is slow and fails meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_brings_what_was_received_to_its_end() {
    let (erp, queue) = (Standin::start(&standin::Settings::default()).unwrap(), Queue::start());
    let app = folder(&erp, &source(&queue.url(), "", "")).start().await;
    queue.hold("DeleteMessageBatch");
    queue.send(&notification("n-1", "ORDER_CHANGE"));
    queue.until("nothing is deleted", |queue| queue.calls("DeleteMessageBatch").len() == 1).await;
    let stopped = tokio::spawn(app.stop());
    queue.release();
    stopped.await.unwrap();
    assert_eq!(queue.inside(), []);
    assert_eq!(queue.calls("DeleteMessageBatch").len(), 2, "the first was lost");
}
