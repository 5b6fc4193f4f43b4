//! Mail by SMTP (RFC 5321): STARTTLS or TLS, one conversation a message. Its `Message-ID` is the same when a notice is
//! sent again, so that a mailbox shows a repeat as one.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{self};
use serde_json::{Value, json};

use super::message::{Mention, Message};
use super::words::Words;
use super::{Channel, ChannelKind, Encryption, Given, Key, Misfit, Notice, Sending, Text, Trouble, Wire, given};
use crate::clock::Timestamp;
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::limits;
use crate::outbound::{Dialed, Tls};

pub(super) const CHANNEL: ChannelKind = ChannelKind {
    name: "email",
    summary: "Mail by an SMTP server, with STARTTLS (port 587) or TLS (port 465).",
    keys: &[
        Key::needed("host", "host: smtp.example.com"),
        Key::needed("from", "from: Clawhook <alerts@example.com>"),
        Key::needed("to", "to: [ops@example.com]"),
        Key::may("port"),
        Key::may("encryption"),
        Key::may("username"),
        Key::may("password"),
    ],
    rate: (30, 60),
    open,
};

#[derive(Debug)]
struct Email {
    host: String,
    port: u16,
    encryption: Encryption,
    from: Mailbox,
    to: Vec<Mailbox>,
    login: Option<(Text, SecretRef)>,
    tls: Tls,
    timeout: Duration,
}

fn open(settings: Given) -> Result<Arc<dyn Channel>, Misfit> {
    let mailbox = |key, text: &str| {
        let help = "write it like `ops@example.com` or `Ops <ops@example.com>`";
        text.parse::<Mailbox>().map_err(|_| Misfit::new(key, format!("`{text}` is not a mail address"), help))
    };
    let login = match (settings.username, settings.password) {
        (Some(username), Some(password)) => Some((username, password)),
        (None, None) => None,
        (Some(_), None) => return Err(Misfit::new("username", "a `username` needs a `password`", "add the other one")),
        (None, Some(_)) => return Err(Misfit::new("password", "a `password` needs a `username`", "add the other one")),
    };
    let own_port = match settings.encryption {
        Encryption::StartTls => 587,
        Encryption::Tls => 465,
        Encryption::None => 25,
    };
    Ok(Arc::new(Email {
        host: given("host", settings.host)?,
        port: settings.port.unwrap_or(own_port),
        encryption: settings.encryption,
        from: mailbox("from", &given("from", settings.from)?)?,
        to: settings.to.iter().map(|to| mailbox("to", to)).collect::<Result<_, _>>()?,
        login,
        tls: settings.tls,
        timeout: settings.timeout.unwrap_or(limits::CHANNEL_TIMEOUT),
    }))
}

#[async_trait]
impl Channel for Email {
    fn secrets(&self) -> Vec<&SecretRef> {
        let (username, password) = match &self.login {
            Some((Text::Secret(username), password)) => (Some(username), Some(password)),
            Some((Text::Plain(_), password)) => (None, Some(password)),
            None => (None, None),
        };
        username.into_iter().chain(password).collect()
    }

    fn text_bytes_max(&self) -> usize {
        limits::NOTICE_TEXT_BYTES_MAX
    }

    async fn send(&self, wire: &Wire<'_>, notice: &Notice<'_>) -> Sending {
        let mut masker = Masker::over(wire.secrets.known());
        let within = self.timeout.min(wire.time_limit);
        let mut stage = Stage::Before;
        let talked = tokio::time::timeout(within, self.talk(wire, notice, &mut masker, &mut stage)).await;
        let result = match (talked, stage) {
            (Ok(result), _) => result,
            (Err(_), Stage::HandedOver) => Err(Trouble::unknown(&format!(
                "`{}` did not say in {} s whether it took the mail",
                self.host,
                within.as_secs_f32()
            ))),
            (Err(_), Stage::Before) => {
                let message = format!("`{}` took too long: waited {} s", self.host, within.as_secs_f32());
                Err(Trouble::down(Failure::new("http.timeout", Fault::Far, message).at(self.host.as_str())))
            }
        };
        let result = result.map_err(|mut trouble| {
            trouble.failure.message = masker.mask(&trouble.failure.message).into_owned();
            trouble
        });
        Sending { result, exchange: None }
    }
}

/// How far a conversation has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The server cannot have the mail.
    Before,
    /// The mail is on its way or there; only the server's answer says which.
    HandedOver,
}

impl AsyncTokioStream for Dialed {
    fn peer_addr(&self) -> std::io::Result<std::net::SocketAddr> {
        Ok(self.remote())
    }
}

impl Email {
    async fn talk(
        &self,
        wire: &Wire<'_>,
        notice: &Notice<'_>,
        masker: &mut Masker,
        stage: &mut Stage,
    ) -> Result<Value, Trouble> {
        let mail = self.mail(notice, wire.clock.now())?;
        let credentials = self.credentials(wire, masker).await?;
        let mut server = self.connect(wire).await?;
        if let Some(credentials) = credentials {
            server.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(|error| self.told(&error, "the sign-in"))?;
        }
        let from = self.from.email.clone();
        server.command(Mail::new(Some(from), Vec::new())).await.map_err(|error| self.told(&error, "the sender"))?;
        let mut refused = Vec::new();
        let mut first = None;
        for to in &self.to {
            if let Err(error) = server.command(Rcpt::new(to.email.clone(), Vec::new())).await {
                let trouble = self.told(&error, &format!("the recipient `{}`", to.email));
                refused.push(to.email.to_string());
                first.get_or_insert(trouble);
            }
        }
        if let Some(trouble) = first.filter(|_| refused.len() == self.to.len()) {
            server.abort().await;
            return Err(trouble);
        }
        server.command(Data).await.map_err(|error| self.told(&error, "the mail"))?;
        *stage = Stage::HandedOver;
        let taken = server.message(&mail).await.map_err(|error| match error.status() {
            Some(_) => self.told(&error, "the mail"),
            None => Trouble::unknown(&format!("`{}` broke the connection off before it took the mail", self.host)),
        })?;
        // The mail is there; how the conversation ends changes nothing.
        let _ = server.quit().await;
        let said = taken.message().collect::<Vec<_>>().join(" ");
        Ok(json!({ "said": masker.mask(&said), "refused_recipients": refused }))
    }

    async fn connect(&self, wire: &Wire<'_>) -> Result<AsyncSmtpConnection, Trouble> {
        let within = self.timeout.min(wire.time_limit);
        let tls = (self.encryption == Encryption::Tls).then_some(&self.tls);
        let dialed = wire.client.dial(&self.host, self.port, tls, within).await.map_err(|cause| {
            let failure = Failure::new(cause.code(), cause.fault(), cause.sentence()).help(cause.help());
            let failure = failure.at(self.host.as_str());
            if cause.class() == Class::Other { Trouble::refused(failure) } else { Trouble::down(failure) }
        })?;
        if self.encryption == Encryption::None && !dialed.remote().ip().is_loopback() {
            let message = format!("`{}` is not on this machine, so mail is not sent there in the clear", self.host);
            let help = "write `encryption: starttls` or `encryption: tls`";
            return Err(Trouble::refused(Failure::new("notify.refused", Fault::Config, message).help(help)));
        }
        let hello = ClientId::Domain(self.from.email.domain().to_owned());
        let connected = AsyncSmtpConnection::connect_with_transport(Box::new(dialed), &hello).await;
        let mut server = connected.map_err(|error| self.told(&error, "the connection"))?;
        if self.encryption == Encryption::StartTls {
            if !server.can_starttls() {
                let message = format!("`{}` offers no STARTTLS, so nothing is said to it in the clear", self.host);
                let help = "write `encryption: tls` when it speaks TLS from the first byte, on port 465";
                return Err(Trouble::refused(Failure::new("notify.refused", Fault::Config, message).help(help)));
            }
            let parameters = self.trust().await?;
            server.starttls(parameters, &hello).await.map_err(|error| self.told(&error, "STARTTLS"))?;
        }
        Ok(server)
    }

    /// Whom STARTTLS trusts: the machine's authorities, and those of the channel.
    async fn trust(&self) -> Result<TlsParameters, Trouble> {
        let (host, ca) = (self.host.clone(), self.tls.ca_pem.clone());
        let build = move || {
            let mut builder = TlsParameters::builder(host);
            if let Some(pem) = &ca {
                builder = builder.add_root_certificate(Certificate::from_pem(pem)?);
            }
            builder.build()
        };
        // It reads the machine's certificates from the disk.
        let joined = tokio::task::spawn_blocking(build).await;
        let parameters = joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        parameters.map_err(|error| {
            let message = format!("cannot use the trusted certificates: {}", sentence(&error));
            Trouble::refused(Failure::new("http.trust", Fault::Config, message).help("check `tls.ca`"))
        })
    }

    async fn credentials(&self, wire: &Wire<'_>, masker: &mut Masker) -> Result<Option<Credentials>, Trouble> {
        let Some((username, password)) = &self.login else { return Ok(None) };
        let username = match username {
            Text::Plain(username) => username.clone(),
            Text::Secret(reference) => wire.secret_text(reference, masker).await?,
        };
        let password = wire.secret_text(password, masker).await?;
        Ok(Some(Credentials::new(username, password)))
    }

    fn mail(&self, notice: &Notice<'_>, now: Timestamp) -> Result<Vec<u8>, Trouble> {
        let millis = u64::try_from(now.as_millis()).unwrap_or_default();
        let mut builder = lettre::Message::builder()
            .message_id(Some(format!("<{}@{}>", notice.id, self.from.email.domain())))
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
            .from(self.from.clone())
            .subject(subject(notice.message, notice.words));
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        let bodies = MultiPart::alternative_plain_html(
            plain(notice.message, notice.mention, notice.words),
            html(notice.message, notice.mention, notice.words),
        );
        let mail = builder.multipart(bodies).map_err(|error| {
            Trouble::refused(Failure::new("notify.refused", Fault::Here, format!("the mail cannot be made: {error}")))
        })?;
        Ok(mail.formatted())
    }

    /// What the server said to `what`: 4xx may pass, 5xx will not (RFC 5321 section 4.2.1).
    fn told(&self, error: &smtp::Error, what: &str) -> Trouble {
        let far = |code, text: String| Failure::new(code, Fault::Far, text).at(self.host.as_str()).sent(Sent::No);
        let said = sentence(error);
        if error.is_permanent() {
            let help = "correct the channel's settings, or ask whoever runs the mail server";
            return Trouble::refused(
                far("notify.refused", format!("`{}` refused {what}: {said}", self.host)).help(help),
            );
        }
        if error.is_tls() || error.is_client() || is_distrust(error) {
            let help = "check `host`, `encryption`, `username` and the server's certificate";
            return Trouble::refused(
                far("notify.refused", format!("`{}`: {what} failed: {said}", self.host)).help(help),
            );
        }
        Trouble::down(far("notify.held", format!("`{}` is out of order at {what}: {said}", self.host)))
    }
}

/// Whether TLS itself said no: a certificate that nobody trusts will not be trusted in a minute.
fn is_distrust(error: &smtp::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let wrapped = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if inner.is::<rustls::Error>() || wrapped.and_then(|wrapped| wrapped.downcast_ref::<rustls::Error>()).is_some()
        {
            return true;
        }
        source = inner.source();
    }
    false
}

fn sentence(error: &smtp::Error) -> String {
    let mut sentence = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let text = inner.to_string();
        if !sentence.contains(&text) {
            sentence.push_str(": ");
            sentence.push_str(&text);
        }
        source = inner.source();
    }
    sentence
}

fn subject(message: &Message, words: Words) -> String {
    format!("[{}] {}", words.level(message.level), message.title)
}

fn called(mention: &Mention) -> String {
    mention.people.iter().chain(&mention.phones).map(|name| format!("@{name}")).collect::<Vec<_>>().join(" ")
}

fn plain(message: &Message, mention: &Mention, words: Words) -> String {
    let mut text = message.markdown(words);
    if !called(mention).is_empty() {
        text.push_str("\n\n");
        text.push_str(&called(mention));
    }
    text.push('\n');
    text
}

fn html(message: &Message, mention: &Mention, words: Words) -> String {
    let mut parts = vec![format!("<h3>{}</h3>", escaped(&message.title))];
    if !message.text.trim().is_empty() {
        parts.push(format!("<div style=\"white-space: pre-wrap\">{}</div>", escaped(message.text.trim_end())));
    }
    if let Some(table) = &message.table {
        parts.push("<table style=\"border-collapse: collapse\">".to_owned());
        parts.push(html_row(&table.columns, "th"));
        parts.extend(table.rows.iter().map(|cells| html_row(cells, "td")));
        parts.push("</table>".to_owned());
        parts.extend((table.more > 0).then(|| format!("<p>{}</p>", words.more(table.more))));
    }
    let called = called(mention);
    parts.extend((!called.is_empty()).then(|| format!("<p>{}</p>", escaped(&called))));
    parts.join("\n") + "\n"
}

fn html_row(cells: &[String], tag: &str) -> String {
    let cell =
        |cell: &String| format!("<{tag} style=\"border: 1px solid #ccc; padding: 2px 8px\">{}</{tag}>", escaped(cell));
    format!("<tr>{}</tr>", cells.iter().map(cell).collect::<Vec<_>>().concat())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
