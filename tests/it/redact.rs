//! What a task redacts is on no disk, and a run whose answers lost something still goes on after `kill -9`.

use serde_json::{Value, json};

use crate::app::{Folder, OPEN};
use crate::process::Process;
use crate::standin::{self, Fault, Standin};

/// Looks for a customer by a mail address that stands in no input, then hands on what is left of the answer.
const WORKFLOW: &str = r#"
version: 1
name: customer-to-erp
inputs: { user: { type: string, required: true } }
tasks:
  - id: find
    type: http_request
    connection: erp
    redact: [ "$.mail", "$.customer.email", "$..card" ]
    with: { path: /stock, query: { mail: "${{ inputs.user ~ '@' ~ 'shop.example' }}", page: 2 } }
    retry: 3
    retry_delay: 1ms
  - id: book
    type: http_request
    connection: erp
    with:
      method: POST
      path: /orders
      json: { source: shop, source_id: "${{ tasks.find.body.customer.id }}", name: "${{ tasks.find.body.customer }}" }
      idempotency_key: { header: Idempotency-Key }
"#;
const MAIL: &str = "li.wei@shop.example";
const CARD: &str = "4111-2222-3333-4444";

fn answer(status: u16, body: Value) -> Fault {
    Fault { path: "/stock".to_owned(), status: Some(status), body: Some(body), times: 1, ..Fault::default() }
}

#[tokio::test]
async fn what_a_task_redacts_is_nowhere_and_the_run_goes_on_after_a_crash() {
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    // A failure quotes what was answered; of a text it is not known what to blank.
    erp.fail(answer(503, json!({ "error": "busy", "customer": { "email": MAIL } })));
    erp.fail(answer(502, json!(format!("no gateway for {MAIL}"))));
    let customer = json!({ "id": 7, "email": MAIL, "pay": [{ "card": CARD, "until": "12/29" }] });
    erp.fail(answer(200, json!({ "customer": customer })));
    let never = Fault { path: "/orders".to_owned(), delay_ms: 600_000, times: 1, ..Fault::default() };
    erp.fail(never);
    let folder = Folder::new(OPEN, Some(&erp));
    folder.write("workflows/customer.yaml", WORKFLOW);

    let first = Process::start(&folder, "info").await;
    let started = json!({ "workflow": "customer-to-erp", "inputs": { "user": "li.wei" } });
    let run = first.control.post("/v1/workflows/trigger", &started).await.run();
    let path = format!("/v1/runs/{run}");
    let asked = |task: &Value| task["id"] == "book" && task["attempts"][0].is_object();
    first.control.until(&path, |run| run["tasks"].as_array().is_some_and(|tasks| tasks.iter().any(asked))).await;
    first.kill();

    let second = Process::start(&folder, "info").await;
    let shown = second.control.ended(&run).await;
    assert_eq!(shown["status"], "succeeded", "{shown}");
    let events = second.control.get(&format!("{path}/events")).await;
    let said = second.stop();

    // It was sent and answered whole.
    let requests = erp.requests();
    let find = requests.iter().find(|request| request.path == "/stock").unwrap();
    assert_eq!(find.query, "mail=li.wei%40shop.example&page=2");
    // What comes later sees what is on record, before a crash as after it.
    let order: Value =
        serde_json::from_slice(&requests.iter().rfind(|request| request.path == "/orders").unwrap().body).unwrap();
    let kept = json!({ "id": 7, "email": "[redacted]", "pay": [{ "card": "[redacted]", "until": "12/29" }] });
    assert_eq!(order["name"], kept);
    assert!(shown.to_string().contains("mail=%5Bredacted%5D&page=2"), "the query of the record: {shown}");
    let stored = String::from_utf8_lossy(&folder.stored_bytes()).into_owned();
    assert!(stored.contains("12/29") && stored.contains("busy"), "the search would find what is there");
    for hidden in [MAIL, "li.wei%40", "shop.example\"", CARD, "no gateway"] {
        for (place, text) in
            [("store", &stored), ("run", &shown.to_string()), ("events", &events.to_string()), ("log", &said)]
        {
            assert!(!text.contains(hidden), "`{hidden}` is in the {place}");
        }
    }
}
