//! The load: signed deliveries with ids of their own over kept connections, one in flight on each. Requests are built
//! and signed before the clock starts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Result;
use crate::report::percentile;

/// The key of the bench; made up.
pub(crate) const KEY: &str = "bench-key-0123456789abcdef0123456789abcdef";
pub(crate) const SIGNATURE_HEADER: &str = "X-Signature";
pub(crate) const ID_HEADER: &str = "X-Request-Id";

/// Longest that one answer may take; past it the server hangs.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Bytes of an answer's head and body that are read at once.
const READ_BYTES: usize = 16 * 1024;

/// Numbers that no two requests of this process share.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Signed requests, each with its own id and its own body, so that none is a duplicate or a suspected replay.
pub(crate) fn deliveries(count: usize, body_bytes: usize) -> Arc<Vec<Vec<u8>>> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    // Whatever was sent to a folder by an earlier process has other ids.
    let process = std::process::id();
    let request = |_| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let body = body(number, body_bytes);
        let signature = data_encoding::HEXLOWER.encode(hmac::sign(&key, body.as_bytes()).as_ref());
        format!(
            "POST /hooks/bench HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             {ID_HEADER}: {process}-{number}\r\n{SIGNATURE_HEADER}: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    Arc::new((0..count).map(request).collect())
}

/// An order-like JSON body of exactly this size.
fn body(number: u64, bytes: usize) -> String {
    let mut body = format!(r##"{{"id":{number},"name":"#{number}","currency":"USD","note":""##);
    let end = r#""}"#;
    let line = "2 x LAMP-OAK at 64.95, gift wrapped, leave at the door; ";
    while body.len() + end.len() < bytes {
        let room = bytes - end.len() - body.len();
        body.push_str(&line[..room.min(line.len())]);
    }
    body + end
}

/// What a load saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Answers per second, from the first request to the last answer.
    pub(crate) rate: f64,
    /// Of every answer, sorted.
    pub(crate) latencies: Vec<Duration>,
    /// When the first request was sent.
    pub(crate) begun: Instant,
}

impl Seen {
    pub(crate) fn p50(&self) -> f64 {
        percentile(&self.latencies, 50).as_secs_f64()
    }

    pub(crate) fn p99(&self) -> f64 {
        percentile(&self.latencies, 99).as_secs_f64()
    }
}

/// Sends all requests over this many connections; anything but 202 ends the bench.
pub(crate) async fn send(address: SocketAddr, connections: usize, requests: Arc<Vec<Vec<u8>>>) -> Result<Seen> {
    let next = Arc::new(AtomicUsize::new(0));
    let open = Arc::new(Barrier::new(connections + 1));
    let mut senders = JoinSet::new();
    for _ in 0..connections {
        let mut connection = Connection::open(address).await?;
        let (requests, next, open) = (Arc::clone(&requests), Arc::clone(&next), Arc::clone(&open));
        senders.spawn(async move {
            open.wait().await;
            let mut latencies = Vec::with_capacity(requests.len() / connections * 2);
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                let begun = Instant::now();
                let status = connection.call(request).await?;
                latencies.push(begun.elapsed());
                if status != 202 {
                    return Err(format!("a delivery was answered {status}: {}", connection.answer()).into());
                }
            }
            Result::Ok(latencies)
        });
    }
    open.wait().await;
    let begun = Instant::now();
    let mut latencies = Vec::with_capacity(requests.len());
    while let Some(sender) = senders.join_next().await {
        latencies.extend(sender??);
    }
    let count = u32::try_from(latencies.len())?;
    let rate = f64::from(count) / begun.elapsed().as_secs_f64();
    latencies.sort_unstable();
    Ok(Seen { rate, latencies, begun })
}

/// A kept connection that carries one request at a time.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(READ_BYTES) })
    }

    /// Sends a request and reads its whole answer; gives the status.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Result<u16> {
        tokio::time::timeout(ANSWER_MAX, self.exchange(request)).await.map_err(|_| "an answer did not come in 30 s")?
    }

    /// The last answer, as text.
    pub(crate) fn answer(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.read.clear();
        loop {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(format!("the server closed the connection after `{}`", self.answer()).into());
            }
            if let Some(head_bytes) = find(&self.read, b"\r\n\r\n") {
                let (status, body_bytes) = head(&self.read[..head_bytes])?;
                if self.read.len() >= head_bytes + 4 + body_bytes {
                    return Ok(status);
                }
            }
        }
    }
}

/// The status and the length of the body, of a head without its empty line.
fn head(head: &[u8]) -> Result<(u16, usize)> {
    let text = std::str::from_utf8(head)?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)).ok_or("no status line")?.parse()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse())
    });
    Ok((status, length.ok_or_else(|| format!("an answer without a length: `{text}`"))??))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
