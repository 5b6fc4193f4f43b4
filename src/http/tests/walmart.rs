//! Walmart's OAuth at the hooks door: a token for who knows the client, runs for who brings the token.

use serde_json::{Value, json};

use super::fixture::{Doors, SECRET, doors, shown};

/// Asks for a token with this secret and grant.
async fn ask(doors: &Doors, secret: &str, grant: &str) -> reqwest::Response {
    let body = format!("grant_type={grant}&client_id=wm&client_secret={secret}");
    let request = doors.http.post(format!("{}/hooks/walmart/token", doors.hooks)).body(body);
    request.header("content-type", "application/x-www-form-urlencoded").send().await.unwrap()
}

async fn notify(doors: &Doors, token: &str, body: &'static str) -> (u16, Value) {
    let request = doors.http.post(format!("{}/hooks/walmart", doors.hooks)).body(body);
    shown(request.header("x-wm-auth", format!("Bearer {token}")).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_and_brought() {
    let doors = doors().await;
    let refused = ask(&doors, "another", "client_credentials").await;
    assert_eq!(refused.headers().get("cache-control").unwrap(), "no-store");
    assert_eq!(shown(refused).await, (401, json!({ "error": "invalid_client" })));
    assert_eq!(shown(ask(&doors, SECRET, "password").await).await, (400, json!({ "error": "unsupported_grant_type" })));
    let granted = ask(&doors, SECRET, "client_credentials").await;
    assert_eq!(granted.headers().get("cache-control").unwrap(), "no-store");
    let (status, granted) = shown(granted).await;
    assert_eq!((status, &granted["token_type"], &granted["expires_in"]), (200, &json!("Bearer"), &json!(900)));
    let token = granted["access_token"].as_str().unwrap();

    assert_eq!(notify(&doors, SECRET, r#"{"eventId":"1"}"#).await.0, 401);
    let (status, told) = notify(&doors, token, r#"{"eventId":"1"}"#).await;
    assert_eq!(status, 202, "{told}");
    // A token request started nothing, and neither token nor secret is on record.
    let (_, runs) = doors.get("/v1/runs").await;
    assert_eq!(runs["items"].as_array().unwrap().len(), 1, "{runs}");
    let (_, run) = doors.get(&format!("/v1/runs/{}", told["run_id"].as_str().unwrap())).await;
    let log = doors.get(&format!("/v1/runs/{}/events", told["run_id"].as_str().unwrap())).await.1;
    let refusals = loop {
        let (_, refusals) = doors.get("/v1/refusals").await;
        if refusals["items"].as_array().unwrap().len() == 3 {
            break refusals;
        }
        tokio::task::yield_now().await;
    };
    for kept in [run.to_string(), log.to_string(), refusals.to_string()] {
        assert!(!kept.contains(token) && !kept.contains(SECRET) && !kept.contains("another"), "{kept}");
    }
    // Six requests an hour: the token endpoint counts as the route does.
    assert_eq!(notify(&doors, token, r#"{"eventId":"1"}"#).await, (202, told));
    assert_eq!(ask(&doors, SECRET, "client_credentials").await.status(), 429);
    doors.close().await;
}
