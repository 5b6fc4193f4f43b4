//! Far ends on loopback: they answer from a script and keep what they were asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What a far end does once it has read a request.
#[derive(Clone)]
pub(super) enum Reply {
    /// Write this and take the next request on the same connection.
    Keep(Vec<u8>),
    /// Write this and close, without having said so.
    Close(Vec<u8>),
    /// Write this and stay silent for ever.
    Hang(Vec<u8>),
}

/// A 200 with this body.
pub(super) fn ok(body: &str) -> Reply {
    Reply::Keep(answer(200, "", body.as_bytes()))
}

/// An answer with these header lines and this body, of the right length.
pub(super) fn answer(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} Status\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A redirect.
pub(super) fn moved(status: u16, location: &str) -> Reply {
    Reply::Keep(answer(status, &format!("location: {location}\r\n"), b"moved"))
}

type Script = Arc<dyn Fn(usize, &str) -> Reply + Send + Sync>;

/// A far end; it stops when it is dropped.
pub(super) struct FarEnd {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl FarEnd {
    /// `script` gets the number of the request, from 0, and its text.
    pub(super) async fn http(script: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start("127.0.0.1:0", None, Arc::new(script)).await
    }

    pub(super) async fn at(address: &str, script: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(address, None, Arc::new(script)).await
    }

    pub(super) async fn https(
        authority: &Authority,
        host: &str,
        script: impl Fn(usize, &str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(authority.server(host)));
        Self::start("127.0.0.1:0", Some(acceptor), Arc::new(script)).await
    }

    async fn start(address: &str, tls: Option<TlsAcceptor>, script: Script) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let seen = requests.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, script, seen) = (tls.clone(), script.clone(), seen.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(tcp, script, seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                serve(stream, script, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, requests, _tasks: tasks }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The texts of the requests so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, script: Script, seen: Arc<Mutex<Vec<String>>>) {
    while let Some(request) = read(&mut stream).await {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(request.clone());
            seen.len() - 1
        };
        let reply = script(number, &request);
        let (Reply::Keep(bytes) | Reply::Close(bytes) | Reply::Hang(bytes)) = &reply;
        if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        match reply {
            Reply::Keep(_) => {}
            Reply::Close(_) => {
                stream.shutdown().await.ok();
                return;
            }
            Reply::Hang(_) => std::future::pending().await,
        }
    }
}

/// One request with its body, as text; `None` when the other side is gone.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// A certificate authority made for one test.
pub(super) struct Authority {
    pub(super) pem: Arc<[u8]>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem().into_bytes().into(), issuer: Issuer::new(params, key) }
    }

    /// The settings of a server that is `host`.
    pub(super) fn server(&self, host: &str) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }
}
