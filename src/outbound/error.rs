//! Why a call did not end in an answer, told apart by type, never by text.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::egress::Refusal;
use crate::domain::attempt::Timings;
use crate::domain::failure::{Class, Failure, Fault, Sent};

/// A call that did not end in an answer: the cause, and what was seen until then.
#[derive(Debug, thiserror::Error)]
#[error("{}", cause.sentence())]
pub struct Error {
    /// What went wrong.
    pub cause: Box<Cause>,
    /// Whether the request may have reached the far end; decides whether it may be repeated.
    pub sent: Sent,
    /// Where the time went until it failed.
    pub timings: Timings,
    /// The address last connected to, or tried.
    pub remote: Option<SocketAddr>,
    /// `host:port` of the URL it failed at; never its path or query, which may hold secrets.
    pub place: String,
}

impl Error {
    /// The failure to store and show. The engine reads its class, and `sent`.
    pub fn failure(&self) -> Failure {
        let mut failure = Failure::new(self.cause.code(), self.cause.fault(), self.cause.sentence())
            .help(self.cause.help())
            .at(self.place.clone())
            .sent(self.sent);
        if self.cause.class() != Class::Other {
            failure = failure.retriable(self.cause.class(), None);
        }
        failure
    }
}

/// What a call was waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A place in the pool.
    Start,
    /// The addresses of the host.
    Dns,
    /// A TCP connection.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The first byte of the answer.
    Response,
    /// The rest of the answer.
    Body,
}

impl Phase {
    fn words(self) -> &'static str {
        match self {
            Self::Start => "a connection",
            Self::Dns => "the DNS answer",
            Self::Connect => "the TCP connection",
            Self::Tls => "the TLS handshake",
            Self::Response => "the answer",
            Self::Body => "the end of the answer",
        }
    }
}

/// What went wrong with a call.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The URL cannot be called at all.
    #[error("`{url}` is not a URL to call: {why}")]
    BadUrl { url: String, why: String },
    /// A header cannot be sent, or is ours to write.
    #[error("header `{name}` cannot be sent: {why}")]
    BadHeader { name: String, why: &'static str },
    /// The egress guard refused every address of the host.
    #[error("`{host}` is not called because {address} is {refusal}")]
    Egress { host: String, address: IpAddr, refusal: Refusal },
    /// The host has no address.
    #[error("cannot find an address of `{host}`")]
    Dns {
        host: String,
        #[source]
        source: io::Error,
    },
    /// No address took the connection.
    #[error("cannot connect to `{host}` at {address}")]
    Connect {
        host: String,
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// The TLS handshake was refused, by us or by the far end.
    #[error("no TLS connection to `{host}`")]
    Tls {
        host: String,
        #[source]
        source: io::Error,
    },
    /// The certificates to trust cannot be used.
    #[error("cannot use the trusted certificates: {why}")]
    Trust { why: String },
    /// Time ran out.
    #[error("`{host}` took too long: waited {} for {}", human(*.after), .phase.words())]
    Timeout { host: String, phase: Phase, after: Duration },
    /// The connection broke before the answer was whole.
    #[error("the connection to `{host}` broke while waiting for {}", .phase.words())]
    Lost {
        host: String,
        phase: Phase,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is larger than the caller takes.
    #[error("the answer of `{host}` is larger than {limit} bytes")]
    TooLarge { host: String, limit: usize },
    /// A redirect that is not followed.
    #[error("the redirect of `{host}` is not followed: {why}")]
    Redirect { host: String, why: String },
    /// The answer is not HTTP, or not what its headers say.
    #[error("the answer of `{host}` cannot be read: {why}")]
    Protocol { host: String, why: String },
}

impl Cause {
    /// The word that `retry_on` looks at. Running out of time before anything was sent counts as `connect`:
    /// no connection was made.
    pub fn class(&self) -> Class {
        match self {
            Self::Timeout { phase: Phase::Response | Phase::Body, .. } => Class::Timeout,
            Self::Dns { .. } | Self::Connect { .. } | Self::Lost { .. } | Self::Timeout { .. } => Class::Connect,
            Self::BadUrl { .. }
            | Self::BadHeader { .. }
            | Self::Egress { .. }
            | Self::Tls { .. }
            | Self::Trust { .. }
            | Self::TooLarge { .. }
            | Self::Redirect { .. }
            | Self::Protocol { .. } => Class::Other,
        }
    }

    /// The failure of a task whose request could not even be made; what is written has to change.
    pub fn unsendable(self) -> Failure {
        Failure::new(self.code(), Fault::Config, self.sentence()).help(self.help())
    }

    /// The stable code; each has a page in `docs/errors/`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadUrl { .. } => "http.bad_url",
            Self::BadHeader { .. } => "http.bad_header",
            Self::Egress { .. } => "http.egress",
            Self::Dns { .. } => "http.dns",
            Self::Connect { .. } => "http.connect",
            Self::Tls { .. } => "http.tls",
            Self::Trust { .. } => "http.trust",
            Self::Timeout { .. } => "http.timeout",
            Self::Lost { .. } => "http.lost",
            Self::TooLarge { .. } => "http.too_large",
            Self::Redirect { .. } => "http.redirect",
            Self::Protocol { .. } => "http.protocol",
        }
    }

    /// Whose side it is on.
    pub fn fault(&self) -> Fault {
        match self {
            Self::BadUrl { .. } | Self::BadHeader { .. } | Self::Egress { .. } | Self::Trust { .. } => Fault::Config,
            _ => Fault::Far,
        }
    }

    /// One sentence for people, the cause of the cause included.
    pub fn sentence(&self) -> String {
        let mut sentence = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(inner) = source {
            let text = inner.to_string();
            // Wrappers often repeat what they wrap.
            if !sentence.contains(&text) {
                sentence.push_str(": ");
                sentence.push_str(&text);
            }
            source = inner.source();
        }
        sentence
    }

    /// What to do next.
    pub fn help(&self) -> String {
        match self {
            Self::BadUrl { .. } => "write an absolute `http` or `https` URL, and credentials in a connection".into(),
            Self::BadHeader { .. } => "leave the header out, or correct its name or value".into(),
            Self::Egress { address, .. } => {
                format!("if this far end is meant, add `{}` to `egress.allow`", host_net(*address))
            }
            Self::Dns { .. } => "check the host name, and the DNS servers of this machine".into(),
            Self::Tls { .. } => "check the certificate of the far end; a private authority belongs in `tls.ca`".into(),
            Self::Trust { .. } => "check `tls.ca`, or install the `ca-certificates` package".into(),
            Self::Timeout { phase: Phase::Response | Phase::Body, .. } => {
                "raise `timeout`, or ask the far end for less".into()
            }
            Self::Connect { .. } | Self::Timeout { .. } => {
                "check that the far end is up and that a firewall lets this machine through".into()
            }
            Self::Lost { .. } => "look whether the far end took the request before sending it again".into(),
            Self::TooLarge { .. } => "ask for smaller pages, or raise `max_response`".into(),
            Self::Redirect { .. } => "call the final URL directly".into(),
            Self::Protocol { .. } => "check that the URL is that of an HTTP service, and its scheme and port".into(),
        }
    }
}

fn host_net(address: IpAddr) -> ipnet::IpNet {
    address.to_canonical().into()
}

fn human(after: Duration) -> String {
    if after.as_secs() > 0 && after.subsec_millis() == 0 {
        format!("{} s", after.as_secs())
    } else {
        format!("{} ms", after.as_millis())
    }
}
