//! The far end that workflows call: answers every request with 200 and a small JSON body as fast as it can, and notes
//! when each came.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawhook::clock::{Clock, SystemClock, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Result;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}";

/// One call that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) at: Instant,
    pub(crate) wall: Timestamp,
}

/// A far end that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct FarEnd {
    pub(crate) address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    count: watch::Receiver<usize>,
    _server: JoinSet<()>,
}

impl FarEnd {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (counted, count) = watch::channel(0);
        let noted = Arc::clone(&calls);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let counted = Arc::new(counted);
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (noted, counted) = (Arc::clone(&noted), Arc::clone(&counted));
                connections.spawn(async move {
                    // A connection that breaks shows as calls that do not come.
                    let _ = answer(stream, &noted, &counted).await;
                });
            }
        });
        Ok(Self { address, calls, count, _server: server })
    }

    /// Waits until this many calls have come since the start.
    pub(crate) async fn wait_for(&mut self, calls: usize, at_most: Duration) -> Result<()> {
        let came = tokio::time::timeout(at_most, self.count.wait_for(|count| *count >= calls)).await.is_ok();
        if came {
            return Ok(());
        }
        Err(format!("only {} of {calls} calls came within {} s", self.calls().len(), at_most.as_secs()).into())
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(
    mut stream: TcpStream,
    calls: &Mutex<Vec<Call>>,
    counted: &watch::Sender<usize>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut read = Vec::with_capacity(4096);
    // Workflows of the bench send GET without a body, so an empty line ends a request.
    while stream.read_buf(&mut read).await? > 0 {
        while let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            read.drain(..end + 4);
            let count = {
                let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
                calls.push(Call { at: Instant::now(), wall: SystemClock.now() });
                calls.len()
            };
            counted.send_replace(count);
            stream.write_all(ANSWER).await?;
        }
    }
    Ok(())
}
