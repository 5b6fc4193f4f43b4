//! Opens the doors: binds, speaks TLS, bounds connections, closes gracefully.
//!
//! No actix `System` is started. A server is a plain future that any tokio runtime can drive; it starts its workers as
//! threads of their own, each with a runtime of its own. So requests are parsed, verified and accepted on the workers,
//! and nothing else is: what a handler spawned would die with its worker, so handlers spawn nothing, and the engine
//! stays on the main runtime. The two sides meet in channels that work across runtimes.
//!
//! On a graceful stop actix closes idle HTTP/1.1 connections at once, but waits for HTTP/2 ones as if each were busy.
//! So requests are counted here, and when the last has been answered the door closes whoever is still connected.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tls::{self, Certificate};
use crate::limits;

/// Why a door does not open, or did not stay open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be had.
    #[error("cannot listen on {address} for {door}: {}", help(cause, door))]
    Bind {
        door: &'static str,
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    /// What goes over a network in the clear can be read and changed on the way.
    #[error(
        "the {door} door on {address} would speak without TLS: set `listen.{door}.tls`, or `insecure: true` when a proxy in front of it speaks TLS"
    )]
    Plain { door: &'static str, address: SocketAddr },
    /// Anybody could do anything.
    #[error(
        "the control door on {0} would let everybody in: `auth: none` is for loopback addresses, set `auth.jwt` or `auth.basic`"
    )]
    Open(SocketAddr),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The server broke.
    #[error("the {door} door broke")]
    Run {
        door: &'static str,
        #[source]
        cause: io::Error,
    },
}

/// Where a door is, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub encryption: Encryption,
    /// Threads that parse, verify and accept; the machine's cores when absent.
    pub workers: Option<NonZeroUsize>,
}

/// Whether a door speaks TLS.
#[derive(Debug, Clone)]
pub enum Encryption {
    /// With this certificate; HTTP/2 and HTTP/1.1 by ALPN.
    Tls(Arc<Certificate>),
    /// HTTP/1.1 in the clear: on a loopback address, or anywhere when `insecure` is written out.
    Plain { insecure: bool },
}

/// What tells one door from another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// Its word under `listen`.
    pub(super) name: &'static str,
    /// Connections of one worker.
    pub(super) connections_max: usize,
}

/// A door that is bound: connections queue up until it runs.
pub struct Door {
    name: &'static str,
    scheme: &'static str,
    address: SocketAddr,
    server: Server,
    stop: CancellationToken,
    requests: TaskTracker,
}

impl Door {
    /// Where it listens, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is called, such as `https://127.0.0.1:8443`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Serves until the door is told to close, and requests in flight have ended.
    pub async fn run(self) -> Result<(), Error> {
        let idle = async {
            self.stop.cancelled().await;
            self.requests.close();
            self.requests.wait().await;
            tokio::time::sleep(limits::DOOR_FLUSH).await;
        };
        let ended = tokio::select! {
            ended = self.server => ended,
            () = idle => Ok(()),
        };
        ended.map_err(|cause| Error::Run { door: self.name, cause })
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Door({} at {})", self.name, self.url())
    }
}

/// Binds a door that serves what `configure` mounts, until `stop`. Every request holds a token of `requests`. Where `asks` is
/// given, clients may bring certificates, and requests find them as [`tls::ClientChain`].
pub(super) fn open(
    kind: Kind,
    settings: &Settings,
    stop: CancellationToken,
    requests: TaskTracker,
    asks: Option<tls::Asks>,
    configure: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
) -> Result<Door, Error> {
    let Settings { address, encryption, workers } = settings;
    let server = HttpServer::new(move || App::new().configure(configure.clone()))
        .workers(workers.map_or_else(cores, NonZeroUsize::get))
        .worker_max_blocking_threads(limits::DOOR_BLOCKING_THREADS_MAX)
        .max_connections(kind.connections_max)
        .backlog(limits::HTTP_BACKLOG)
        .tcp_nodelay(true)
        .keep_alive(limits::HTTP_KEEP_ALIVE)
        .client_request_timeout(limits::HTTP_HEAD_TIMEOUT)
        .tls_handshake_timeout(limits::TLS_HANDSHAKE_TIMEOUT)
        .shutdown_timeout(limits::DOOR_CLOSE_TIMEOUT.as_secs())
        .shutdown_signal(stop.clone().cancelled_owned())
        .on_connect(tls::ClientChain::keep);
    let (server, scheme) = match encryption {
        Encryption::Tls(certificate) => (server.bind_rustls_0_23(address, certificate.server_config(asks)?), "https"),
        Encryption::Plain { insecure } if *insecure || address.ip().is_loopback() => (server.bind(address), "http"),
        Encryption::Plain { .. } => return Err(Error::Plain { door: kind.name, address: *address }),
    };
    let server = server.map_err(|cause| Error::Bind { door: kind.name, address: *address, cause })?;
    let address = server.addrs().first().copied().unwrap_or(*address);
    Ok(Door { name: kind.name, scheme, address, server: server.run(), stop, requests })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn help(cause: &io::Error, door: &str) -> String {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another program listens there; stop it, or set `listen.{door}.address` to another port")
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "ports below 1024 want the capability CAP_NET_BIND_SERVICE; give it, or set `listen.{door}.address` to a higher port"
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "no interface of this machine has this address; set `listen.{door}.address` to one that it has, or to 0.0.0.0"
            )
        }
        _ => format!("check `listen.{door}.address`"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use actix_web::{HttpResponse, web};

    use super::*;

    const KIND: Kind = Kind { name: "hooks", connections_max: 16 };

    fn settings(address: &str, encryption: Encryption) -> Settings {
        Settings { address: address.parse().unwrap(), encryption, workers: NonZeroUsize::new(1) }
    }

    fn hello(config: &mut ServiceConfig) {
        config.default_service(web::to(|| async { HttpResponse::Ok().body("hello") }));
    }

    #[tokio::test]
    async fn addresses_that_cannot_be_had() {
        let plain = Encryption::Plain { insecure: false };
        let stop = CancellationToken::new();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let check = |address: &str, expected: &str| {
            let error = open(KIND, &settings(address, plain.clone()), stop.clone(), TaskTracker::new(), None, hello)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&taken.local_addr().unwrap().to_string(), "another program listens there");
        check("0.0.0.0:0", "set `listen.hooks.tls`");
    }

    #[tokio::test]
    async fn a_door_runs_on_a_plain_tokio_runtime_and_closes() {
        let stop = CancellationToken::new();
        let door = open(
            KIND,
            &settings("127.0.0.1:0", Encryption::Plain { insecure: false }),
            stop.clone(),
            TaskTracker::new(),
            None,
            hello,
        )
        .unwrap();
        assert_ne!(door.address().port(), 0);
        let url = door.url();
        let tracker = TaskTracker::new();
        let running = tracker.spawn(door.run());
        let answer = reqwest::get(&url).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "hello");
        stop.cancel();
        running.await.unwrap().unwrap();
        assert!(reqwest::get(&url).await.is_err());
    }

    #[tokio::test]
    async fn a_new_certificate_serves_new_connections_and_keeps_old_ones() {
        let folder = tempfile::TempDir::new().unwrap();
        let files = tls::PemFiles { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let write = |pair: &rcgen::CertifiedKey<rcgen::KeyPair>| {
            std::fs::write(&files.cert, pair.cert.pem()).unwrap();
            std::fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
        };
        let trusting = |pair: &rcgen::CertifiedKey<rcgen::KeyPair>| {
            let root = reqwest::Certificate::from_pem(pair.cert.pem().as_bytes()).unwrap();
            reqwest::Client::builder().tls_certs_only([root]).build().unwrap()
        };
        let used = tls::Use { door: "hooks", clock: Arc::new(crate::clock::SystemClock) };
        let (one, two) = (pair(), pair());
        write(&one);
        let certificate = Certificate::load(tls::Origin::Files(files.clone()), used).await.unwrap();
        let stop = CancellationToken::new();
        let settings = settings("127.0.0.1:0", Encryption::Tls(certificate.clone()));
        let door = open(KIND, &settings, stop.clone(), TaskTracker::new(), Some(Arc::new(|| true)), hello).unwrap();
        let url = format!("https://localhost:{}", door.address().port());
        let tracker = TaskTracker::new();
        let running = tracker.spawn(door.run());

        let old = trusting(&one);
        let answer = old.get(&url).send().await.unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_2);
        assert_eq!(answer.text().await.unwrap(), "hello");
        assert!(trusting(&two).get(&url).send().await.is_err());
        write(&two);
        certificate.reload().await.unwrap();
        assert!(trusting(&two).get(&url).send().await.is_ok());
        assert!(trusting(&one).get(&url).send().await.is_err());
        // The connection from before goes on.
        assert!(old.get(&url).send().await.is_ok());
        stop.cancel();
        running.await.unwrap().unwrap();
    }
}
