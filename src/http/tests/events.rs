//! Event Grid at the hooks door: an array is several deliveries in one write, and its handshakes start nothing.

use std::sync::Arc;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::fixture::{Doors, SECRET, doors, doors_on, shown};
use crate::store::faulty::{Faults, Faulty};
use crate::store::memory::Memory;

fn event(id: &str, n: i64) -> Value {
    json!({ "id": id, "topic": "/Topics/orders", "subject": "", "eventType": "Order", "eventTime": "2026-11-22T08:59:59Z",
            "data": { "n": n }, "dataVersion": "1", "metadataVersion": "1" })
}

async fn send(doors: &Doors, kind: &str, body: &Value) -> Response {
    let url = format!("{}/hooks/events?code={SECRET}", doors.hooks);
    let request = doors.http.post(url).header("aeg-event-type", kind).header("content-type", "application/json");
    request.body(body.to_string()).send().await.unwrap()
}

/// What the runs were given, in order.
async fn inputs(doors: &Doors) -> Vec<i64> {
    let (_, listed) = doors.get("/v1/runs").await;
    let mut inputs = Vec::new();
    for run in listed["items"].as_array().unwrap() {
        let (_, run) = doors.get(&format!("/v1/runs/{}", run["id"].as_str().unwrap())).await;
        let body: Value = serde_json::from_str(run["delivery"]["body"]["text"].as_str().unwrap()).unwrap();
        inputs.push(body["data"]["n"].as_i64().unwrap());
    }
    inputs.sort_unstable();
    inputs
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_an_array_is_a_delivery_of_its_own() {
    let doors = doors().await;
    let three = json!([event("a", 1), event("b", 2), event("a", 1)]);
    let answer = send(&doors, "Notification", &three).await;
    assert!(answer.headers().get("clawhook-duplicate").is_none());
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, ""));
    assert_eq!(inputs(&doors).await, [1, 2]);

    let again = send(&doors, "Notification", &three).await;
    assert_eq!((again.status().as_u16(), again.headers().get("clawhook-duplicate").is_some()), (200, true));
    // One is known, one is new, one is filtered out.
    let mixed = send(&doors, "Notification", &json!([event("b", 2), event("c", 3), event("d", 0)])).await;
    assert_eq!((mixed.status().as_u16(), mixed.headers().get("clawhook-duplicate").is_none()), (200, true));
    let none = send(&doors, "Notification", &json!([event("e", 0)])).await;
    assert_eq!(none.status(), 200);
    assert_eq!(inputs(&doors).await, [1, 2, 3]);
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_events_are_stored_or_none() {
    let store = Arc::new(Faulty::new(Memory::new(), 7, Faults::NONE));
    let doors = doors_on(store.clone()).await;
    let three = json!([event("a", 1), event("b", 2), event("c", 3)]);
    store.set_faults(Faults { full: 1000, ..Faults::NONE });
    let refused = send(&doors, "Notification", &three).await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.status(), 503);
    store.set_faults(Faults::NONE);
    assert_eq!(inputs(&doors).await, Vec::<i64>::new());
    assert_eq!(send(&doors, "Notification", &three).await.status(), 200);
    assert_eq!(inputs(&doors).await, [1, 2, 3]);
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_are_answered_and_start_nothing() {
    let doors = doors().await;
    let mut first = event("v", 1);
    first["eventType"] = json!("Microsoft.EventGrid.SubscriptionValidationEvent");
    first["data"] = json!({ "validationCode": "code-1" });
    let answer = shown(send(&doors, "SubscriptionValidation", &json!([first])).await).await;
    assert_eq!(answer, (200, json!({ "validationResponse": "code-1" })));
    first["topic"] = json!("/topics/other");
    assert_eq!(send(&doors, "SubscriptionValidation", &json!([first])).await.status(), 401);

    let ask = |origin: &str, key: &str| {
        let url = format!("{}/hooks/events?code={key}", doors.hooks);
        doors.http.request(Method::OPTIONS, url).header("webhook-request-origin", origin).send()
    };
    let allowed = ask("eventgrid.azure.net", SECRET).await.unwrap();
    let header = |name: &str| allowed.headers().get(name).and_then(|value| value.to_str().ok());
    assert_eq!(allowed.status(), 200);
    assert_eq!(
        (header("webhook-allowed-origin"), header("webhook-allowed-rate")),
        (Some("eventgrid.azure.net"), Some("*"))
    );
    for (origin, key) in [("evil.example", SECRET), ("eventgrid.azure.net", "wrong")] {
        let refused = ask(origin, key).await.unwrap();
        assert_eq!((refused.status().as_u16(), refused.headers().contains_key("webhook-allowed-origin")), (401, false));
    }
    assert_eq!(inputs(&doors).await, Vec::<i64>::new());
    doors.close().await;
}
