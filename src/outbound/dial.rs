//! A bare connection for protocols that are not HTTP: the same resolver, the same egress guard, the same trust.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect::Connector;
use super::error::{Cause, Phase};
use super::request::Tls;
use super::tls::Trust;
use super::trace::Trace;
use super::{Client, Inner};

/// An open connection.
#[derive(Debug)]
pub struct Dialed {
    stream: Stream,
    remote: SocketAddr,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

impl Dialed {
    /// The address that it leads to.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }
}

impl Client {
    /// Opens a connection to `host`, and TLS on it when `tls` is given. Names are resolved here, and an address that
    /// the guard refuses is not called. The connection belongs to whoever asked for it.
    pub async fn dial(&self, host: &str, port: u16, tls: Option<&Tls>, within: Duration) -> Result<Dialed, Cause> {
        let connector = self.0.connector(tls);
        let trace = Trace::new(within);
        let deadline = Instant::now() + within;
        let open = async {
            if connector.network.is_some() {
                let source = io::Error::new(io::ErrorKind::Unsupported, "only HTTP is spoken in a test");
                return Err(Cause::Connect { host: host.to_owned(), address: ([0, 0, 0, 0], port).into(), source });
            }
            trace.enter(Phase::Dns);
            let addresses = connector.allowed(host, port).await?;
            trace.enter(Phase::Connect);
            let (tcp, remote) = connector.tcp(host, &addresses, deadline, &trace).await?;
            let stream = if tls.is_some() {
                trace.enter(Phase::Tls);
                Stream::Secure(Box::new(secure(&connector, host, tcp).await?))
            } else {
                Stream::Plain(tcp)
            };
            Ok(Dialed { stream, remote })
        };
        let late = |_| Cause::Timeout { host: host.to_owned(), phase: trace.phase(), after: within };
        timeout_at(deadline, open).await.map_err(late)?
    }
}

impl Inner {
    fn connector(&self, tls: Option<&Tls>) -> Connector {
        let trust = Trust::new(Arc::clone(&self.machine), tls.cloned().unwrap_or_default());
        Connector {
            egress: self.egress.clone(),
            resolver: Arc::clone(&self.resolver),
            trust: Arc::new(trust),
            network: self.network.clone(),
        }
    }
}

async fn secure(connector: &Connector, host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Cause> {
    let failed = |source| Cause::Tls { host: host.to_owned(), source };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(io::Error::other(error)))?;
    // What is spoken here is not HTTP.
    let mut config = ClientConfig::clone(&*connector.trust.config().await?);
    config.alpn_protocols.clear();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(failed)
}

impl AsyncRead for Dialed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Secure(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Dialed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Secure(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
