//! A stand-in for Azure SQL that speaks as much TDS as a driver needs: TLS inside the pre-login, the login with its
//! answers, batches and `sp_executesql`, tables of rows, errors, and a connection that breaks. It runs no SQL: what it is
//! asked it writes down, and a test says what it answers.
//! <https://learn.microsoft.com/openspecs/windows_protocols/ms-tds/>

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What was asked, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    /// `{ user, password, token, database, app }`.
    Login(Value),
    Batch(String),
    /// A statement, the types of its parameters as declared, and their values.
    Call(String, String, Vec<Value>),
}

/// What happens at the door.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    Open,
    /// The server speaks no TLS.
    Plain,
    Refused(u32, &'static str),
    /// The login is sent on.
    Elsewhere(String, u16),
}

/// What a statement is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// So many rows were met.
    Met(u64),
    /// Columns, each with its type, and rows: bytes as they go over the wire.
    Table(Vec<(&'static str, Vec<u8>)>, Vec<Vec<u8>>),
    Error(u32, &'static str),
    /// The table, and then nothing: the connection is gone.
    Broken(Vec<(&'static str, Vec<u8>)>, Vec<Vec<u8>>),
}

type Answers = Arc<dyn Fn(&str) -> Option<Reply> + Send + Sync>;

pub(crate) struct Tds {
    pub(crate) port: u16,
    /// The authority of its certificate, PEM.
    pub(crate) authority: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Tds {
    /// `answers` knows what the test's own statements are answered; ours are answered well.
    pub(crate) async fn start(door: Door, answers: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        // As the real ones: 1.3 does not go inside the pre-login.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (acceptor, answers): (_, Answers) = (TlsAcceptor::from(Arc::new(config)), Arc::new(answers));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let caller = Caller { asked: Arc::clone(&seen), answers: Arc::clone(&answers), door: door.clone() };
                let acceptor = acceptor.clone();
                // A caller that goes away is no failure of ours.
                tokio::spawn(async move { drop(caller.serve(stream, acceptor).await) });
            }
        });
        Self { port, authority: cert.pem(), asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The statements that were asked, without values.
    pub(crate) fn statements(&self) -> Vec<String> {
        let text = |asked: Asked| match asked {
            Asked::Login(_) => None,
            Asked::Batch(sql) | Asked::Call(sql, ..) => Some(sql),
        };
        self.asked().into_iter().filter_map(text).collect()
    }
}

struct Caller {
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Answers,
    door: Door,
}

const BATCH: u8 = 1;
const CALL: u8 = 3;
const ANSWER: u8 = 4;
const LOGIN: u8 = 16;
const PRELOGIN: u8 = 18;

impl Caller {
    async fn serve(self, mut stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
        let (kind, hello) = message(&mut stream).await?;
        assert_eq!(kind, PRELOGIN);
        let wants_token = hello.chunks(5).take_while(|option| option[0] != 0xff).any(|option| option[0] == 6);
        let encryption = if matches!(self.door, Door::Plain) { 2 } else { 3 };
        let mut options = vec![(0, vec![16, 0, 0, 0, 0, 0]), (1, vec![encryption])];
        if wants_token {
            options.push((6, vec![1]));
        }
        let mut place = u16::try_from(options.len() * 5 + 1).unwrap();
        let (mut head, mut body) = (Vec::new(), Vec::new());
        for (option, value) in options {
            let length = u16::try_from(value.len()).unwrap();
            head.push(option);
            head.extend(place.to_be_bytes());
            head.extend(length.to_be_bytes());
            body.extend(value);
            place += length;
        }
        head.push(0xff);
        send(&mut stream, &[head, body].concat()).await?;
        if matches!(self.door, Door::Plain) {
            return message(&mut stream).await.map(|_| ());
        }
        let inside = Arc::new(Mutex::new(true));
        let wrapped = Wrapped { stream, inside: Arc::clone(&inside), head: Vec::new(), left: 0, held: Vec::new() };
        let mut stream = acceptor.accept(wrapped).await?;
        *inside.lock().unwrap() = false;
        let (kind, login) = message(&mut stream).await?;
        assert_eq!(kind, LOGIN);
        self.note(Asked::Login(read_login(&login)));
        let welcome = match &self.door {
            Door::Refused(number, text) => [error(*number, text), done(2, 0)].concat(),
            Door::Elsewhere(host, port) => [welcome(), elsewhere(host, *port), done(0, 0)].concat(),
            _ => [welcome(), done(0, 0)].concat(),
        };
        send(&mut stream, &welcome).await?;
        loop {
            let (kind, body) = message(&mut stream).await?;
            // Headers that hold for the whole message come first: their length is the first number.
            let headers = usize::try_from(u32::from_le_bytes(body[..4].try_into().unwrap())).unwrap();
            let body = &body[headers..];
            let sql = match kind {
                BATCH => {
                    self.note(Asked::Batch(utf16(body)));
                    utf16(body)
                }
                CALL => self.read_call(body),
                other => panic!("a message of the kind {other}"),
            };
            match self.answer(&sql) {
                Reply::Met(rows) => send(&mut stream, &done(0x10, rows)).await?,
                Reply::Error(number, text) => send(&mut stream, &[error(number, text), done(2, 0)].concat()).await?,
                Reply::Table(columns, rows) => {
                    let count = u64::try_from(rows.len()).unwrap();
                    send(&mut stream, &[table(&columns, &rows), done(0x10, count)].concat()).await?;
                }
                Reply::Broken(columns, rows) => {
                    // One message that never ends.
                    let body = table(&columns, &rows);
                    stream.write_all(&[&header(ANSWER, 0, body.len())[..], &body].concat()).await?;
                    stream.flush().await?;
                    return Ok(());
                }
            }
        }
    }

    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
    }

    fn answer(&self, sql: &str) -> Reply {
        (self.answers)(sql).unwrap_or_else(|| match sql {
            sql if sql.contains("@@TRANCOUNT") => {
                let columns = vec![("open_ones", vec![0x26, 4]), ("state", vec![0x26, 2])];
                Reply::Table(columns, vec![[vec![4, 1, 0, 0, 0], vec![2, 1, 0]].concat()])
            }
            sql if sql.contains("OBJECT_ID") => Reply::Table(vec![("there", vec![0x26, 4])], vec![vec![0]]),
            sql if sql.starts_with("INSERT INTO clawhook_once") || sql.starts_with("UPDATE clawhook_once") => {
                Reply::Met(1)
            }
            _ => Reply::Met(0),
        })
    }

    /// `sp_executesql`: the statement, what its parameters are, and their values.
    fn read_call(&self, body: &[u8]) -> String {
        assert_eq!(body[..4], [0xff, 0xff, 10, 0], "another procedure than `sp_executesql`");
        let mut rest = &body[6..];
        let mut values = Vec::new();
        while !rest.is_empty() {
            // A name, and what kind of parameter it is.
            rest = &rest[1 + usize::from(rest[0]) * 2 + 1..];
            let (value, after) = read_value(rest);
            values.push(value);
            rest = after;
        }
        let sql = values[0].as_str().unwrap().to_owned();
        let types = values.get(1).and_then(Value::as_str).unwrap_or_default().to_owned();
        self.note(Asked::Call(sql.clone(), types, values.split_off(2)));
        sql
    }
}

/// A value with its type before it.
fn read_value(bytes: &[u8]) -> (Value, &[u8]) {
    let short = |at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
    match bytes[0] {
        // Nothing, of no type; what it is to be is declared.
        0x1f => (Value::Null, &bytes[1..]),
        // Whole numbers and bits: the width, and the width again or 0.
        of @ (0x26 | 0x68) => {
            let length = usize::from(bytes[2]);
            let mut wide = [0; 8];
            wide[..length].copy_from_slice(&bytes[3..3 + length]);
            let value = match (of, length) {
                (_, 0) => Value::Null,
                (0x68, _) => Value::Bool(wide[0] == 1),
                (_, 4) => json!(i32::from_le_bytes(wide[..4].try_into().unwrap())),
                _ => json!(i64::from_le_bytes(wide)),
            };
            (value, &bytes[3 + length..])
        }
        // Decimals: width, digits, digits behind the point; then length, sign and the number without its point.
        0x6a | 0x6c => {
            let (scale, length) = (usize::from(bytes[3]), usize::from(bytes[4]));
            let mut wide = [0; 16];
            wide[..length - 1].copy_from_slice(&bytes[6..5 + length]);
            let mut text = format!("{:0width$}", u128::from_le_bytes(wide), width = scale + 1);
            text.insert(text.len() - scale, '.');
            (json!(format!("{}{text}", if bytes[5] == 1 { "" } else { "-" })), &bytes[5 + length..])
        }
        // Text: the most that it takes, a collation; long ones come in pieces.
        0xe7 if short(1) == 0xffff => {
            if bytes[8..16] == [0xff; 8] {
                return (Value::Null, &bytes[16..]);
            }
            let (mut rest, mut text) = (&bytes[16..], Vec::new());
            loop {
                let length = usize::try_from(u32::from_le_bytes(rest[..4].try_into().unwrap())).unwrap();
                text.extend_from_slice(&rest[4..4 + length]);
                rest = &rest[4 + length..];
                if length == 0 {
                    return (json!(utf16(&text)), rest);
                }
            }
        }
        0xe7 => match short(8) {
            0xffff => (Value::Null, &bytes[10..]),
            length => (json!(utf16(&bytes[10..10 + length])), &bytes[10 + length..]),
        },
        other => panic!("a parameter of the type {other:#x}"),
    }
}

fn read_login(body: &[u8]) -> Value {
    let short = |at: usize| usize::from(u16::from_le_bytes(body[at..at + 2].try_into().unwrap()));
    let field = |at: usize| body[short(at)..short(at) + short(at + 2) * 2].to_vec();
    // The password is turned around, not hidden: TLS hides it.
    let password: Vec<u8> = field(44).into_iter().map(|byte| (byte ^ 0xa5).rotate_left(4)).collect();
    let token = (body[27] & 0x10 != 0).then(|| {
        let at = short(56);
        let at = usize::try_from(u32::from_le_bytes(body[at..at + 4].try_into().unwrap())).unwrap();
        assert_eq!(body[at], 2, "the first feature is not the token");
        let length = usize::try_from(u32::from_le_bytes(body[at + 6..at + 10].try_into().unwrap())).unwrap();
        utf16(&body[at + 10..at + 10 + length])
    });
    json!({
        "user": utf16(&field(40)),
        "password": utf16(&password),
        "app": utf16(&field(48)),
        "database": utf16(&field(68)),
        "token": token,
    })
}

/// All packets of one message, joined.
async fn message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let mut body = Vec::new();
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head).await?;
        let from = body.len();
        body.resize(from + usize::from(u16::from_be_bytes([head[2], head[3]])) - 8, 0);
        stream.read_exact(&mut body[from..]).await?;
        if head[1] & 1 == 1 {
            return Ok((head[0], body));
        }
    }
}

fn header(kind: u8, last: u8, length: usize) -> [u8; 8] {
    let [high, low] = u16::try_from(length + 8).unwrap().to_be_bytes();
    [kind, last, high, low, 0, 0, 1, 0]
}

/// A message, in packets of the size that nobody asked to change.
async fn send(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> io::Result<()> {
    let mut packets = body.chunks(4088).peekable();
    while let Some(packet) = packets.next() {
        let last = u8::from(packets.peek().is_none());
        stream.write_all(&[&header(ANSWER, last, packet.len())[..], packet].concat()).await?;
    }
    stream.flush().await
}

fn utf16(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes.chunks(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
    String::from_utf16(&units).unwrap()
}

pub(crate) fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A text with its length in units before it.
fn counted(text: &str) -> Vec<u8> {
    [&u16::try_from(text.encode_utf16().count()).unwrap().to_le_bytes()[..], &wide(text)].concat()
}

fn token(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(body.len()).unwrap().to_le_bytes(), body].concat()
}

fn welcome() -> Vec<u8> {
    let name = "Microsoft SQL Server";
    let mut ack = vec![1, 0x74, 0, 0, 4, u8::try_from(name.len()).unwrap()];
    ack.extend(wide(name));
    ack.extend([16, 0, 0, 0]);
    token(0xad, &ack)
}

/// The address where the database really is.
fn elsewhere(host: &str, port: u16) -> Vec<u8> {
    let to = [&[0][..], &port.to_le_bytes(), &counted(host)].concat();
    let mut change = vec![20];
    change.extend(u16::try_from(to.len()).unwrap().to_le_bytes());
    change.extend(to);
    change.extend([0, 0]);
    token(0xe3, &change)
}

fn error(number: u32, text: &str) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.extend([1, 16]);
    body.extend(counted(text));
    body.extend([0, 0]);
    body.extend(1_u32.to_le_bytes());
    token(0xaa, &body)
}

/// The end of a statement: 2 is an error, 16 says that the rows are counted.
fn done(status: u16, rows: u64) -> Vec<u8> {
    [&[0xfd][..], &status.to_le_bytes(), &[0, 0], &rows.to_le_bytes()].concat()
}

fn table(columns: &[(&'static str, Vec<u8>)], rows: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![0x81];
    out.extend(u16::try_from(columns.len()).unwrap().to_le_bytes());
    for (name, of) in columns {
        out.extend([0, 0, 0, 0, 1, 0]);
        out.extend(of);
        out.push(u8::try_from(name.encode_utf16().count()).unwrap());
        out.extend(wide(name));
    }
    for row in rows {
        out.push(0xd1);
        out.extend(row);
    }
    out
}

/// TLS inside of pre-login packets, until the handshake is over.
struct Wrapped {
    stream: TcpStream,
    inside: Arc<Mutex<bool>>,
    /// What is there of the header of a packet.
    head: Vec<u8>,
    /// Bytes that the packet still has.
    left: usize,
    /// What is written and not yet sent.
    held: Vec<u8>,
}

impl AsyncRead for Wrapped {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while *this.inside.lock().unwrap() && this.left == 0 {
            let mut byte = [0];
            let mut one = ReadBuf::new(&mut byte);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut one))?;
            if one.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.head.push(byte[0]);
            if this.head.len() == 8 {
                this.left = usize::from(u16::from_be_bytes([this.head[2], this.head[3]])) - 8;
                this.head.clear();
            }
        }
        if this.left == 0 {
            return Pin::new(&mut this.stream).poll_read(cx, out);
        }
        let mut room = vec![0; out.remaining().min(this.left)];
        let mut some = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut some))?;
        this.left -= some.filled().len();
        out.put_slice(some.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if *this.inside.lock().unwrap() {
            this.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.held.is_empty() {
            // A handshake is far smaller than the buffer of a socket.
            let packet = [&header(PRELOGIN, 1, this.held.len())[..], &this.held].concat();
            let sent = ready!(Pin::new(&mut this.stream).poll_write(cx, &packet))?;
            assert_eq!(sent, packet.len());
            this.held.clear();
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
