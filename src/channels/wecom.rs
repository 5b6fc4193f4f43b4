//! Robots of a WeCom group. Facts: "群机器人配置说明" of developer.work.weixin.qq.com.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::http::{self, Post, Reach, Said};
use super::message::{Level, Mention, Message, cut};
use super::words::Words;
use super::{Channel, ChannelKind, Given, Key, Misfit, Notice, Sending, Wire, given};
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::outbound::Response;
use crate::outbound::connection::BaseUrl;

pub(super) const CHANNEL: ChannelKind = ChannelKind {
    name: "wecom",
    summary: "A robot in a WeCom group; `key` is the last part of its webhook address.",
    keys: &[Key::needed("key", "key: { secret_ref: wecom-robot-key }"), Key::may("base_url")],
    rate: (20, 60),
    open,
};

const BASE_URL: &str = "https://qyapi.weixin.qq.com";
/// Bytes of `markdown.content` and `markdown_v2.content`.
const CONTENT_BYTES_MAX: usize = 4096;

#[derive(Debug)]
struct Wecom {
    base_url: BaseUrl,
    key: SecretRef,
    reach: Reach,
}

fn open(settings: Given) -> Result<Arc<dyn Channel>, Misfit> {
    Ok(Arc::new(Wecom {
        base_url: base_url(settings.base_url, BASE_URL)?,
        key: given("key", settings.key)?,
        reach: Reach::new(settings.tls, settings.timeout),
    }))
}

/// The address that was set, or the platform's own.
pub(super) fn base_url(set: Option<BaseUrl>, own: &str) -> Result<BaseUrl, Misfit> {
    set.map_or_else(|| BaseUrl::new(own), Ok).map_err(|cause| Misfit::new("base_url", cause.to_string(), cause.help()))
}

#[async_trait]
impl Channel for Wecom {
    fn secrets(&self) -> Vec<&SecretRef> {
        vec![&self.key]
    }

    fn text_bytes_max(&self) -> usize {
        CONTENT_BYTES_MAX
    }

    async fn send(&self, wire: &Wire<'_>, notice: &Notice<'_>) -> Sending {
        let mut masker = Masker::over(wire.secrets.known());
        let key = match wire.secret_text(&self.key, &mut masker).await {
            Ok(key) => key,
            Err(trouble) => return trouble.into(),
        };
        let url = match http::with_parameter(&self.base_url, "/cgi-bin/webhook/send", "key", &key) {
            Ok(url) => url,
            Err(trouble) => return trouble.into(),
        };
        let body = body(notice.message, notice.mention, notice.words);
        http::send(wire, &self.reach, Post { url, headers: Vec::new(), body }, &masker, judge).await
    }
}

/// `markdown_v2` has tables, and neither colours nor mentions; `markdown` the other way round.
fn body(message: &Message, mention: &Mention, words: Words) -> Value {
    if message.table.is_some() && mention.is_empty() {
        let content = format!("**{}**\n\n{}", message.title, tame(&message.markdown_with_table(words)));
        let content = cut(&content, CONTENT_BYTES_MAX, words.cut());
        return json!({ "msgtype": "markdown_v2", "markdown_v2": { "content": content } });
    }
    let title = match message.level {
        Level::Info => format!("**{}**", tame(&message.title)),
        Level::Warning | Level::Error => format!("<font color=\"warning\">**{}**</font>", tame(&message.title)),
    };
    let mut called: Vec<String> = mention.people.iter().map(|person| format!("<@{person}>")).collect();
    called.extend(mention.all.then(|| "<@all>".to_owned()));
    // Mentions stay whole: the text before them is cut.
    let called = if called.is_empty() { String::new() } else { format!("\n{}", called.join(" ")) };
    let text = format!("{title}\n{}", tame(&message.markdown(words)));
    let text = cut(&text, CONTENT_BYTES_MAX.saturating_sub(called.len()), words.cut());
    json!({ "msgtype": "markdown", "markdown": { "content": format!("{text}{called}") } })
}

/// Data must not call people by name, nor colour what follows.
fn tame(text: &str) -> String {
    text.replace("<@", "<\u{200b}@").replace("<font", "<\u{200b}font").replace("</font", "<\u{200b}/font")
}

fn judge(response: &Response) -> Result<Value, Said> {
    let answer = http::object(response)?;
    let (code, what) = http::code_of(&answer, "errcode", "errmsg")?;
    match code {
        0 => Ok(Value::Null),
        // The rate; robots are counted by the minute.
        45_009 => Err(Said::Busy { what, wait: Duration::from_mins(1) }),
        -1 => Err(Said::Down { what }),
        93_000 => {
            Err(Said::Refused { what, help: "the key is wrong, or the robot was removed: take it from the group anew" })
        }
        _ => Err(Said::Refused { what, help: "look the code up in WeCom's list of global error codes" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::message::Table;
    use crate::channels::words::Language;

    #[test]
    fn a_table_without_mentions_is_a_table() {
        let table = Table { columns: vec!["sku".into()], rows: vec![vec!["A".into()]], more: 0 };
        let message = Message { title: "t".into(), table: Some(table), ..Message::default() };
        let words = Words::of(Language::Zh);
        let sent = body(&message, &Mention::default(), words);
        assert_eq!(sent["markdown_v2"]["content"], "**t**\n\n| sku |\n| --- |\n| A |");
        let called = Mention { people: vec!["li".into()], all: true, ..Mention::default() };
        assert_eq!(body(&message, &called, words)["markdown"]["content"], "**t**\n- A\n<@li> <@all>");
    }

    #[test]
    fn long_texts_are_cut_and_call_whom_they_should() {
        let message = Message { title: "标题".into(), text: "长".repeat(3000), level: Level::Error, table: None };
        let called = Mention { people: vec!["li".into()], ..Mention::default() };
        let sent = body(&message, &called, Words::of(Language::Zh));
        let content = sent["markdown"]["content"].as_str().unwrap_or_default();
        assert!(content.len() <= CONTENT_BYTES_MAX && content.len() > CONTENT_BYTES_MAX - 4, "{}", content.len());
        assert!(content.ends_with("长…（已截断）\n<@li>"), "{content}");
        assert!(!tame("note <@all> <font color=\"info\">").contains("<@all>"));
    }
}
