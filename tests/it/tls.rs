//! The hooks door over TLS: HTTP/2, and a certificate that is replaced while connections are open.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;

use crate::app::{App, Folder, KEY, OPEN, PUSH, orders_route, shopify};
use crate::standin::{self, Standin};

/// Looks for the new certificate; the gateway itself looks every few seconds.
const LOOKS_MAX: usize = 3_000;
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_certificate_is_replaced_under_open_connections() {
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let settings = OPEN.replace("hooks: {", "hooks: { tls: { cert: cert.pem, key: key.pem },");
    let folder = Folder::new(&settings, Some(&erp));
    folder.write("workflows/push.yaml", PUSH);
    folder.write("routes/orders.yaml", &orders_route(""));
    let (first, second) = (pair(), pair());
    put(&folder, &first);
    let app = folder.start().await;
    assert!(app.hooks.starts_with("https://127.0.0.1:"), "{}", app.hooks);
    let known = [first.cert.der().clone(), second.cert.der().clone()];
    let (mut open, seen) = connect(&app, &known).await;
    assert_eq!(seen, known[0]);
    assert_eq!(deliver(&mut open, "d-1").await.status(), 202);
    put(&folder, &second);
    let mut looks = 0;
    let mut fresh = loop {
        let (fresh, seen) = connect(&app, &known).await;
        if seen == known[1] {
            break fresh;
        }
        looks += 1;
        assert!(looks < LOOKS_MAX, "the new certificate is not taken");
        tokio::time::sleep(LOOK_EVERY).await;
    };
    assert_eq!(deliver(&mut open, "d-2").await.status(), 202, "the open connection goes on");
    assert_eq!(deliver(&mut fresh, "d-3").await.status(), 202);
    // A pair that does not fit together is not taken, and the door stays open.
    folder.write("key.pem", "not a key");
    assert_eq!(connect(&app, &known).await.1, known[1]);
    drop((open, fresh));
    app.stop().await;
}

fn pair() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

fn put(folder: &Folder, pair: &CertifiedKey<KeyPair>) {
    folder.write("cert.pem", &pair.cert.pem());
    folder.write("key.pem", &pair.signing_key.serialize_pem());
}

/// A new HTTP/2 connection, and the certificate that it was opened with.
async fn connect(app: &App, known: &[CertificateDer<'static>]) -> (SendRequest<Full<Bytes>>, CertificateDer<'static>) {
    let mut roots = RootCertStore::empty();
    for certificate in known {
        roots.add(certificate.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(app.hooks.strip_prefix("https://").unwrap()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    let (_, session) = stream.get_ref();
    assert_eq!(session.alpn_protocol(), Some(b"h2".as_slice()));
    let seen = session.peer_certificates().unwrap()[0].clone();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    TaskTracker::new().spawn(connection);
    (sender, seen)
}

async fn deliver(sender: &mut SendRequest<Full<Bytes>>, id: &str) -> Response<Incoming> {
    let body = format!(r#"{{"id":"{id}"}}"#);
    let mut request = Request::post("https://localhost/hooks/orders");
    for (name, value) in shopify(KEY, id, &body) {
        request = request.header(name, value);
    }
    sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap()
}
