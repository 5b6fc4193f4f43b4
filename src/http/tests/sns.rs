//! Amazon SNS at the hooks door: its certificate is fetched once, a subscription confirmed once, and strangers make us call
//! nobody.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use data_encoding::BASE64;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::fixture::{Doors, doors_with, shown, sns_vectors};
use crate::outbound::{Client, Egress, Network, Wire};
use crate::store::memory::Memory;

/// Amazon's end: answers every call with one text, and tells what was called.
struct Amazon {
    status: &'static str,
    text: String,
    called: mpsc::UnboundedSender<String>,
    tracker: TaskTracker,
}

#[async_trait]
impl Network for Amazon {
    async fn connect(&self, host: &str, port: u16, secure: bool) -> io::Result<Box<dyn Wire>> {
        let (ours, mut theirs) = tokio::io::duplex(16 * 1024);
        let place = format!("{}{host}:{port}", if secure { "https://" } else { "http://" });
        let answer = format!(
            "HTTP/1.1 {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}",
            self.status,
            self.text.len(),
            self.text
        );
        let called = self.called.clone();
        self.tracker.spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(theirs.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
            called.send(format!("{place} {line}")).unwrap();
            theirs.write_all(answer.as_bytes()).await.unwrap();
        });
        Ok(Box::new(ours))
    }
}

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

async fn start(status: &'static str, text: String) -> (Doors, mpsc::UnboundedReceiver<String>) {
    let (called, calls) = mpsc::unbounded_channel();
    let client =
        Client::with_network(Egress::default(), Arc::new(Amazon { status, text, called, tracker: TaskTracker::new() }));
    (doors_with(Arc::new(Memory::new()), client).await, calls)
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
    let (doors, mut calls) = start("200 OK", vector(1).1).await;
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
    let (doors, mut calls) = start("200 OK", vector(1).1).await;
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
    let (doors, mut calls) = start("500 Internal Server Error", String::new()).await;
    assert_eq!(send(&doors, 1).await.0, 503);
    assert!(calls.recv().await.unwrap().starts_with(CERTIFICATE));
    assert_eq!(runs(&doors).await, 0);
    doors.close().await;
}
