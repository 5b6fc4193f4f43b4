//! A wire to a server that can be cut, refused and silenced, and works again when the test says so.

use futures_util::future::join;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes that are carried at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// How the server looks from the near end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Open,
    /// Connections end, and new ones end at once: a server that is down.
    Refusing,
    /// Nothing comes through, and nobody is told: a network that is gone. What was under way arrives when it is back.
    Silent,
}

/// A port of this machine that leads to another one. It goes with the test.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) port: u16,
    line: watch::Sender<Line>,
    cut: watch::Sender<()>,
}

impl Wire {
    pub(crate) async fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let ((line, lines), (cut, cuts)) = (watch::channel(Line::Open), watch::channel(()));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, server, lines.clone(), cuts.clone()));
            }
        });
        Self { port, line, cut }
    }

    /// From now on the server looks so.
    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// Cuts what is connected at the near end, so that the server does not notice.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }
}

async fn carry(mut near: TcpStream, server: u16, mut line: watch::Receiver<Line>, mut cuts: watch::Receiver<()>) {
    cuts.mark_unchanged();
    // In a silence the near end believes that it is connected.
    let Ok(Line::Open) = line.wait_for(|line| *line != Line::Silent).await.map(|line| *line) else { return };
    let mut far = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    {
        let ((near_in, near_out), (far_in, far_out)) = (near.split(), far.split());
        let carried = join(pass(near_in, far_out, line.clone()), pass(far_in, near_out, line.clone()));
        tokio::select! {
            _ = carried => return,
            _ = line.wait_for(|line| *line == Line::Refusing) => return,
            cut = cuts.changed() => if cut.is_err() { return },
        }
    }
    drop(near);
    // The server's end of what was cut stays until the test is over.
    let _ = line.wait_for(|_| false).await;
    drop(far);
}

/// Carries one direction, for as long as something comes.
async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut line: watch::Receiver<Line>) {
    let mut bytes = vec![0; CHUNK_BYTES];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if line.wait_for(|line| *line != Line::Silent).await.is_err() || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
    // Whoever is at the other end may be gone already.
    let _ = to.shutdown().await;
}
