//! Robots of a Feishu or Lark group. Facts: "自定义机器人使用指南" of open.feishu.cn.

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
use crate::domain::failure::{Failure, Fault};
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::outbound::Response;
use crate::outbound::connection::BaseUrl;

pub(super) const CHANNEL: ChannelKind = ChannelKind {
    name: "feishu",
    summary: "A robot in a Feishu or Lark group; `hook` is the last part of its webhook address.",
    keys: &[
        Key::needed("hook", "hook: { secret_ref: feishu-robot-hook }"),
        Key::may("sign"),
        Key::may("keyword"),
        Key::may("base_url"),
    ],
    rate: (100, 60),
    open,
};

/// Lark's is `https://open.larksuite.com`.
const BASE_URL: &str = "https://open.feishu.cn";
/// Of the 20 KB of a whole body, what is left for the text when every byte of it may be escaped.
const TEXT_BYTES_MAX: usize = 9_000;

#[derive(Debug)]
struct Feishu {
    base_url: BaseUrl,
    hook: SecretRef,
    sign: Option<SecretRef>,
    keyword: Option<String>,
    reach: Reach,
}

fn open(settings: Given) -> Result<Arc<dyn Channel>, Misfit> {
    Ok(Arc::new(Feishu {
        base_url: base_url(settings.base_url, BASE_URL)?,
        hook: given("hook", settings.hook)?,
        sign: settings.sign,
        keyword: settings.keyword,
        reach: Reach::new(settings.tls, settings.timeout),
    }))
}

#[async_trait]
impl Channel for Feishu {
    fn secrets(&self) -> Vec<&SecretRef> {
        std::iter::once(&self.hook).chain(&self.sign).collect()
    }

    fn text_bytes_max(&self) -> usize {
        TEXT_BYTES_MAX
    }

    async fn send(&self, wire: &Wire<'_>, notice: &Notice<'_>) -> Sending {
        let mut masker = Masker::over(wire.secrets.known());
        match self.post(wire, notice, &mut masker).await {
            Ok(post) => http::send(wire, &self.reach, post, &masker, judge).await,
            Err(trouble) => trouble.into(),
        }
    }
}

impl Feishu {
    async fn post(&self, wire: &Wire<'_>, notice: &Notice<'_>, masker: &mut Masker) -> Result<Post, Trouble> {
        let hook = wire.secret_text(&self.hook, masker).await?;
        let path = format!("/open-apis/bot/v2/hook/{hook}");
        let url = self.base_url.join(&path, &[]).map_err(|cause| {
            let message = format!("secret `{}` does not fit into an address: {}", self.hook.name, cause.code());
            let help = "the secret is the last part of the robot's address only";
            Trouble::refused(Failure::new("notify.refused", Fault::Config, message).help(help))
        })?;
        let mut body = body(notice.message, notice.mention, self.keyword.as_deref(), notice.words);
        if let Some(reference) = &self.sign {
            let secret = wire.secret_text(reference, masker).await?;
            let now = wire.clock.now();
            let sign = signature(&secret, now);
            http::hide(masker, reference, &sign);
            body["timestamp"] = Value::String(now.as_secs().to_string());
            body["sign"] = Value::String(sign);
        }
        Ok(Post { url: url.to_string(), headers: Vec::new(), body })
    }
}

/// HMAC-SHA256 over nothing, by the time in seconds, a line break and the secret: key and text are swapped against
/// DingTalk.
fn signature(secret: &str, now: Timestamp) -> String {
    http::hmac(format!("{}\n{secret}", now.as_secs()).as_bytes(), b"")
}

fn body(message: &Message, mention: &Mention, keyword: Option<&str>, words: Words) -> Value {
    let mut tail: Vec<String> = mention.people.iter().map(|person| format!("<at id={person}></at>")).collect();
    tail.extend(mention.all.then(|| "<at id=all></at>".to_owned()));
    let text = message.markdown(words).replace("<at", "<\u{200b}at");
    tail.extend(keyword.filter(|word| !text.contains(*word) && !message.title.contains(*word)).map(ToOwned::to_owned));
    let tail = if tail.is_empty() { String::new() } else { format!("\n{}", tail.join(" ")) };
    let text = cut(&text, TEXT_BYTES_MAX.saturating_sub(tail.len()), words.cut());
    let template = match message.level {
        Level::Info => "blue",
        Level::Warning => "orange",
        Level::Error => "red",
    };
    json!({
        "msg_type": "interactive",
        "card": {
            "config": { "wide_screen_mode": true },
            "header": { "title": { "tag": "plain_text", "content": message.title }, "template": template },
            "elements": [{ "tag": "markdown", "content": format!("{text}{tail}") }],
        },
    })
}

fn judge(response: &Response) -> Result<Value, Said> {
    let answer = http::object(response)?;
    // Old robots answer `StatusCode` beside `code`, or alone.
    let key = if answer.get("code").is_some() { "code" } else { "StatusCode" };
    let words = if key == "code" { "msg" } else { "StatusMessage" };
    let (code, what) = http::code_of(&answer, key, words)?;
    match code {
        0 => Ok(Value::Null),
        11_232 => Err(Said::Busy { what, wait: Duration::from_mins(1) }),
        19_001 => Err(Said::Refused {
            what,
            help: "the hook is wrong, or the robot was removed: take it from the group anew",
        }),
        19_021 => Err(Said::Refused { what, help: "compare `sign` with the robot's, and this machine's clock" }),
        19_022 => Err(Said::Refused { what, help: "add this machine's address to the robot's list" }),
        19_024 => Err(Said::Refused { what, help: "set `keyword` to the word that the robot asks for" }),
        _ => Err(Said::Refused { what, help: "look the code up in Feishu's guide to custom robots" }),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::channels::words::Language;

    /// The value that the Python of Feishu's own guide makes of the same secret and time.
    #[test]
    fn signs_as_the_guide_does() {
        let sign = signature("SEC0123456789abcdef", Timestamp::from_millis(1_795_338_000_999));
        assert_eq!(sign, "ZrGyN6r5kYNAVOx5rcm284BhJrPypAjbHZPdCVkC/eI=");
        let vectors = include_str!("../../tests/vectors/outbound/signatures.json");
        let vectors: Vec<Value> = serde_json::from_str(vectors).unwrap();
        let ours = vectors.iter().filter(|vector| vector["scheme"] == "out_feishu_sign");
        let tried = ours.map(|vector| {
            let secs = vector["body_members"]["timestamp"].as_str().unwrap().parse().unwrap();
            let sign = signature(vector["secrets"]["secret"].as_str().unwrap(), Timestamp::from_secs(secs));
            assert_eq!(vector["body_members"]["sign"], sign, "{}", vector["id"]);
        });
        assert_eq!(tried.count(), 2);
    }

    #[test]
    fn data_calls_nobody() {
        let message = Message { text: "<at id=all></at>".into(), ..Message::default() };
        let mention = Mention { people: vec!["ou_1".into()], ..Mention::default() };
        let sent = body(&message, &mention, None, Words::of(Language::Zh));
        assert_eq!(sent["card"]["elements"][0]["content"], "<\u{200b}at id=all></at>\n<at id=ou_1></at>");
    }
}
