use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fixture::{SECRET, doors, shown};
use crate::http::problem;

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_and_the_same_again() {
    let doors = doors().await;
    let first = doors.deliver("/hooks/orders", r#"{"n":21}"#).send().await.unwrap();
    assert!(first.headers().get("clawhook-duplicate").is_none());
    let (status, body) = shown(first).await;
    assert_eq!((status, &body["status"]), (202, &json!("accepted")));
    let again = doors.deliver("/hooks/orders", r#"{"n":21}"#).send().await.unwrap();
    assert_eq!(again.headers().get("clawhook-duplicate").unwrap(), "true");
    assert_eq!(shown(again).await, (202, body.clone()));

    let run = body["run_id"].as_str().unwrap();
    let path = format!("{}/v1/runs/{run}/events", doors.control);
    let request = doors.http.get(&path).bearer_auth(&doors.admin).header("accept", "text/event-stream");
    let log = request.send().await.unwrap().text().await.unwrap();
    assert!(log.starts_with("id: 0\nevent: accepted\n"), "{log}");
    assert!(log.ends_with("event: end\ndata: {\"status\":\"succeeded\"}\n\n"), "{log}");
    let rest = doors.http.get(&path).bearer_auth(&doors.admin).header("accept", "text/event-stream");
    let rest = rest.header("last-event-id", "0").send().await.unwrap().text().await.unwrap();
    assert_eq!(log.split_once("\n\n").unwrap().1, rest);
    let (_, run) = doors.get(&format!("/v1/runs/{run}")).await;
    assert_eq!(run["outputs"], json!({ "twice": 42 }), "{run}");
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_the_routes() {
    let doors = doors().await;
    let answer = doors.deliver("/hooks/twice", "{}").send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(shown(answer).await.1, Value::Null);
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_nothing() {
    let doors = doors().await;
    let strange = doors.http.post(format!("{}/hooks/orders", doors.hooks)).body("{}");
    let wrong = doors.http.post(format!("{}/hooks/orders", doors.hooks)).bearer_auth("x").body("{}");
    let mut told = Vec::new();
    for request in [strange, wrong] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers().get("content-type").unwrap(), problem::MEDIA_TYPE);
        assert!(answer.headers().contains_key("www-authenticate"));
        told.push(shown(answer).await);
    }
    let unauthorized = (401, json!({ "type": "about:blank", "title": "Unauthorized", "status": 401 }));
    assert_eq!(told, [unauthorized.clone(), unauthorized]);

    let check = |path: &str, body: String| {
        let request = doors.deliver(path, body);
        async { shown(request.send().await.unwrap()).await.0 }
    };
    assert_eq!(check("/hooks/none", "{}".to_owned()).await, 404);
    assert_eq!(check("/healthz", "{}".to_owned()).await, 404);
    assert_eq!(check("/hooks/orders/", "{}".to_owned()).await, 404);
    assert_eq!(check("/hooks/orders", "x".repeat(1025)).await, 413);
    assert_eq!(check("/hooks/few", "1".to_owned()).await, 202);
    let many = doors.deliver("/hooks/few", "2").send().await.unwrap();
    assert_eq!(many.status(), 429);
    let wait: u64 = many.headers().get("retry-after").unwrap().to_str().unwrap().parse().unwrap();
    assert!((1..=3600).contains(&wait), "{wait}");
    let heavy = doors.deliver("/hooks/orders", "{}").header("x-heavy", "x".repeat(33_000)).send().await.unwrap();
    assert_eq!(heavy.status(), 431);
    doors.close().await;
}

/// What the door answers to these bytes, before the connection is closed from our side.
async fn raw(address: &str, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_long_is_refused_before_it_is_sent() {
    let doors = doors().await;
    let head = format!("POST /hooks/orders HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {SECRET}\r\n");
    let declared = raw(&doors.hooks, &format!("{head}content-length: 1025\r\n\r\n")).await;
    assert!(declared.starts_with("HTTP/1.1 413 "), "{declared}");
    let chunk = "x".repeat(1025);
    let streamed = raw(&doors.hooks, &format!("{head}transfer-encoding: chunked\r\n\r\n401\r\n{chunk}\r\n")).await;
    assert!(streamed.starts_with("HTTP/1.1 413 "), "{streamed}");
    doors.close().await;
}
