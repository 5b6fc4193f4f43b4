//! Amazon SNS at the hooks door: its certificate is fetched once, a subscription confirmed once, and strangers make us call
//! nobody.

use data_encoding::BASE64;
use serde_json::Value;

use super::far::{FarEnd, start};
use super::fixture::{Doors, shown, sns_vectors};

/// A vector by its number, and the certificate that it is signed with.
fn vector(number: usize) -> (Value, String) {
    let vector = sns_vectors().swap_remove(number - 1);
    let body: Value = serde_json::from_slice(&body(&vector)).unwrap();
    let pem = vector["config"]["cert_fixtures"][body["SigningCertURL"].as_str().unwrap()].as_str().unwrap();
    let pem = pem.to_owned();
    (vector, pem)
}

fn body(vector: &Value) -> Vec<u8> {
    BASE64.decode(vector["request"]["body_base64"].as_str().unwrap().as_bytes()).unwrap()
}

async fn send(doors: &Doors, number: usize) -> (u16, Value) {
    let (vector, _) = vector(number);
    let mut request = doors.http.post(format!("{}/hooks/sns", doors.hooks));
    for pair in vector["request"]["headers"].as_array().unwrap() {
        request = request.header(pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
    }
    shown(request.body(body(&vector)).send().await.unwrap()).await
}

async fn runs(doors: &Doors) -> usize {
    doors.get("/v1/runs").await.1["items"].as_array().unwrap().len()
}

const CERTIFICATE: &str = "https://sns.us-east-1.amazonaws.com:443 GET /SimpleNotificationService-";

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_fetched_once_and_the_subscription_confirmed_once() {
    let FarEnd { doors, mut calls, .. } = start("200 OK", vector(1).1).await;
    assert_eq!(send(&doors, 7).await, (200, Value::Null));
    let fetched = calls.recv().await.unwrap();
    assert!(fetched.starts_with(CERTIFICATE), "{fetched}");
    let (confirmation, _) = vector(7);
    let url = confirmation["expected_outbound"]["url"].as_str().unwrap().split_once(".com").unwrap().1;
    assert_eq!(calls.recv().await.unwrap(), format!("https://sns.us-east-1.amazonaws.com:443 GET {url}"));
    assert_eq!(runs(&doors).await, 0);
    // The same again is answered and calls nobody.
    assert_eq!(send(&doors, 7).await, (200, Value::Null));
    for number in [1, 2, 3, 4, 1] {
        assert_eq!(send(&doors, number).await.0, 202, "{number}");
    }
    assert_eq!(runs(&doors).await, 4);
    doors.close().await;
    assert!(calls.try_recv().is_err(), "nothing else was called");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_make_us_call_nobody() {
    let FarEnd { doors, mut calls, .. } = start("200 OK", vector(1).1).await;
    // A look-alike host, and a topic that the route does not expect.
    for number in [8, 10] {
        assert_eq!(send(&doors, number).await.0, 401, "{number}");
    }
    assert_eq!(runs(&doors).await, 0);
    doors.close().await;
    assert!(calls.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_certificate_the_sender_comes_again() {
    let FarEnd { doors, mut calls, .. } = start("500 Internal Server Error", String::new()).await;
    assert_eq!(send(&doors, 1).await.0, 503);
    assert!(calls.recv().await.unwrap().starts_with(CERTIFICATE));
    assert_eq!(runs(&doors).await, 0);
    doors.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmation_that_failed_is_tried_again() {
    let FarEnd { doors, answer, mut calls } = start("200 OK", vector(1).1).await;
    assert_eq!(send(&doors, 1).await.0, 202);
    assert!(calls.recv().await.unwrap().starts_with(CERTIFICATE));
    *answer.lock().unwrap() = ("503 Service Unavailable", String::new());
    assert_eq!(send(&doors, 7).await, (200, Value::Null));
    let tried = calls.recv().await.unwrap();
    assert_eq!(calls.recv().await.unwrap(), tried);
    doors.close().await;
}
