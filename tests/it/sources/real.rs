//! A queue server that is not ours (moto, which answers as Amazon SQS does): the calls are understood, and messages
//! come, go and come again.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};

use super::{folder, notification, runs, source};
use crate::emulators::wanted;
use crate::standin::{self, Standin};

/// Looks for the queue to be empty, and the pause between two of them.
const LOOKS_MAX: usize = 2_000;
const LOOK_EVERY: Duration = Duration::from_millis(20);

struct Server {
    url: String,
    http: Client,
}

impl Server {
    /// One call as any client makes it; this server looks at no signature, but at the region that it names.
    async fn call(&self, action: &str, asked: &Value) -> Value {
        let proof = "AWS4-HMAC-SHA256 Credential=AKIATESTTESTTEST0001/20261124/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0";
        let request = self.http.post(&self.url).header("authorization", proof);
        let request = request.header("x-amz-target", format!("AmazonSQS.{action}"));
        let answer = request.header("content-type", "application/x-amz-json-1.0").body(asked.to_string()).send().await;
        let answer = answer.unwrap();
        assert!(answer.status().is_success(), "{action}: {}", answer.status());
        answer.json().await.unwrap_or_default()
    }

    /// Messages in the queue: visible, and hidden.
    async fn counts(&self, queue: &str) -> (String, String) {
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let told = self.call("GetQueueAttributes", &json!({ "QueueUrl": queue, "AttributeNames": names })).await;
        let count = |name: &str| told["Attributes"][name].as_str().unwrap_or_default().to_owned();
        (count(names[0]), count(names[1]))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_others_gives_and_lets_go() {
    let Some(url) = wanted("CLAWHOOK_TEST_SQS_URL") else { return };
    let server = Server { url, http: Client::builder().no_proxy().build().unwrap() };
    let name = format!("clawhook-{:016x}", rand::random::<u64>());
    let made = server.call("CreateQueue", &json!({ "QueueName": name })).await;
    let queue = made["QueueUrl"].as_str().unwrap().to_owned();
    for number in 0..25 {
        let body = notification(&format!("n-{}", number % 20), "ORDER_CHANGE");
        server.call("SendMessage", &json!({ "QueueUrl": queue, "MessageBody": body })).await;
    }
    server.call("SendMessage", &json!({ "QueueUrl": queue, "MessageBody": "not JSON" })).await;
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let app = folder(&erp, &source(&queue, "", "")).start().await;
    let mut left = server.counts(&queue).await;
    for _ in 0..LOOKS_MAX {
        if left == ("0".to_owned(), "1".to_owned()) {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        left = server.counts(&queue).await;
    }
    assert_eq!(left, ("0".to_owned(), "1".to_owned()), "all but the one that cannot be read is gone");
    assert_eq!(runs(&app.control).await.len(), 20);
    app.stop().await;
}
