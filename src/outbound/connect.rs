//! Opens connections: resolve, ask the egress guard, connect, TLS; each part measured and bounded.
//!
//! The guard is asked about the very address that is connected to, here and nowhere else, so every request, every
//! redirect and every new connection of the pool passes it. Proxies are never used, whatever the environment says.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::egress::Egress;
use super::error::{Cause, Phase};
use super::tls::Trust;
use super::trace::{TRACE, Trace};
use crate::limits;

/// Finds the addresses of a host. The system's resolver in production, a table in tests.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// The addresses of `host`, best first, each with `port`.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// Stands in for the machine's network, for tests of workflows: whatever a client dials ends here.
#[async_trait]
pub trait Network: Send + Sync {
    /// A connection to `host` and `port`. HTTP/1.1 is spoken on it in the clear, also when the URL says `https` and it
    /// should be `secure`.
    ///
    /// # Errors
    /// Why there is none, as the machine's network would say it.
    async fn connect(&self, host: &str, port: u16, secure: bool) -> io::Result<Box<dyn Wire>>;
}

/// Bytes that go both ways.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Wire for S {}

/// Resolves as the machine does (`getaddrinfo`).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// Opens the connections of one pool.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) egress: Egress,
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) trust: Arc<Trust>,
    /// Used instead of the machine's network.
    pub(super) network: Option<Arc<dyn Network>>,
}

/// There is no connection; why is in the trace.
#[derive(Debug, thiserror::Error)]
#[error("no connection")]
pub(super) struct NotConnected;

impl Service<Uri> for Connector {
    type Response = Link;
    type Error = NotConnected;
    type Future = Pin<Box<dyn Future<Output = Result<Link, NotConnected>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotConnected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        let trace = TRACE.try_with(Arc::clone).unwrap_or_else(|_| Arc::new(Trace::new(limits::CONNECT_TIMEOUT)));
        Box::pin(async move {
            connector.connect(&uri, &trace).await.map_err(|cause| {
                trace.fail(cause);
                NotConnected
            })
        })
    }
}

impl Connector {
    async fn connect(&self, uri: &Uri, trace: &Trace) -> Result<Link, Cause> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let deadline = Instant::now() + trace.connect_timeout;
        let open = async {
            if let Some(network) = &self.network {
                return self.stand_in(network.as_ref(), (host, port, secure), trace).await;
            }
            trace.enter(Phase::Dns);
            let addresses = self.allowed(host, port).await?;
            trace.enter(Phase::Connect);
            let (tcp, remote) = self.tcp(host, &addresses, deadline, trace).await?;
            if secure {
                trace.enter(Phase::Tls);
                self.tls(host, tcp, remote, trace).await
            } else {
                Ok(Link::new(Box::new(tcp), remote, false, trace.id))
            }
        };
        let opened = timeout_at(deadline, open).await;
        let late = |_| Cause::Timeout { host: host.to_owned(), phase: trace.phase(), after: trace.connect_timeout };
        let link = opened.map_err(late)??;
        trace.enter(Phase::Response);
        Ok(link)
    }

    /// A connection of the network that stands in for the machine's. Names are not resolved; an address that is written
    /// out passes the guard as ever.
    async fn stand_in(
        &self,
        network: &dyn Network,
        (host, port, secure): (&str, u16, bool),
        trace: &Trace,
    ) -> Result<Link, Cause> {
        let literal = host.parse::<IpAddr>().ok();
        if let Some(address) = literal
            && let Err(refusal) = self.egress.check(address)
        {
            return Err(Cause::Egress { host: host.to_owned(), address, refusal });
        }
        let address = SocketAddr::new(literal.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port);
        trace.enter(Phase::Connect);
        trace.trying(address);
        let wire = network.connect(host, port, secure).await;
        let wire = wire.map_err(|source| Cause::Connect { host: host.to_owned(), address, source })?;
        Ok(Link::new(wire, address, false, trace.id))
    }

    /// The addresses of `host` that the guard lets through. A host with none is refused by its first address.
    pub(super) async fn allowed(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Cause> {
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.lookup(host, port).await?,
        };
        let mut refused = None;
        let mut allowed = Vec::with_capacity(found.len());
        for address in found {
            match self.egress.check(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(refusal) => {
                    refused.get_or_insert(Cause::Egress { host: host.to_owned(), address: address.ip(), refusal });
                }
            }
        }
        match refused {
            Some(cause) if allowed.is_empty() => Err(cause),
            _ => Ok(allowed),
        }
    }

    async fn lookup(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Cause> {
        let dns = |source| Cause::Dns { host: host.to_owned(), source };
        let late = |_| Cause::Timeout { host: host.to_owned(), phase: Phase::Dns, after: limits::DNS_TIMEOUT };
        let answer = timeout(limits::DNS_TIMEOUT, self.resolver.resolve(host, port)).await;
        let found = answer.map_err(late)?.map_err(dns)?;
        if found.is_empty() {
            return Err(dns(io::Error::new(io::ErrorKind::NotFound, "the answer was empty")));
        }
        Ok(found)
    }

    /// Connects to the first address that answers; each gets an equal share of the time that is left.
    pub(super) async fn tcp(
        &self,
        host: &str,
        addresses: &[SocketAddr],
        deadline: Instant,
        trace: &Trace,
    ) -> Result<(TcpStream, SocketAddr), Cause> {
        let tries = addresses.len().min(limits::ADDRESSES_TRIED_MAX);
        let mut failed = None;
        for (tried, address) in addresses.iter().take(tries).enumerate() {
            trace.trying(*address);
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(tries - tried).unwrap_or(1);
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return self.connected(host, tcp, *address),
                Ok(Err(source)) => failed = Some((*address, source)),
                Err(_) => failed = Some((*address, io::ErrorKind::TimedOut.into())),
            }
        }
        let (address, source) = failed.unwrap_or_else(|| (([0, 0, 0, 0], 0).into(), io::ErrorKind::NotFound.into()));
        if source.kind() == io::ErrorKind::TimedOut {
            return Err(Cause::Timeout { host: host.to_owned(), phase: Phase::Connect, after: trace.connect_timeout });
        }
        Err(Cause::Connect { host: host.to_owned(), address, source })
    }

    /// Asks the guard once more, about the peer that the kernel names.
    fn connected(&self, host: &str, tcp: TcpStream, address: SocketAddr) -> Result<(TcpStream, SocketAddr), Cause> {
        let failed = |source| Cause::Connect { host: host.to_owned(), address, source };
        let peer = tcp.peer_addr().map_err(failed)?;
        if let Err(refusal) = self.egress.check(peer.ip()) {
            return Err(Cause::Egress { host: host.to_owned(), address: peer.ip(), refusal });
        }
        tcp.set_nodelay(true).map_err(failed)?;
        Ok((tcp, peer))
    }

    async fn tls(&self, host: &str, tcp: TcpStream, remote: SocketAddr, trace: &Trace) -> Result<Link, Cause> {
        let config = self.trust.config().await?;
        let failed = |source: io::Error| {
            // A handshake that broke off is a connection that was not made; one that was refused will be again.
            if source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some() {
                Cause::Tls { host: host.to_owned(), source }
            } else {
                Cause::Connect { host: host.to_owned(), address: remote, source }
            }
        };
        let name = ServerName::try_from(host.trim_end_matches('.').to_owned())
            .map_err(|error| Cause::Tls { host: host.to_owned(), source: io::Error::other(error) })?;
        let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(failed)?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Link::new(Box::new(stream), remote, h2, trace.id))
    }
}

/// An open connection that knows who opened it and whether anything was written to it.
pub(super) struct Link {
    stream: TokioIo<Box<dyn Wire>>,
    h2: bool,
    info: LinkInfo,
}

/// What a request can learn of the connection it was given.
#[derive(Debug, Clone)]
pub(super) struct LinkInfo {
    /// The try that opened it.
    pub(super) opened_by: u64,
    pub(super) remote: SocketAddr,
    written: Arc<AtomicU64>,
}

impl LinkInfo {
    /// Whether no byte ever went out on it.
    pub(super) fn is_untouched(&self) -> bool {
        self.written.load(Ordering::Acquire) == 0
    }
}

impl Link {
    fn new(stream: Box<dyn Wire>, remote: SocketAddr, h2: bool, opened_by: u64) -> Self {
        Self { stream: TokioIo::new(stream), h2, info: LinkInfo { opened_by, remote, written: Arc::default() } }
    }

    /// Counted before the write: a byte may be out when the write says that it failed.
    fn touch(&self) {
        self.info.written.fetch_add(1, Ordering::Release);
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.info.clone());
        if self.h2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.touch();
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.touch();
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
