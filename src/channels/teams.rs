//! Microsoft Teams, by a flow of Power Automate ("When a Teams webhook request is received"). The connectors of
//! Office 365 that came before are retired. Facts: learn.microsoft.com, "Create incoming webhooks with Workflows".

use std::sync::Arc;

use serde_json::{Value, json};

use super::hook::{self, Form};
use super::http::{self, Said};
use super::message::{Level, Mention, Message, cut};
use super::words::Words;
use super::{Channel, ChannelKind, Given, Key, Misfit};
use crate::outbound::Response;

pub(super) const CHANNEL: ChannelKind = ChannelKind {
    name: "teams",
    summary: "A Teams channel, by the address of a Workflows webhook in `url`.",
    keys: &[Key::needed("url", "url: { secret_ref: teams-webhook-url }")],
    rate: (4, 1),
    open,
};

/// Of the 28 KB of a whole message, what is left for the text when every byte of it may be escaped.
const TEXT_BYTES_MAX: usize = 12_000;

fn open(settings: Given) -> Result<Arc<dyn Channel>, Misfit> {
    hook::open(settings, Form { text_bytes_max: TEXT_BYTES_MAX, body, judge })
}

/// A message with one adaptive card in it.
fn body(message: &Message, mention: &Mention, words: Words) -> Value {
    let colour = match message.level {
        Level::Info => "default",
        Level::Warning => "warning",
        Level::Error => "attention",
    };
    let text = message.markdown(words);
    let text = cut(&text, TEXT_BYTES_MAX, words.cut());
    let mut parts = vec![json!({
        "type": "TextBlock", "text": message.title, "size": "medium", "weight": "bolder", "wrap": true, "color": colour,
    })];
    if !text.is_empty() {
        parts.push(json!({ "type": "TextBlock", "text": text, "wrap": true }));
    }
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": { "width": "Full" },
    });
    if !mention.people.is_empty() {
        let tag = |person: &String| format!("<at>{person}</at>");
        let called: Vec<_> = mention.people.iter().map(tag).collect();
        parts.push(json!({ "type": "TextBlock", "text": called.join(" "), "wrap": true }));
        let entity = |person: &String| json!({ "type": "mention", "text": tag(person), "mentioned": { "id": person, "name": person } });
        card["msteams"]["entities"] = mention.people.iter().map(entity).collect();
    }
    card["body"] = Value::Array(parts);
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card,
        }],
    })
}

/// The flow has the message: whether Teams shows it is not said to anybody.
fn judge(response: &Response) -> Result<Value, Said> {
    let what = || format!("{} {}", response.status.as_u16(), http::body_text(response));
    match response.status.as_u16() {
        202 => Ok(json!({ "note": "the flow took it; whether Teams shows it is not told" })),
        200 if response.body.is_empty() || http::body_text(response) == "1" => Ok(Value::Null),
        200..=299 => Err(Said::Unknown { what: format!("answered with something unexpected: {}", what()) }),
        404 => Err(Said::Refused { what: what(), help: "the flow is gone: make another, and change the secret" }),
        401 | 403 => Err(Said::Refused { what: what(), help: "the signature in the address is wrong: copy it whole" }),
        _ => Err(Said::Refused { what: what(), help: "open the flow's history in Power Automate" }),
    }
}
