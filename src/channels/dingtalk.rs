//! Robots of a DingTalk group. Facts: "自定义机器人接入" and "自定义机器人安全设置" of open.dingtalk.com.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::http::{self, Post, Reach, Said};
use super::message::{Level, Mention, Message, cut};
use super::wecom::base_url;
use super::words::Words;
use super::{Channel, ChannelKind, Given, Key, Misfit, Notice, Sending, Trouble, Wire, given};
use crate::clock::Timestamp;
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::outbound::Response;
use crate::outbound::connection::BaseUrl;

pub(super) const CHANNEL: ChannelKind = ChannelKind {
    name: "dingtalk",
    summary: "A robot in a DingTalk group; `access_token` is the last part of its webhook address.",
    keys: &[
        Key::needed("access_token", "access_token: { secret_ref: dingtalk-robot-token }"),
        Key::may("sign"),
        Key::may("keyword"),
        Key::may("base_url"),
    ],
    rate: (20, 60),
    open,
};

const BASE_URL: &str = "https://oapi.dingtalk.com";
/// Of the 20,000 bytes of a whole body, what is left for the text when every byte of it may be escaped.
const TEXT_BYTES_MAX: usize = 9_000;
/// Over its rate a robot is shut for this long, and calls meanwhile do not help.
const SHUT_FOR: Duration = Duration::from_mins(10);

#[derive(Debug)]
struct Dingtalk {
    base_url: BaseUrl,
    access_token: SecretRef,
    /// The secret of the robot's "加签", whole, with its `SEC`.
    sign: Option<SecretRef>,
    /// A word that every message must hold, when the robot's safety is set so.
    keyword: Option<String>,
    reach: Reach,
}

fn open(settings: Given) -> Result<Arc<dyn Channel>, Misfit> {
    Ok(Arc::new(Dingtalk {
        base_url: base_url(settings.base_url, BASE_URL)?,
        access_token: given("access_token", settings.access_token)?,
        sign: settings.sign,
        keyword: settings.keyword,
        reach: Reach::new(settings.tls, settings.timeout),
    }))
}

#[async_trait]
impl Channel for Dingtalk {
    fn secrets(&self) -> Vec<&SecretRef> {
        std::iter::once(&self.access_token).chain(&self.sign).collect()
    }

    fn text_bytes_max(&self) -> usize {
        TEXT_BYTES_MAX
    }

    async fn send(&self, wire: &Wire<'_>, notice: &Notice<'_>) -> Sending {
        let mut masker = Masker::over(wire.secrets.known());
        let url = match self.url(wire, &mut masker).await {
            Ok(url) => url,
            Err(trouble) => return trouble.into(),
        };
        let body = body(notice.message, notice.mention, self.keyword.as_deref(), notice.words);
        http::send(wire, &self.reach, Post { url, headers: Vec::new(), body }, &masker, judge).await
    }
}

impl Dingtalk {
    async fn url(&self, wire: &Wire<'_>, masker: &mut Masker) -> Result<String, Trouble> {
        let token = wire.secret_text(&self.access_token, masker).await?;
        let url = http::with_parameter(&self.base_url, "/robot/send", "access_token", &token)?;
        let Some(reference) = &self.sign else { return Ok(url) };
        let secret = wire.secret_text(reference, masker).await?;
        let now = wire.clock.now();
        let sign = signature(&secret, now);
        http::hide(masker, reference, &sign);
        // `+`, `/` and `=` must be percent-encoded, once.
        let sign: String = url::form_urlencoded::byte_serialize(sign.as_bytes()).collect();
        Ok(format!("{url}&timestamp={}&sign={sign}", now.as_millis()))
    }
}

/// HMAC-SHA256 over the time in milliseconds, a line break and the secret, by the secret.
fn signature(secret: &str, now: Timestamp) -> String {
    http::hmac(secret.as_bytes(), format!("{}\n{secret}", now.as_millis()).as_bytes())
}

fn body(message: &Message, mention: &Mention, keyword: Option<&str>, words: Words) -> Value {
    let heading = match message.level {
        Level::Info => format!("### {}", message.title),
        level => format!("### 【{}】{}", words.level(level), message.title),
    };
    let mut tail = String::new();
    // Only those who stand in the text as well are called.
    for called in mention.phones.iter().chain(&mention.people) {
        tail.push_str(" @");
        tail.push_str(called);
    }
    let text = format!("{heading}\n\n{}", message.markdown(words));
    if let Some(keyword) = keyword.filter(|keyword| !text.contains(*keyword)) {
        tail.push_str("\n\n");
        tail.push_str(keyword);
    }
    let separator = if tail.starts_with(' ') { "\n\n" } else { "" };
    let text = cut(&text, TEXT_BYTES_MAX.saturating_sub(tail.len() + separator.len()), words.cut());
    json!({
        "msgtype": "markdown",
        "markdown": { "title": message.title, "text": format!("{text}{separator}{tail}") },
        "at": { "atMobiles": mention.phones, "atUserIds": mention.people, "isAtAll": mention.all },
    })
}

fn judge(response: &Response) -> Result<Value, Said> {
    let answer = http::object(response)?;
    // Seen under load instead of an errcode.
    if answer.get("errcode").is_none() && answer.get("punish").is_some() {
        let seconds = answer.get("wait").and_then(Value::as_u64).unwrap_or_default();
        let wait = Duration::from_secs(seconds).max(Duration::from_mins(1));
        return Err(Said::Busy { what: "it is under punishment for too many messages".to_owned(), wait });
    }
    let (code, what) = http::code_of(&answer, "errcode", "errmsg")?;
    match code {
        0 => Ok(Value::Null),
        130_101 | 410_100 => Err(Said::Busy { what, wait: SHUT_FOR }),
        -1 => Err(Said::Down { what }),
        310_000 => Err(Said::Refused {
            what,
            help: "compare the robot's safety settings with the channel: `sign` for 加签, `keyword` for 自定义关键词, \
                   and this machine's address for the list of addresses; a wrong clock looks like a wrong signature",
        }),
        300_001 | 300_005 | 400_101 => Err(Said::Refused {
            what,
            help: "the token is wrong, or the robot was removed: take it from the group anew",
        }),
        400_013 | 400_102 => {
            Err(Said::Refused { what, help: "the group or its robot is gone: make another, and change the token" })
        }
        _ => Err(Said::Refused { what, help: "look the code up in DingTalk's list of error codes" }),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::channels::words::Language;

    /// The value that the package `DingtalkChatbot` 1.5.7 makes of the same secret and time.
    #[test]
    fn signs_as_others_do() {
        let sign = signature("SEC0123456789abcdef", Timestamp::from_millis(1_795_338_000_123));
        assert_eq!(sign, "osOiA1BsjcFKpehA1953gOPpt5Hnv4LOIcyvN+OLnUY=");
        let vectors = include_str!("../../tests/vectors/outbound/signatures.json");
        let vectors: Vec<Value> = serde_json::from_str(vectors).unwrap();
        let ours = vectors.iter().filter(|vector| vector["scheme"] == "out_dingtalk_sign");
        let tried = ours.map(|vector| {
            let now = Timestamp::from_millis(vector["timestamp_ms"].as_i64().unwrap());
            let sign = signature(vector["secrets"]["secret"].as_str().unwrap(), now);
            assert_eq!(vector["sign"], sign, "{}", vector["id"]);
        });
        assert_eq!(tried.count(), 4);
    }

    #[test]
    fn whoever_is_called_stands_in_the_text() {
        let message = Message { title: "订单失败".into(), text: "#1042".into(), level: Level::Error, table: None };
        let mention = Mention { phones: vec!["13800000000".into()], ..Mention::default() };
        let sent = body(&message, &mention, Some("告警"), Words::of(Language::Zh));
        assert_eq!(sent["markdown"]["text"], "### 【错误】订单失败\n\n#1042\n\n @13800000000\n\n告警");
        assert_eq!(sent["at"]["atMobiles"][0], "13800000000");
        let sent = body(&message, &Mention::default(), Some("订单"), Words::of(Language::Zh));
        assert_eq!(sent["markdown"]["text"], "### 【错误】订单失败\n\n#1042");
    }
}
