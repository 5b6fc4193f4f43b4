//! The far end of our own calls: it answers all of them with one text, which a test may change, and tells what was called.

use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::fixture::{Doors, doors_with};
use crate::outbound::{Client, Egress, Network, Wire};
use crate::store::memory::Memory;

/// A status line's end and a body.
pub(super) type Answer = (&'static str, String);

struct Far {
    answer: Arc<Mutex<Answer>>,
    called: mpsc::UnboundedSender<String>,
    tracker: TaskTracker,
}

#[async_trait]
impl Network for Far {
    async fn connect(&self, host: &str, port: u16, secure: bool) -> io::Result<Box<dyn Wire>> {
        let (ours, mut theirs) = tokio::io::duplex(16 * 1024);
        let place = format!("{}{host}:{port}", if secure { "https://" } else { "http://" });
        let (called, answer) = (self.called.clone(), Arc::clone(&self.answer));
        self.tracker.spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(theirs.read_u8().await.unwrap());
            }
            let (status, text) = answer.lock().unwrap().clone();
            let head = String::from_utf8(head).unwrap();
            let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
            called.send(format!("{place} {line}")).unwrap();
            let length = text.len();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}");
            theirs.write_all(answer.as_bytes()).await.unwrap();
        });
        Ok(Box::new(ours))
    }
}

/// What calls out of the doors meet.
pub(super) struct FarEnd {
    pub(super) doors: Doors,
    pub(super) answer: Arc<Mutex<Answer>>,
    /// `https://HOST:PORT METHOD PATH` of each call.
    pub(super) calls: mpsc::UnboundedReceiver<String>,
}

/// Opens both doors before a far end that answers so.
pub(super) async fn start(status: &'static str, text: String) -> FarEnd {
    let (called, calls) = mpsc::unbounded_channel();
    let answer = Arc::new(Mutex::new((status, text)));
    let far = Far { answer: Arc::clone(&answer), called, tracker: TaskTracker::new() };
    let client = Client::with_network(Egress::default(), Arc::new(far));
    FarEnd { doors: doors_with(Arc::new(Memory::new()), client).await, answer, calls }
}
