//! Incoming webhooks of Slack. Facts: docs.slack.dev, "Sending messages using incoming webhooks".

use std::sync::Arc;

use serde_json::{Value, json};

use super::hook::{self, Form};
use super::http::{self, Said};
use super::message::{Level, Mention, Message, cut};
use super::words::Words;
use super::{Channel, ChannelKind, Given, Key, Misfit};
use crate::outbound::Response;

pub(super) const CHANNEL: ChannelKind = ChannelKind {
    name: "slack",
    summary: "An incoming webhook of Slack; `url` is its whole address.",
    keys: &[Key::needed("url", "url: { secret_ref: slack-webhook-url }")],
    rate: (1, 1),
    open,
};

/// Slack cuts the text of a message at 40,000 characters and advises fewer than 4,000.
const TEXT_BYTES_MAX: usize = 12_000;

fn open(settings: Given) -> Result<Arc<dyn Channel>, Misfit> {
    hook::open(settings, Form { text_bytes_max: TEXT_BYTES_MAX, body, judge })
}

fn body(message: &Message, mention: &Mention, words: Words) -> Value {
    let mark = match message.level {
        Level::Info => "",
        Level::Warning => ":warning: ",
        Level::Error => ":red_circle: ",
    };
    let mut called: Vec<String> = mention.people.iter().map(|person| format!("<@{person}>")).collect();
    called.extend(mention.all.then(|| "<!channel>".to_owned()));
    let mut text = format!("{mark}*{}*\n{}", escaped(&message.title), bold(&escaped(message.text.trim_end())));
    if let Some(table) = &message.table {
        text.push_str("\n```\n");
        text.push_str(&escaped(&table.plain()).replace("```", "'''"));
        text.push_str("\n```");
        if table.more > 0 {
            text.push('\n');
            text.push_str(&words.more(table.more));
        }
    }
    let called = if called.is_empty() { String::new() } else { format!("\n{}", called.join(" ")) };
    let text = cut(&text, TEXT_BYTES_MAX.saturating_sub(called.len()), words.cut());
    json!({ "text": format!("{text}{called}") })
}

/// Slack escapes these three and nothing else.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Slack's bold has one star.
fn bold(text: &str) -> String {
    text.replace("**", "*")
}

fn judge(response: &Response) -> Result<Value, Said> {
    let what = http::body_text(response);
    match response.status.as_u16() {
        200 if what == "ok" => Ok(Value::Null),
        200..=299 => Err(Said::Unknown { what: format!("answered {} with `{what}` instead of `ok`", response.status) }),
        404 | 410 => Err(Said::Refused { what, help: "the webhook or its channel is gone: make another in Slack" }),
        403 => {
            Err(Said::Refused { what, help: "Slack does not let this webhook write there: ask who runs the workspace" })
        }
        status => Err(Said::Refused {
            what: format!("{status} {what}"),
            help: "look the word up in Slack's page on webhooks",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels::message::Table;
    use crate::channels::words::Language;

    #[test]
    fn data_calls_nobody() {
        let table =
            Table { columns: vec!["sku".into(), "gap".into()], rows: vec![vec!["A&B".into(), "5".into()]], more: 2 };
        let message =
            Message { title: "1 < 2".into(), text: "**<!channel>**".into(), level: Level::Warning, table: Some(table) };
        let mention = Mention { people: vec!["U1".into()], ..Mention::default() };
        let sent = body(&message, &mention, Words::of(Language::En));
        assert_eq!(
            sent["text"],
            ":warning: *1 &lt; 2*\n*&lt;!channel&gt;*\n```\nsku  gap\nA&amp;B  5\n```\nand 2 more\n<@U1>"
        );
    }
}
