//! Any program that takes JSON: one POST, signed by the Standard Webhooks scheme when there is a key.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::http::{self, Post, Reach, Said};
use super::{Channel, ChannelKind, Given, Key, Misfit, Notice, Sending, Text, Trouble, Wire, given};
use crate::domain::failure::{Failure, Fault};
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::domain::signing;
use crate::limits;
use crate::outbound::Response;

pub(super) const CHANNEL: ChannelKind = ChannelKind {
    name: "webhook",
    summary: "Any program of yours: the message as JSON, signed by Standard Webhooks when there is a `sign`.",
    keys: &[Key::needed("url", "url: { secret_ref: alerts-webhook-url }"), Key::may("sign"), Key::may("headers")],
    rate: (60, 60),
    open,
};

#[derive(Debug)]
struct Webhook {
    url: Text,
    /// `whsec_` and base64, or bytes as they are.
    sign: Option<SecretRef>,
    headers: Vec<(String, Text)>,
    reach: Reach,
}

fn open(settings: Given) -> Result<Arc<dyn Channel>, Misfit> {
    let url = given("url", settings.url)?;
    if let Text::Plain(text) = &url {
        crate::outbound::parse_url(text).map_err(|cause| Misfit::new("url", cause.to_string(), cause.help()))?;
    }
    for (name, _) in &settings.headers {
        if ::http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            let help = "write it as the far end does, such as `X-Api-Key`";
            return Err(Misfit::new("headers", format!("`{name}` cannot be the name of a header"), help));
        }
    }
    let reach = Reach::new(settings.tls, settings.timeout);
    Ok(Arc::new(Webhook { url, sign: settings.sign, headers: settings.headers, reach }))
}

#[async_trait]
impl Channel for Webhook {
    fn secrets(&self) -> Vec<&SecretRef> {
        let url = match &self.url {
            Text::Secret(reference) => Some(reference),
            Text::Plain(_) => None,
        };
        let headers = self.headers.iter().filter_map(|(_, value)| match value {
            Text::Secret(reference) => Some(reference),
            Text::Plain(_) => None,
        });
        url.into_iter().chain(&self.sign).chain(headers).collect()
    }

    fn text_bytes_max(&self) -> usize {
        limits::NOTICE_TEXT_BYTES_MAX
    }

    async fn send(&self, wire: &Wire<'_>, notice: &Notice<'_>) -> Sending {
        let mut masker = Masker::over(wire.secrets.known());
        match self.post(wire, notice, &mut masker).await {
            Ok(post) => http::send(wire, &self.reach, post, &masker, judge).await,
            Err(trouble) => trouble.into(),
        }
    }
}

impl Webhook {
    async fn post(&self, wire: &Wire<'_>, notice: &Notice<'_>, masker: &mut Masker) -> Result<Post, Trouble> {
        let url = http::address(wire, &self.url, masker).await?;
        let now = wire.clock.now();
        let body = json!({
            "id": notice.id,
            "at": now.to_string(),
            "level": notice.message.level,
            "title": notice.message.title,
            "text": notice.message.text,
            "table": notice.message.table,
            "mention": notice.mention,
        });
        let (id, timestamp) = (notice.id.to_owned(), now.as_secs());
        let mut headers =
            vec![("webhook-id".to_owned(), id.clone()), ("webhook-timestamp".to_owned(), timestamp.to_string())];
        for (name, value) in &self.headers {
            let value = match value {
                Text::Plain(value) => value.clone(),
                Text::Secret(reference) => wire.secret_text(reference, masker).await?,
            };
            headers.push((name.clone(), value));
        }
        if let Some(reference) = &self.sign {
            let secret = wire.secret_text(reference, masker).await?;
            let sign = signing::standard_webhook(secret.as_bytes(), &id, timestamp, body.to_string().as_bytes());
            let sign = sign.ok_or_else(|| {
                let message = format!("secret `{}` begins with `whsec_` and is not base64 behind it", reference.name);
                let help = "copy the key whole, as `whsec_…`";
                Trouble::refused(Failure::new("notify.refused", Fault::Config, message).help(help))
            })?;
            http::hide(masker, reference, &sign);
            headers.push(("webhook-signature".to_owned(), sign));
        }
        Ok(Post { url, headers, body })
    }
}

fn judge(response: &Response) -> Result<Value, Said> {
    if response.status.is_success() {
        return Ok(Value::Null);
    }
    let what = format!("{} {}", response.status.as_u16(), http::body_text(response));
    Err(Said::Refused { what, help: "look into the log of whoever takes these messages" })
}
