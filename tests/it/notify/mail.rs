//! Mail: whole SMTP conversations over real sockets, with STARTTLS, TLS and sign-in, and servers that refuse, come
//! later, or hang up after the last line.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use clawhook::clock::TestClock;
use clawhook::domain::failure::Sent;
use clawhook::domain::state::State;
use data_encoding::BASE64;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{failure, telling, tells};
use crate::kit::{Kit, START, check_state, output, standing};

/// How a server behaves.
#[derive(Debug, Clone, Copy, Default)]
struct Ways {
    /// TLS from the first byte.
    secure: bool,
    /// Offers no STARTTLS.
    bare: bool,
    /// Hangs up after the last line of the mail, before it says anything.
    hangs_up: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mail {
    encrypted: bool,
    user: Option<String>,
    from: String,
    to: Vec<String>,
    lines: Vec<String>,
}

impl Mail {
    fn header(&self, name: &str) -> String {
        let mut found = String::new();
        for line in self.lines.iter().take_while(|line| !line.is_empty()) {
            if line.starts_with(' ') && !found.is_empty() {
                found.push_str(line.trim_start());
            } else if let Some(value) = line.strip_prefix(&format!("{name}: ")) {
                found.push_str(value);
            } else if !found.is_empty() {
                break;
            }
        }
        found
    }

    /// The parts of the body, decoded.
    fn text(&self) -> String {
        let all = self.lines.join("\n");
        let decoded = |part: &str| {
            let (head, body) = part.split_once("\n\n")?;
            if head.contains("base64") {
                return String::from_utf8(BASE64.decode(body.replace('\n', "").as_bytes()).ok()?).ok();
            }
            Some(unquoted(body))
        };
        let boundary = all.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
        let mark = format!("--{boundary}");
        let parts = all.split(&mark).skip(1);
        let text: String = parts.filter_map(|part| decoded(part.trim_matches(['\n', '-']))).collect();
        text.replace('\r', "")
    }
}

/// Quoted-printable (RFC 2045 section 6.7) as far as mails of ours need it.
fn unquoted(text: &str) -> String {
    let text = text.replace("=\n", "");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let code = (*first == b'=').then(|| others.get(..2)).flatten();
        if let Some(byte) = code.and_then(|code| data_encoding::HEXUPPER.decode(code).ok()) {
            bytes.extend(byte);
            rest = &others[2..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8(bytes).unwrap()
}

struct Server {
    port: u16,
    mails: Arc<Mutex<Vec<Mail>>>,
    /// Answers instead of the usual ones: the start of a command, and what is said.
    answers: Arc<Mutex<Vec<(&'static str, &'static str)>>>,
    _folder: tempfile::TempDir,
    ca: String,
}

impl Server {
    async fn start(ways: Ways) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (acceptor, ca) = certificate();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, ca).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mails, answers) = (Arc::<Mutex<Vec<Mail>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (kept, said) = (Arc::clone(&mails), Arc::clone(&answers));
        drop(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, kept, said) = (acceptor.clone(), Arc::clone(&kept), Arc::clone(&said));
                drop(tokio::spawn(async move { talk(stream, ways, acceptor, &kept, &said).await }));
            }
        }));
        Self { port, mails, answers, ca: path.display().to_string(), _folder: folder }
    }

    fn kit(&self, more: &str, workflow: &str) -> Kit {
        let channel = format!(
            "  ops: {{ type: email, host: localhost, port: {}, from: 'Clawhook 告警 <alerts@shop.example>', \
             to: [ops@shop.example, boss@shop.example], tls: {{ ca: '{}' }}{more} }}",
            self.port, self.ca
        );
        Kit::with_channels(&[workflow], "", TestClock::at(START), telling(&channel, &[("password", "hush-mail-hush")]))
    }
}

/// A certificate for `localhost`, and the authority that signed it.
fn certificate() -> (TlsAcceptor, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), ca.pem())
}

trait Pipe: AsyncRead + AsyncWrite + Unpin + Send {}
impl<P: AsyncRead + AsyncWrite + Unpin + Send> Pipe for P {}

async fn talk(
    stream: TcpStream,
    ways: Ways,
    acceptor: TlsAcceptor,
    mails: &Mutex<Vec<Mail>>,
    answers: &Mutex<Vec<(&'static str, &'static str)>>,
) -> Option<()> {
    let mut encrypted = ways.secure;
    let pipe: Box<dyn Pipe> =
        if ways.secure { Box::new(acceptor.accept(stream).await.ok()?) } else { Box::new(stream) };
    let mut pipe = BufReader::new(pipe);
    pipe.write_all(b"220 localhost ESMTP\r\n").await.ok()?;
    let (mut user, mut from, mut to) = (None, String::new(), Vec::new());
    loop {
        let line = line(&mut pipe).await?;
        let word = line.split([' ', ':']).next().unwrap().to_uppercase();
        let set = {
            let mut answers = answers.lock().unwrap();
            let place = answers.iter().position(|(command, _)| line.starts_with(command));
            place.map(|place| answers.remove(place).1)
        };
        if let Some(answer) = set {
            pipe.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
            continue;
        }
        let answer = match word.as_str() {
            "EHLO" if encrypted => "250-localhost\r\n250 AUTH PLAIN LOGIN".to_owned(),
            "EHLO" if ways.bare => "250 localhost".to_owned(),
            "EHLO" => "250-localhost\r\n250 STARTTLS".to_owned(),
            "STARTTLS" => {
                pipe.write_all(b"220 go on\r\n").await.ok()?;
                pipe = BufReader::new(Box::new(acceptor.accept(pipe.into_inner()).await.ok()?) as Box<dyn Pipe>);
                encrypted = true;
                continue;
            }
            "AUTH" => {
                let told = BASE64.decode(line.split(' ').nth(2).unwrap_or_default().as_bytes()).unwrap_or_default();
                let told = String::from_utf8(told).unwrap();
                let parts: Vec<_> = told.split('\0').collect();
                if encrypted && parts.get(2) == Some(&"hush-mail-hush") {
                    user = Some(parts[1].to_owned());
                    "235 welcome".to_owned()
                } else {
                    "535 no".to_owned()
                }
            }
            "MAIL" => {
                line.clone_into(&mut from);
                "250 ok".to_owned()
            }
            "RCPT" => {
                to.push(line.clone());
                "250 ok".to_owned()
            }
            "DATA" => {
                pipe.write_all(b"354 go on\r\n").await.ok()?;
                let mut lines = Vec::new();
                loop {
                    let line = self::line(&mut pipe).await?;
                    if line == "." {
                        break;
                    }
                    // Dot-stuffing (RFC 5321 section 4.5.2).
                    lines.push(line.strip_prefix('.').map_or(line.clone(), str::to_owned));
                }
                let mail = Mail { encrypted, user: user.clone(), from: from.clone(), to: to.clone(), lines };
                mails.lock().unwrap().push(mail);
                if ways.hangs_up {
                    return None;
                }
                "250 queued as 4Q0".to_owned()
            }
            "QUIT" => {
                pipe.write_all(b"221 bye\r\n").await.ok()?;
                return Some(());
            }
            _ => "250 ok".to_owned(),
        };
        pipe.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
}

async fn line(pipe: &mut BufReader<Box<dyn Pipe>>) -> Option<String> {
    let mut line = String::new();
    let read = pipe.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

const TELL: &str = "{ channel: ops, title: '订单 ${{ inputs.order }} 失败', text: \".第一行\\n<b>ERP</b>\", level: error, \
                    table: { rows: '${{ inputs.rows }}' } }";
const LOGIN: &str = ", username: alerts, password: { secret_ref: password }";

#[tokio::test]
async fn a_mail_arrives_whole_after_starttls_and_sign_in() {
    for (ways, more) in [(Ways::default(), ""), (Ways { secure: true, ..Ways::default() }, ", encryption: tls")] {
        let server = Server::start(ways).await;
        let kit = server.kit(&format!("{more}{LOGIN}"), &tells(TELL));
        let run = kit.run("tell", json!({ "rows": [{ "sku": "A<1", "缺口": 5 }] })).await;
        check_state(&run, State::Succeeded);
        assert_eq!(output(&run, "tell")["said"], json!({ "said": "queued as 4Q0", "refused_recipients": [] }));
        let mail = server.mails.lock().unwrap()[0].clone();
        assert_eq!((mail.encrypted, mail.user.as_deref()), (true, Some("alerts")));
        assert_eq!((mail.from.as_str(), mail.to.len()), ("MAIL FROM:<alerts@shop.example>", 2));
        let subject = mail.header("Subject");
        let encoded: String = subject
            .split("=?utf-8?b?")
            .skip(1)
            .map(|word| String::from_utf8(BASE64.decode(word.split("?=").next().unwrap().as_bytes()).unwrap()).unwrap())
            .collect();
        assert!(subject.starts_with("[Error]") && encoded.contains("订单"), "{subject}: {encoded}");
        assert_eq!(mail.header("Message-ID"), format!("<{}-tell@shop.example>", run.id));
        assert_eq!(mail.header("Date"), "Sun, 22 Nov 2026 09:00:00 +0000");
        let text = mail.text();
        assert!(text.contains(".第一行\n<b>ERP</b>") && text.contains("- sku: A<1, 缺口: 5"), "{text}");
        assert!(text.contains("&lt;b&gt;ERP") && text.contains("A&lt;1</td>"), "{text}");
        assert!(mail.lines.iter().all(|line| line.len() <= 998 && line.is_ascii()));
    }
}

#[tokio::test]
async fn nothing_is_said_in_the_clear() {
    let server = Server::start(Ways { bare: true, ..Ways::default() }).await;
    let kit = server.kit(LOGIN, &tells(TELL));
    let run = kit.run("tell", json!({})).await;
    assert!(failure(&run).message.contains("offers no STARTTLS"), "{:?}", run.failure);
    // A certificate that nobody signed.
    let server = Server::start(Ways::default()).await;
    let other = Server::start(Ways::default()).await;
    std::fs::copy(&other.ca, &server.ca).unwrap();
    let run = server.kit(LOGIN, &tells(TELL)).run("tell", json!({})).await;
    assert_eq!(failure(&run).code, "notify.refused");
    assert_eq!(server.mails.lock().unwrap().len(), 0);
    // To this machine it may.
    let server = Server::start(Ways { bare: true, ..Ways::default() }).await;
    let run = server.kit(", encryption: none", &tells(TELL)).run("tell", json!({})).await;
    check_state(&run, State::Succeeded);
}

#[tokio::test]
async fn a_server_that_says_later_is_asked_later() {
    let server = Server::start(Ways::default()).await;
    server.answers.lock().unwrap().push(("MAIL", "451 greylisted, come again"));
    let kit = server.kit(LOGIN, &tells(TELL));
    let id = kit.trigger("tell", json!({})).await;
    kit.settle().await;
    assert_eq!(standing(&kit.read(id).await, "tell"), "paused");
    kit.pass(Duration::from_secs(6)).await;
    check_state(&kit.read(id).await, State::Succeeded);
    assert_eq!(server.mails.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn recipients_are_refused_one_by_one() {
    let server = Server::start(Ways::default()).await;
    server.answers.lock().unwrap().push(("RCPT TO:<boss", "550 no such user"));
    let run = server.kit(LOGIN, &tells(TELL)).run("tell", json!({})).await;
    check_state(&run, State::Succeeded);
    assert_eq!(output(&run, "tell")["said"]["refused_recipients"], json!(["boss@shop.example"]));
    server.answers.lock().unwrap().extend([("RCPT TO:<boss", "550 gone"), ("RCPT TO:<ops", "550 gone too")]);
    let run = server.kit(LOGIN, &tells(TELL)).run("tell", json!({})).await;
    assert!(failure(&run).message.contains("ops@shop.example"), "{:?}", run.failure);
    server.answers.lock().unwrap().push(("AUTH", "535 5.7.8 hush-mail-hush is wrong"));
    let kit = server.kit(LOGIN, &tells(TELL));
    let run = kit.run("tell", json!({})).await;
    let message = &failure(&run).message;
    assert!(message.contains("the sign-in") && !message.contains("hush-mail"), "{message}");
    let log: Vec<Value> = kit.log(run.id).await.iter().map(|entry| json!(entry.event)).collect();
    assert!(!json!(log).to_string().contains("hush-mail"));
}

#[tokio::test]
async fn a_server_that_hangs_up_after_the_last_line_may_have_the_mail() {
    let server = Server::start(Ways { hangs_up: true, ..Ways::default() }).await;
    let run = server.kit(LOGIN, &tells(TELL)).run("tell", json!({})).await;
    let failure = failure(&run);
    assert_eq!((failure.code.as_str(), failure.sent), ("notify.unknown", Sent::Maybe));
    assert_eq!(server.mails.lock().unwrap().len(), 1);
}
