//! The places where people are told.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::Table;
use crate::channels::message::Mention;
use crate::channels::words::Language;
use crate::channels::{self, ChannelKind, ChannelPlan, Channels, Encryption, Given, Misfit, Text};
use crate::domain::rate::Rate;
use crate::domain::secret::SecretRef;
use crate::id::ChannelName;
use crate::limits;
use crate::outbound::{Egress, Tls};
use crate::spec::raw;
use crate::spec::source_map::Path;
use crate::spec::structure::Item;

impl Table<'_> {
    /// The healthy channels; what is wrong with the others is told. `egress` is absent when it is not known.
    pub(super) fn channels(&mut self, items: &[Item<raw::Channel>], egress: Option<&Egress>) -> Channels {
        let mut channels = Channels::new();
        for item in items {
            if let Some(channel) = self.channel(item, egress) {
                channels.insert(channel.name.clone(), Arc::new(channel));
            }
        }
        let known: BTreeSet<&str> = items.iter().filter_map(|item| item.path.key()).collect();
        for item in items {
            self.fallback(item, &known, &channels);
        }
        channels
    }

    fn channel(&mut self, item: &Item<raw::Channel>, egress: Option<&Egress>) -> Option<ChannelPlan> {
        let raw = item.raw.as_ref()?;
        let path = &item.path;
        let errors = self.desk.errors();
        let name = ChannelName::new(path.key()?).map_err(|error| {
            let problem = self.desk.problem("spec.name", error.to_string(), self.desk.map.entry(path));
            self.desk.push(problem.help("write another name"));
        });
        let kind = channels::kind(raw.kind.as_str())?;
        self.channel_keys(path, item, kind);
        let given = self.given(path, raw, egress);
        let rate = self.desk.rate_limit(path, raw.rate.as_ref(), None).map(|limit| limit.rate);
        let fallback = raw.fallback.as_deref().map(ChannelName::new).and_then(Result::ok);
        if self.desk.errors() > errors {
            return None;
        }
        let channel = match (kind.open)(given?) {
            Ok(channel) => channel,
            Err(Misfit { key, message, help }) => {
                let problem = self.desk.at("spec.channel", message, &path.with(key));
                self.desk.push(problem.help(help));
                return None;
            }
        };
        let mention = raw.mention.clone().unwrap_or_default();
        Some(ChannelPlan {
            name: name.ok()?,
            kind: kind.name,
            channel,
            mention: Mention { people: mention.people, phones: mention.phones, all: mention.all },
            rate: rate.or_else(|| own_rate(kind))?,
            fallback,
            language: match raw.language {
                Some(raw::ChannelLanguage::Zh) => Language::Zh,
                Some(raw::ChannelLanguage::En) | None => Language::En,
            },
        })
    }

    /// Each kind has keys of its own: those that are needed must be there, and no others.
    fn channel_keys(&mut self, path: &Path, item: &Item<raw::Channel>, kind: &ChannelKind) {
        for key in item.json.as_object().into_iter().flatten().map(|(key, _)| key.as_str()) {
            if !COMMON.contains(&key) && !kind.keys.iter().any(|own| own.name == key) {
                let message = format!("`{key}` does not go with `type: {}`", kind.name);
                let problem = self.desk.problem("spec.channel", message, self.desk.map.key(path, key));
                self.desk.push(problem.help("remove it, or change the `type`"));
            }
        }
        for key in kind.keys.iter().filter(|key| key.needed && item.json.get(key.name).is_none()) {
            let message = format!("the key `{}` is missing in `{path}`", key.name);
            let problem = self.desk.problem("spec.missing_key", message, self.desk.map.entry(path));
            self.desk.push(problem.help(format!("`type: {}` wants it: add `{}`", kind.name, key.example)));
        }
    }

    fn given(&mut self, path: &Path, raw: &raw::Channel, egress: Option<&Egress>) -> Option<Given> {
        let mut secret = |key: &str, raw: &Option<raw::SecretRef>| -> Option<SecretRef> {
            raw.as_ref().and_then(|raw| self.secret(&path.with(key), raw))
        };
        let (key, access_token) = (secret("key", &raw.key), secret("access_token", &raw.access_token));
        let (hook, sign) = (secret("hook", &raw.hook), secret("sign", &raw.sign));
        let password = secret("password", &raw.password);
        let url = self.text_or_secret(&path.with("url"), raw.url.as_ref());
        let username = self.text_or_secret(&path.with("username"), raw.username.as_ref());
        let base_url = raw.base_url.as_ref().map(|text| self.base_url(&path.with("base_url"), text, egress));
        let mut headers = Vec::new();
        for (name, value) in &raw.headers {
            let value = self.text_or_secret(&path.with("headers").with(name.as_str()), Some(value));
            headers.extend(value.map(|value| (name.clone(), value)));
        }
        let ca_pem = raw.tls.as_ref().map(|tls| self.file(&path.with("tls").with("ca"), &tls.ca, limits::CA_BYTES_MAX));
        Some(Given {
            // An absent one is fine; one that is wrong is not.
            base_url: base_url.map_or(Some(None), |url| url.map(Some))?,
            key,
            access_token,
            hook,
            sign,
            url,
            headers,
            keyword: raw.keyword.clone(),
            host: raw.host.clone(),
            port: raw.port,
            encryption: match raw.encryption {
                None | Some(raw::MailEncryption::StartTls) => Encryption::StartTls,
                Some(raw::MailEncryption::Tls) => Encryption::Tls,
                Some(raw::MailEncryption::None) => Encryption::None,
            },
            from: raw.from.clone(),
            to: raw.to.clone().unwrap_or_default(),
            username,
            password,
            tls: Tls { ca_pem: ca_pem.map_or(Some(None), |pem| pem.map(Some))? },
            timeout: self.desk.duration(&path.with("timeout"), raw.timeout.as_ref()),
        })
    }

    fn text_or_secret(&mut self, path: &Path, raw: Option<&raw::TextOrSecret>) -> Option<Text> {
        match raw? {
            raw::TextOrSecret::Text(text) => Some(Text::Plain(text.clone())),
            raw::TextOrSecret::Secret(raw) => self.secret(path, raw).map(Text::Secret),
        }
    }

    /// A fallback must exist, and must not lead back.
    fn fallback(&mut self, item: &Item<raw::Channel>, known: &BTreeSet<&str>, channels: &Channels) {
        let Some(name) = item.raw.as_ref().and_then(|raw| raw.fallback.as_deref()) else { return };
        let path = item.path.with("fallback");
        if !known.contains(name) {
            let known: Vec<&str> = known.iter().copied().filter(|other| Some(*other) != item.path.key()).collect();
            self.desk.unknown("spec.unknown_channel", format!("there is no channel `{name}`"), &path, name, &known);
            return;
        }
        let own = item.path.key().unwrap_or_default();
        let mut at = Some(name);
        // No chain is longer than there are channels.
        for _ in 0..=channels.len() {
            if at == Some(own) {
                let problem = self.desk.at("spec.channel", format!("the fallback leads back to `{own}`"), &path);
                self.desk.push(problem.help("name a channel that does not need this one"));
                return;
            }
            at = at.and_then(|name| channels.get(name)?.fallback.as_ref()).map(ChannelName::as_str);
        }
    }
}

/// Keys of every channel.
const COMMON: &[&str] = &["type", "mention", "fallback", "rate", "language", "timeout", "tls"];

fn own_rate(kind: &ChannelKind) -> Option<Rate> {
    let (count, seconds) = kind.rate;
    Rate::new(NonZeroU32::new(count)?, Duration::from_secs(seconds))
}
