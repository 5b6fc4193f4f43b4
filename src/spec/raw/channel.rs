//! `channels` of `clawhook.yaml`: places where people are told.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ConnectionTls, Duration, Rate, SecretRef, TextOrSecret};

/// A place where people are told.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ChannelType,
    /// The robot's key, for `type: wecom`: the last part of its webhook address.
    pub key: Option<SecretRef>,
    /// The robot's token, for `type: dingtalk`: the last part of its webhook address.
    pub access_token: Option<SecretRef>,
    /// The last part of the robot's webhook address, for `type: feishu`.
    pub hook: Option<SecretRef>,
    /// The secret that messages are signed with, for `type: dingtalk`, `feishu` and `webhook`.
    pub sign: Option<SecretRef>,
    /// A word that the robot asks for in every message, for `type: dingtalk` and `feishu`.
    pub keyword: Option<String>,
    /// The whole webhook address, for `type: slack`, `teams` and `webhook`.
    pub url: Option<TextOrSecret>,
    /// Headers of every message, for `type: webhook`.
    #[serde(default)]
    pub headers: BTreeMap<String, TextOrSecret>,
    /// Where the platform is, instead of its own address: a proxy, or `https://open.larksuite.com` for Lark.
    pub base_url: Option<String>,
    /// The mail server, for `type: email`.
    pub host: Option<String>,
    /// Its port; 587 with STARTTLS, 465 with TLS when left out.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// How mail is protected on its way, `starttls` when left out.
    pub encryption: Option<MailEncryption>,
    /// The sender of mail, such as `Clawhook <alerts@example.com>`.
    pub from: Option<String>,
    /// The recipients of mail.
    #[schemars(length(min = 1, max = 50))]
    pub to: Option<Vec<String>>,
    /// The user at the mail server.
    pub username: Option<TextOrSecret>,
    /// The user's password.
    pub password: Option<SecretRef>,
    /// Whom every message calls by name.
    pub mention: Option<Mention>,
    /// The channel that is used when this one refuses a message or stays out of reach.
    pub fallback: Option<String>,
    /// How many messages the far end takes; what the platform allows when left out.
    pub rate: Option<Rate>,
    /// The language of our own words in messages, `en` when left out.
    pub language: Option<ChannelLanguage>,
    /// How long one message may take, 15 s when left out.
    pub timeout: Option<Duration>,
    /// Whom we trust.
    pub tls: Option<ConnectionTls>,
}

/// A kind of channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelType {
    /// A robot in a WeCom group.
    Wecom,
    /// A robot in a DingTalk group.
    Dingtalk,
    /// A robot in a Feishu or Lark group.
    Feishu,
    /// An incoming webhook of Slack.
    Slack,
    /// A Workflows webhook of Microsoft Teams.
    Teams,
    /// Mail.
    Email,
    /// JSON to a program of yours.
    Webhook,
}

impl ChannelType {
    /// The word that people type, by which the kind is found.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wecom => "wecom",
            Self::Dingtalk => "dingtalk",
            Self::Feishu => "feishu",
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::Email => "email",
            Self::Webhook => "webhook",
        }
    }
}

/// How mail is protected on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MailEncryption {
    /// TLS after the greeting.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// None; only to this machine.
    None,
}

/// Whom a message calls by name.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mention {
    /// User ids of the platform.
    #[serde(default)]
    pub people: Vec<String>,
    /// Telephone numbers, as text.
    #[serde(default)]
    pub phones: Vec<String>,
    /// Everybody there.
    #[serde(default)]
    pub all: bool,
}

/// A language of our own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelLanguage {
    /// Chinese.
    Zh,
    /// English.
    En,
}
