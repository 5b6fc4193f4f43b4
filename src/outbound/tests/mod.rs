//! Calls to far ends that behave, misbehave and attack, over real sockets.
#![expect(clippy::unwrap_used, reason = "tests")]

mod far_end;
mod tokens;

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{Method, Version};
use tokio::task::JoinSet;

use super::*;
use crate::domain::failure::Class;
use far_end::{Authority, FarEnd, Reply, answer, moved, ok};

/// Names of the tests and their addresses; a name with several answers gives them in turn.
#[derive(Default)]
struct Names {
    answers: HashMap<&'static str, Vec<Vec<SocketAddr>>>,
    asked: AtomicUsize,
}

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        if host == "silent.test" {
            std::future::pending::<()>().await;
        }
        let answers = self.answers.get(host).ok_or(io::ErrorKind::NotFound)?;
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(answers[asked.min(answers.len() - 1)].clone())
    }
}

fn names(answers: &[(&'static str, &[&[SocketAddr]])]) -> Arc<Names> {
    let answers = answers.iter().map(|(name, turns)| (*name, turns.iter().map(|turn| turn.to_vec()).collect()));
    Arc::new(Names { answers: answers.collect(), asked: AtomicUsize::new(0) })
}

fn allow(nets: &[&str]) -> Egress {
    Egress::new(nets.iter().map(|net| net.parse().unwrap()))
}

fn local() -> Client {
    Client::with_resolver(allow(&["127.0.0.0/8"]), names(&[]))
}

fn get(url: &str) -> Request {
    Request::new(Method::GET, url).unwrap()
}

fn post(url: &str) -> Request {
    Request { body: Body::text("body"), ..Request::new(Method::POST, url).unwrap() }
}

/// The call fails with this code, class and word about what was sent.
#[track_caller]
fn check(error: &Error, code: &str, class: Class, sent: Sent) {
    let failure = error.failure();
    assert_eq!((failure.code.as_str(), failure.class, failure.sent), (code, class, sent), "{error}");
    assert!(failure.help.is_some_and(|help| !help.is_empty()));
    let t = error.timings;
    assert!(t.dns_us + t.connect_us + t.tls_us + t.first_byte_us + t.body_us <= t.total_us, "{t:?}");
}

async fn fails(client: &Client, request: Request, code: &str, class: Class, sent: Sent) -> Error {
    let url = request.url.clone();
    let Err(error) = client.send(request).await else { panic!("{url} answered instead of {code}") };
    check(&error, code, class, sent);
    error
}

#[tokio::test]
async fn a_call_and_a_second_one_on_the_same_connection() {
    let reply = answer(201, "x-a: 1\r\nX-A: 2\r\nx-b: \u{fc}\r\n", "订单".as_bytes());
    let far = FarEnd::http(move |_, _| Reply::Keep(reply.clone())).await;
    let client = local();
    let mut request = post(&far.url("/a?b=c"));
    request.header("X-Order", b"1042").unwrap();
    let first = client.send(request.clone()).await.unwrap();
    assert_eq!((first.status.as_u16(), first.body.as_ref()), (201, "订单".as_bytes()));
    assert_eq!(first.headers[..2], [("x-a".into(), "1".into()), ("x-a".into(), "2".into())]);
    assert_eq!(first.header("X-B"), Some("ü"));
    assert_eq!((first.version, first.remote), (Version::HTTP_11, Some(far.address)));
    assert_eq!((first.url.path(), first.redirects.len()), ("/a", 0));
    assert!(!first.timings.reused && first.timings.connect_us > 0 && first.timings.first_byte_us > 0);

    let second = client.send(request).await.unwrap();
    let t = second.timings;
    assert!(t.reused);
    assert_eq!((t.dns_us, t.connect_us, t.tls_us), (0, 0, 0));
    assert!(t.first_byte_us + t.body_us <= t.total_us);
    assert_eq!(second.remote, Some(far.address));

    let sent = far.requests().remove(0);
    for line in ["POST /a?b=c HTTP/1.1\r\n", "x-order: 1042\r\n", "content-length: 4\r\n", "accept-encoding: gzip\r\n"]
    {
        assert!(sent.contains(line), "{sent}");
    }
    assert!(sent.contains("content-type: text/plain; charset=utf-8\r\n") && sent.contains("user-agent: clawhook/"));
    client.close().await;
}

#[tokio::test]
async fn private_addresses_are_refused_in_every_spelling() {
    let far = FarEnd::http(|_, _| ok("secret")).await;
    let port = far.address.port();
    let client = Client::with_resolver(Egress::default(), names(&[("inside.test", &[&[far.address]])]));
    for host in
        ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "[::1]", "0", "inside.test"]
    {
        let request = get(&format!("http://{host}:{port}/"));
        fails(&client, request, "http.egress", Class::Other, Sent::No).await;
    }
    for host in ["169.254.169.254", "168.63.129.16", "10.0.0.1", "[fd00:ec2::254]", "[64:ff9b::a9fe:a9fe]"] {
        fails(&client, get(&format!("https://{host}/")), "http.egress", Class::Other, Sent::No).await;
    }
    assert!(far.requests().is_empty());
}

#[tokio::test]
async fn refused_addresses_of_a_host_are_passed_over() {
    let far = FarEnd::http(|_, _| ok("")).await;
    let refused: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let names = names(&[("both.test", &[&[refused, far.address]])]);
    let client = Client::with_resolver(allow(&["127.0.0.0/8"]), names);
    let response = client.send(get("http://both.test/")).await.unwrap();
    assert_eq!(response.remote, Some(far.address));
    assert!(far.requests()[0].contains("host: both.test\r\n"));
}

#[tokio::test]
async fn a_name_that_turns_inside_is_refused() {
    let script = |_: usize, _: &str| Reply::Close(answer(200, "connection: close\r\n", b""));
    let outside = FarEnd::at("127.0.0.2:0", script).await;
    let inside = FarEnd::at("127.0.0.1:0", script).await;
    let names = names(&[("rebind.test", &[&[outside.address], &[inside.address]])]);
    let client = Client::with_resolver(allow(&["127.0.0.2/32"]), names);
    client.send(get("http://rebind.test/")).await.unwrap();
    fails(&client, get("http://rebind.test/"), "http.egress", Class::Other, Sent::No).await;
    assert!(inside.requests().is_empty());
}

#[tokio::test]
async fn a_redirect_cannot_lead_inside() {
    for inside in ["http://169.254.169.254/latest/", "http://127.0.0.1/", "http://[::1]/", "http://10.0.0.1/"] {
        let far = FarEnd::at("127.0.0.2:0", move |_, _| moved(302, inside)).await;
        let client = Client::with_resolver(allow(&["127.0.0.2/32"]), names(&[]));
        fails(&client, get(&far.url("/")), "http.egress", Class::Other, Sent::Maybe).await;
    }
}

#[tokio::test]
async fn redirects_are_followed_up_to_the_bound() {
    let far = FarEnd::http(|number, _| if number < 3 { moved(302, "/next") } else { ok("there") }).await;
    let client = local();
    let response = client.send(get(&far.url("/"))).await.unwrap();
    assert_eq!((response.body.as_ref(), response.redirects.len(), response.url.path()), (&b"there"[..], 3, "/next"));

    let far = FarEnd::http(|_, _| moved(302, "/again")).await;
    fails(&client, get(&far.url("/")), "http.redirect", Class::Other, Sent::Maybe).await;
    assert_eq!(far.requests().len(), limits::REDIRECTS_MAX + 1);
    let as_it_is = Request { redirects_max: 0, ..get(&far.url("/")) };
    assert_eq!(client.send(as_it_is).await.unwrap().status.as_u16(), 302);
}

#[tokio::test]
async fn secrets_do_not_follow_to_another_origin() {
    let other = FarEnd::http(|_, _| ok("")).await;
    let location = other.url("/");
    let far = FarEnd::http(move |_, _| moved(307, &location)).await;
    let mut request = post(&far.url("/"));
    request.header("authorization", b"Bearer s3cr3t").unwrap();
    request.secret_header("x-key", b"s3cr3t").unwrap();
    request.header("x-plain", b"1").unwrap();
    let client = local();
    client.send(request.clone()).await.unwrap();
    assert!(far.requests()[0].contains("Bearer s3cr3t") && far.requests()[0].contains("x-key"));
    let arrived = other.requests().remove(0);
    assert!(!arrived.contains("s3cr3t") && arrived.contains("x-plain: 1"), "{arrived}");
    assert!(arrived.starts_with("POST / ") && arrived.ends_with("body"));

    request.body = request.body.sensitive();
    fails(&client, request, "http.redirect", Class::Other, Sent::Maybe).await;
    assert_eq!(other.requests().len(), 1);
}

#[tokio::test]
async fn https_is_not_left_for_http() {
    let plain = FarEnd::http(|_, _| ok("")).await;
    let location = plain.url("/");
    let authority = Authority::new();
    let far = FarEnd::https(&authority, "127.0.0.1", move |_, _| moved(302, &location)).await;
    let tls = Tls { ca_pem: Some(authority.pem.clone()) };
    let request = Request { tls, ..get(&format!("https://{}/", far.address)) };
    fails(&local(), request, "http.redirect", Class::Other, Sent::Maybe).await;
    assert!(plain.requests().is_empty());
}

#[tokio::test]
async fn tls_is_verified_measured_and_pooled_by_trust() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let far = FarEnd::https(&authority, "shop.test", |_, _| ok("")).await;
    let here: &[&[SocketAddr]] = &[&[far.address]];
    let names = names(&[("shop.test", here), ("other.test", here)]);
    let client = Client::with_resolver(allow(&["127.0.0.0/8"]), names);
    let call = |host: &str, authority: &Authority| {
        let tls = Tls { ca_pem: Some(authority.pem.clone()) };
        Request { tls, ..get(&format!("https://{host}/")) }
    };
    let first = client.send(call("shop.test", &authority)).await.unwrap();
    assert!(first.timings.tls_us > 0 && !first.timings.reused);
    let second = client.send(call("shop.test", &authority)).await.unwrap();
    assert!(second.timings.tls_us == 0 && second.timings.reused);
    // The kept connection is not for those who do not trust its certificate.
    fails(&client, call("shop.test", &stranger), "http.tls", Class::Other, Sent::No).await;
    fails(&client, call("other.test", &authority), "http.tls", Class::Other, Sent::No).await;
    let mut unusable = call("shop.test", &authority);
    unusable.tls.ca_pem = Some(Arc::from(&b"nonsense"[..]));
    fails(&client, unusable, "http.trust", Class::Other, Sent::No).await;
    assert_eq!(far.requests().len(), 2);
}

#[actix_web::test]
async fn http2_is_spoken_when_offered() {
    use actix_web::{App, HttpRequest, HttpServer, web};
    let authority = Authority::new();
    let hello = async |request: HttpRequest| format!("{:?} {}", request.version(), request.uri().path());
    let server = HttpServer::new(move || App::new().default_service(web::to(hello)))
        .workers(1)
        .disable_signals()
        .bind_rustls_0_23("127.0.0.1:0", authority.server("127.0.0.1"))
        .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { server.await.unwrap() });
    let client = local();
    let tls = Tls { ca_pem: Some(authority.pem.clone()) };
    let request = Request { tls, ..get(&format!("https://{address}/a?b=1")) };
    let first = client.send(request.clone()).await.unwrap();
    assert_eq!((first.version, first.body.as_ref()), (Version::HTTP_2, &b"HTTP/2.0 /a"[..]));
    assert!(!first.timings.reused && first.timings.tls_us > 0);
    let (second, third) = tokio::join!(client.send(request.clone()), client.send(request));
    assert!(second.unwrap().timings.reused && third.unwrap().timings.reused);
    client.close().await;
    handle.stop(false).await;
}

#[tokio::test]
async fn answers_are_capped() {
    let large = "x".repeat(100_000);
    let zipped = gzip(&vec![0; 10 * 1024 * 1024]);
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n186a0\r\n{large}\r\n0\r\n\r\n");
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n";
    for reply in [
        answer(200, "", large.as_bytes()),
        chunked.into_bytes(),
        announced.as_bytes().to_vec(),
        answer(200, "content-encoding: gzip\r\n", &zipped),
    ] {
        let far = FarEnd::http(move |_, _| Reply::Hang(reply.clone())).await;
        let request = Request { response_bytes_max: 50_000, ..get(&far.url("/")) };
        fails(&local(), request, "http.too_large", Class::Other, Sent::Maybe).await;
    }
    let far = FarEnd::http(|_, _| ok(&"x".repeat(50_000))).await;
    let request = Request { response_bytes_max: 50_000, ..get(&far.url("/")) };
    assert_eq!(local().send(request).await.unwrap().body.len(), 50_000);
}

#[tokio::test]
async fn gzip_is_undone() {
    let twice = [gzip(b"one "), gzip(b"two")].concat();
    for (body, expected) in [(twice, "one two"), (Vec::new(), "")] {
        let reply = answer(200, "content-encoding: GZIP\r\n", &body);
        let far = FarEnd::http(move |_, _| Reply::Keep(reply.clone())).await;
        assert_eq!(local().send(get(&far.url("/"))).await.unwrap().body, expected);
    }
    let damaged = answer(200, "content-encoding: gzip\r\n", &gzip(b"one")[..12]);
    let far = FarEnd::http(move |_, _| Reply::Keep(damaged.clone())).await;
    fails(&local(), get(&far.url("/")), "http.protocol", Class::Other, Sent::Maybe).await;
}

#[tokio::test]
async fn answers_without_a_body_may_announce_one() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\ncontent-encoding: gzip\r\n\r\n";
    let far = FarEnd::http(|_, _| Reply::Keep(head.into())).await;
    let request = Request { method: Method::HEAD, ..get(&far.url("/")) };
    let response = local().send(request).await.unwrap();
    assert_eq!((response.body.len(), response.header("content-length")), (0, Some("99999999")));
}

#[tokio::test]
async fn time_runs_out_in_each_part() {
    let soon = Duration::from_millis(30);
    let silent = FarEnd::http(|_, _| Reply::Hang(Vec::new())).await;
    let half = FarEnd::http(|_, _| Reply::Hang(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".into())).await;
    let short = |url: &str| Request { timeout: soon, ..post(url) };
    let slow_start = |url: &str| Request { connect_timeout: soon, ..post(url) };
    let tls = format!("https://{}/", silent.address);
    let trust = Authority::new();
    let slow_tls = Request { tls: Tls { ca_pem: Some(trust.pem.clone()) }, ..slow_start(&tls) };
    for (request, phase, class, sent) in [
        (short("http://silent.test/"), Phase::Dns, Class::Connect, Sent::No),
        (slow_start("http://silent.test/"), Phase::Dns, Class::Connect, Sent::No),
        (slow_tls, Phase::Tls, Class::Connect, Sent::No),
        (short(&silent.url("/")), Phase::Response, Class::Timeout, Sent::Maybe),
        (short(&half.url("/")), Phase::Body, Class::Timeout, Sent::Maybe),
    ] {
        let error = fails(&local(), request, "http.timeout", class, sent).await;
        assert!(matches!(*error.cause, Cause::Timeout { phase: seen, .. } if seen == phase), "{error}");
    }
}

#[tokio::test]
async fn what_breaks_says_whether_it_was_sent() {
    let client = local();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let request = post(&format!("http://{closed}/?key=s3cr3t"));
    let error = fails(&client, request, "http.connect", Class::Connect, Sent::No).await;
    assert!(!error.to_string().contains("s3cr3t"));
    assert_eq!((error.remote, error.place), (Some(closed), closed.to_string()));
    fails(&client, post("http://nowhere.test/"), "http.dns", Class::Connect, Sent::No).await;

    for (reply, code, class) in [
        (b"".to_vec(), "http.lost", Class::Connect),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec(), "http.lost", Class::Connect),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec(), "http.protocol", Class::Other),
        (answer(200, &format!("x: {}\r\n", "x".repeat(300_000)), b""), "http.protocol", Class::Other),
    ] {
        let far = FarEnd::http(move |_, _| Reply::Close(reply.clone())).await;
        fails(&client, post(&far.url("/")), code, class, Sent::Maybe).await;
        assert_eq!(far.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced() {
    let far = FarEnd::http(|_, _| Reply::Close(answer(200, "", b""))).await;
    let client = local();
    client.send(post(&far.url("/"))).await.unwrap();
    // The far end closes without having said so; wait until our side has seen it.
    while !client.0.tasks.tracker.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!client.send(post(&far.url("/"))).await.unwrap().timings.reused);
    assert_eq!(far.requests().len(), 2);
}

#[tokio::test]
async fn only_what_is_idempotent_is_sent_twice() {
    // The second request is read, and the connection closed instead of an answer.
    let script = |number: usize, _: &str| if number == 1 { Reply::Close(Vec::new()) } else { ok("") };
    let far = FarEnd::http(script).await;
    let client = local();
    client.send(get(&far.url("/1"))).await.unwrap();
    client.send(get(&far.url("/2"))).await.unwrap();
    assert_eq!(far.requests().len(), 3);

    let far = FarEnd::http(script).await;
    client.send(post(&far.url("/1"))).await.unwrap();
    let error = fails(&client, post(&far.url("/2")), "http.lost", Class::Connect, Sent::Maybe).await;
    assert!(error.timings.reused);
    assert_eq!(far.requests().len(), 2);
}

#[tokio::test]
async fn a_closed_client_leaves_nothing_behind() {
    let far = FarEnd::http(|_, _| Reply::Hang(Vec::new())).await;
    let client = local();
    let (call, ()) = tokio::join!(client.send(post(&far.url("/"))), async {
        while far.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        client.close().await;
    });
    check(&call.unwrap_err(), "http.lost", Class::Connect, Sent::Maybe);
    assert!(client.0.tasks.tracker.is_empty());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
