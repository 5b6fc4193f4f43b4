//! `clawhook notify`: sends one message on a channel of the settings, here and now, so that people see whether it arrives
//! before they trust it. It counts nothing and waits for nothing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::check::render;
use super::config;
use super::error::Error;
use super::output::{self, Output};
use crate::channels::message::{Level, Mention, Message};
use crate::channels::{Notice, Verdict, Wire};
use crate::clock::{Clock, SystemClock};
use crate::id::ChannelName;
use crate::limits;
use crate::outbound::Client;
use crate::secrets::Vault;
use crate::spec::diagnostic::Report;

/// What to send, and where.
#[derive(Debug, Clone, Args)]
pub(super) struct Notify {
    /// A channel of the settings
    channel: String,
    /// What to say
    #[arg(long, default_value = "If you can read this, the channel works. 看到这条消息，说明通道可用。")]
    text: String,
    /// Its first line
    #[arg(long, default_value = "Clawhook")]
    title: String,
    /// Settings file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
    /// Print what became of it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(wanted: &Notify, output: Output) -> Result<ExitCode, Error> {
    let settings = config::without_doors(&wanted.config, true).map_err(|problems| {
        output::note(&render(&Report::new(problems), output));
        Error::new("nothing was sent, because of the problems above")
    })?;
    let settings = settings.ok_or_else(|| Error::new("there are no settings"))?;
    let plan = settings.channels.get(wanted.channel.as_str()).ok_or_else(|| {
        let known: Vec<_> = settings.channels.keys().map(ChannelName::as_str).collect();
        let error = Error::new(format!("there is no channel `{}`", wanted.channel)).code("notify.channel");
        error.help(if known.is_empty() {
            "there are none yet".to_owned()
        } else {
            format!("there are {}", known.join(", "))
        })
    })?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let vault = Vault::open(&settings.secrets, &settings.azure, Arc::clone(&clock));
    let vault = vault.map_err(|error| Error::new(error.to_string()))?;
    let client = Client::new(settings.egress.clone());
    let message = Message { title: wanted.title.clone(), text: wanted.text.clone(), level: Level::Info, table: None };
    let message = message.bounded(plan.words());
    let id = format!("by-hand-{:016x}", rand::random::<u64>());
    let notice = Notice { id: &id, message: &message, mention: &Mention::default(), words: plan.words() };
    let time_limit = limits::CHANNEL_TIMEOUT;
    let wire = Wire { client: &client, secrets: &vault, clock: clock.as_ref(), time_limit };
    let sending = plan.channel.send(&wire, &notice).await;
    client.close().await;
    match sending.result {
        Ok(said) => {
            let answer = json!({ "channel": plan.name, "type": plan.kind, "taken": true, "said": said });
            output::show(wanted.json, &answer, || taken(&answer));
            Ok(ExitCode::SUCCESS)
        }
        Err(trouble) => {
            let error = Error::new(&trouble.failure.message).code(&trouble.failure.code);
            let help = trouble.failure.help.clone();
            Err(match (help, trouble.verdict) {
                (Some(help), _) => error.help(help),
                (None, Verdict::Busy { wait }) => error.help(format!("try again in {} s", wait.as_secs())),
                (None, _) => error,
            })
        }
    }
}

fn taken(answer: &Value) -> String {
    let note = answer["said"]["note"].as_str().map(|note| format!(" ({note})")).unwrap_or_default();
    format!(
        "channel {} took the message{note}: look whether it is there",
        answer["channel"].as_str().unwrap_or_default()
    )
}
