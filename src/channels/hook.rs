//! Channels that are one address and nothing else: whoever has it can write there, so the address is the secret.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::http::{self, Judge, Post, Reach};
use super::message::{Mention, Message};
use super::words::Words;
use super::{Channel, Given, Misfit, Notice, Sending, Text, Wire, given};
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;

/// What a platform makes of such a channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// Bytes of text that it takes in one message.
    pub(super) text_bytes_max: usize,
    /// The message as it wants it.
    pub(super) body: fn(&Message, &Mention, Words) -> Value,
    pub(super) judge: Judge,
}

#[derive(Debug)]
struct Hook {
    url: SecretRef,
    reach: Reach,
    form: Form,
}

/// The channel whose address is the `url` of `settings`. It must be a secret.
pub(super) fn open(settings: Given, form: Form) -> Result<Arc<dyn Channel>, Misfit> {
    match given("url", settings.url)? {
        Text::Secret(url) => Ok(Arc::new(Hook { url, reach: Reach::new(settings.tls, settings.timeout), form })),
        Text::Plain(_) => Err(Misfit::new(
            "url",
            "the address of a webhook is a secret: whoever has it can write there",
            "put it into the secret source, and write `url: { secret_ref: NAME }`",
        )),
    }
}

#[async_trait]
impl Channel for Hook {
    fn secrets(&self) -> Vec<&SecretRef> {
        vec![&self.url]
    }

    fn text_bytes_max(&self) -> usize {
        self.form.text_bytes_max
    }

    async fn send(&self, wire: &Wire<'_>, notice: &Notice<'_>) -> Sending {
        let mut masker = Masker::over(wire.secrets.known());
        let url = match http::address(wire, &Text::Secret(self.url.clone()), &mut masker).await {
            Ok(url) => url,
            Err(trouble) => return trouble.into(),
        };
        let body = (self.form.body)(notice.message, notice.mention, notice.words);
        http::send(wire, &self.reach, Post { url, headers: Vec::new(), body }, &masker, self.form.judge).await
    }
}
