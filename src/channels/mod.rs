//! Where people are told: one file a kind of channel, one row each in `CHANNELS`. A kind renders a message as its
//! platform can, hands it over once, and says for certain, or that it is not certain, whether it was taken. How often
//! and in what company messages go out is decided by [`alerts`]; a kind repeats nothing.

/// How often people are told, and what is put together.
pub mod alerts;
mod book;
mod dingtalk;
mod email;
mod feishu;
mod hook;
mod http;
mod line;
/// What is told.
pub mod message;
mod slack;
mod teams;
mod webhook;
mod wecom;
/// Our own words, in two languages.
pub mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

pub use self::book::{AlertBook, BookError};
use self::message::{Mention, Message};
use self::words::{Language, Words};
use crate::clock::Clock;
use crate::domain::attempt::Exchange;
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::domain::masking::Masker;
use crate::domain::rate::Rate;
use crate::domain::secret::{self, SecretRef, SecretValue, Secrets};
use crate::id::ChannelName;
use crate::outbound::connection::BaseUrl;
use crate::outbound::{Client, Tls};

/// All kinds, in the order of the documentation.
pub static CHANNELS: &[ChannelKind] = &[
    wecom::CHANNEL,
    dingtalk::CHANNEL,
    feishu::CHANNEL,
    slack::CHANNEL,
    teams::CHANNEL,
    email::CHANNEL,
    webhook::CHANNEL,
];

/// The kind of this name.
pub fn kind(name: &str) -> Option<&'static ChannelKind> {
    CHANNELS.iter().find(|kind| kind.name == name)
}

/// One `type` of channel.
#[derive(Clone, Copy)]
pub struct ChannelKind {
    /// What `type` says.
    pub name: &'static str,
    /// One sentence for the documentation.
    pub summary: &'static str,
    /// The settings that it takes beside those of every channel.
    pub keys: &'static [Key],
    /// How many messages the far end takes, when `rate` is not set: a number, and seconds.
    pub rate: (u32, u64),
    /// Makes a channel of settings in which every needed key is given and no other.
    pub open: fn(Given) -> Result<Arc<dyn Channel>, Misfit>,
}

impl fmt::Debug for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A setting of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub needed: bool,
    /// What to type.
    pub example: &'static str,
}

impl Key {
    const fn needed(name: &'static str, example: &'static str) -> Self {
        Self { name, needed: true, example }
    }

    const fn may(name: &'static str) -> Self {
        Self { name, needed: false, example: "" }
    }
}

/// A setting that does not suit the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    pub key: &'static str,
    pub message: String,
    pub help: String,
}

impl Misfit {
    fn new(key: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { key, message: message.into(), help: help.into() }
    }
}

/// A text that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    Plain(String),
    Secret(SecretRef),
}

/// How mail is protected on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encryption {
    /// In the clear until the server has shown its certificate, then TLS; refused when the server has none.
    #[default]
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// In the clear; only to this machine.
    None,
}

/// The settings of one channel, resolved; a kind takes what is its own.
#[derive(Debug, Clone, Default)]
pub struct Given {
    pub base_url: Option<BaseUrl>,
    pub key: Option<SecretRef>,
    pub access_token: Option<SecretRef>,
    pub hook: Option<SecretRef>,
    pub sign: Option<SecretRef>,
    pub url: Option<Text>,
    pub headers: Vec<(String, Text)>,
    pub keyword: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub encryption: Encryption,
    pub from: Option<String>,
    pub to: Vec<String>,
    pub username: Option<Text>,
    pub password: Option<SecretRef>,
    pub tls: Tls,
    pub timeout: Option<Duration>,
}

/// A channel of the settings, ready for use.
#[derive(Debug, Clone)]
pub struct ChannelPlan {
    pub name: ChannelName,
    pub kind: &'static str,
    pub channel: Arc<dyn Channel>,
    /// Who is called by name in every message.
    pub mention: Mention,
    /// How many messages the far end takes.
    pub rate: Rate,
    /// Who is told when this one cannot be.
    pub fallback: Option<ChannelName>,
    pub language: Language,
}

impl ChannelPlan {
    /// Our own words in a message.
    pub fn words(&self) -> Words {
        Words::of(self.language)
    }
}

/// The channels in force, by name.
pub type Channels = BTreeMap<ChannelName, Arc<ChannelPlan>>;

/// A place where people are told.
#[async_trait]
pub trait Channel: Send + Sync + fmt::Debug {
    /// The secrets that it needs.
    fn secrets(&self) -> Vec<&SecretRef>;

    /// Bytes of UTF-8 that one message may have, title and text together.
    fn text_bytes_max(&self) -> usize;

    /// Hands a message over, once.
    async fn send(&self, wire: &Wire<'_>, notice: &Notice<'_>) -> Sending;
}

/// What a channel works with.
#[derive(Clone, Copy)]
pub struct Wire<'a> {
    pub client: &'a Client,
    pub secrets: &'a dyn Secrets,
    pub clock: &'a dyn Clock,
    /// The message must be handed over in this time.
    pub time_limit: Duration,
}

impl fmt::Debug for Wire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({:?})", self.time_limit)
    }
}

impl Wire<'_> {
    /// A secret's value, masked from now on.
    async fn secret(&self, reference: &SecretRef, masker: &mut Masker) -> Result<SecretValue, Trouble> {
        let value = self.secrets.resolve(reference).await.map_err(|error| Trouble::secret(&error))?;
        masker.learn(reference, &value);
        Ok(value)
    }

    /// The same for a secret that is text.
    async fn secret_text(&self, reference: &SecretRef, masker: &mut Masker) -> Result<String, Trouble> {
        let value = self.secret(reference, masker).await?;
        String::from_utf8(value.expose().to_vec()).map(|text| text.trim().to_owned()).map_err(|_| {
            let message = format!("secret `{}` is not text", reference.name);
            Trouble::refused(Failure::new("notify.refused", Fault::Config, message).help("put it into its source anew"))
        })
    }
}

/// A message on its way to one channel.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// The same when it is sent again.
    pub id: &'a str,
    pub message: &'a Message,
    pub mention: &'a Mention,
    pub words: Words,
}

/// What came of a message.
#[derive(Debug)]
pub struct Sending {
    /// What the platform said about a message that it took; null when that is nothing worth keeping.
    pub result: Result<Value, Trouble>,
    /// The call, secrets masked.
    pub exchange: Option<Box<Exchange>>,
}

impl From<Trouble> for Sending {
    fn from(trouble: Trouble) -> Self {
        Self { result: Err(trouble), exchange: None }
    }
}

/// Why a message was not taken, or may not have been.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    pub verdict: Verdict,
    pub failure: Box<Failure>,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was not taken, and the same message never will be.
    Refused,
    /// It was not taken: too many came. This long none will be.
    Busy { wait: Duration },
    /// It was not taken: the far end could not be reached, or is out of order.
    Down,
    /// Whether it was taken cannot be known.
    Unknown,
}

impl Trouble {
    fn refused(failure: Failure) -> Self {
        Self { verdict: Verdict::Refused, failure: Box::new(failure) }
    }

    fn busy(wait: Duration, failure: Failure) -> Self {
        Self { verdict: Verdict::Busy { wait }, failure: Box::new(failure) }
    }

    fn down(failure: Failure) -> Self {
        Self { verdict: Verdict::Down, failure: Box::new(failure.retriable(Class::Connect, None)) }
    }

    /// It may have arrived: said as it is, and never tried again on this channel.
    fn unknown(what: &str) -> Self {
        let failure = Failure::new("notify.unknown", Fault::Far, format!("delivery unknown: {what}"))
            .help("look into the group or mailbox before the message is sent again")
            .sent(Sent::Maybe);
        Self { verdict: Verdict::Unknown, failure: Box::new(failure) }
    }

    /// A source that does not answer may answer later; a secret that is not there will not come by itself.
    fn secret(error: &secret::Error) -> Self {
        let failure = Failure::new("secret.unavailable", Fault::Config, error.to_string());
        match error {
            secret::Error::Source { .. } => Self::down(failure),
            _ => Self::refused(failure.help("put the secret into its source, then resume the run")),
        }
    }
}

/// The key that [`Given`] has, because the settings were held against the kind's table of keys.
fn given<T>(key: &'static str, value: Option<T>) -> Result<T, Misfit> {
    value.ok_or_else(|| Misfit::new(key, format!("the key `{key}` is missing"), format!("add `{key}: …`")))
}
