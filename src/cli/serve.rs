//! `clawhook serve`: opens the doors and runs what comes in, until it is told to stop.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use aws_lc_rs::hmac;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config;
use super::error::Error;
use super::output;
use super::systemd;
use crate::boot::{self, Running};
use crate::clock::SystemClock;
use crate::domain::secret::Secrets as _;
use crate::gateway::{Caller, Scopes};
use crate::secrets::Vault;
use crate::tasks::plan::{RoutePlan, Verify};
use crate::telemetry;

/// What to serve.
#[derive(Debug, Clone, Args)]
pub(super) struct Serve {
    /// Settings file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    pub(super) config: PathBuf,
    /// What to log: a level, or `clawhook=debug,hyper=warn`
    #[arg(long, value_name = "FILTER", env = "CLAWHOOK_LOG", default_value = "info,actix_server=warn")]
    log: String,
    /// Log for people or for machines; by where stderr goes when left out
    #[arg(long, value_name = "FORMAT", env = "CLAWHOOK_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Json,
    Text,
}

pub(super) async fn run(serve: Serve) -> Result<ExitCode, Error> {
    let format = match serve.log_format {
        Some(LogFormat::Text) => telemetry::Format::Text,
        None if std::io::stderr().is_terminal() => telemetry::Format::Text,
        Some(LogFormat::Json) | None => telemetry::Format::Json,
    };
    telemetry::start_logs(&serve.log, format).map_err(Error::new)?;
    let cannot = |error: std::io::Error| Error::new(format!("signals cannot be received: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(cannot)?;
    let start = boot::Start { config: serve.config, env: config::environment(), clock: Arc::new(SystemClock) };
    let mut running =
        boot::start(start).await.map_err(|error| Error::new(format!("the gateway cannot start: {}", chain(&error))))?;
    greet(&running).await;
    let status = format!("hooks at {}, control at {}", running.hooks_url, running.control_url);
    systemd::ready(&status);
    let gateway = running.gateway.clone();
    let (alive, beside) = (CancellationToken::new(), TaskTracker::new());
    beside.spawn(systemd::watchdog(gateway.clone(), alive.clone()));
    let broken = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = tokio::signal::ctrl_c() => break None,
            error = running.broken() => break Some(error),
            _ = hang_up.recv() => {
                let caller = Caller { name: "SIGHUP".to_owned(), scopes: Scopes::all(), remote: "local".to_owned() };
                systemd::reloading();
                if let Err(error) = gateway.reload(&caller).await {
                    tracing::error!(%error, "the files were not reloaded: {error}");
                }
                systemd::ready(&status);
            }
        }
    };
    systemd::stopping();
    running.stop().await;
    alive.cancel();
    beside.close();
    beside.wait().await;
    match broken {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => Err(Error::new(chain(&error))),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// Says where the doors are, and gives a delivery to try when there is a Shopify route on this machine.
async fn greet(running: &Running) {
    output::note(&format!("hooks listening on {}", running.hooks_url));
    output::note(&format!("control listening on {}", running.control_url));
    let Some(curl) = sample(running).await else { return };
    output::note("\ntry it: this is an order of a Shopify shop, signed with your webhook key");
    output::note(&format!("\n{curl}\n"));
    // As it was called: it need not be on the path.
    let program = std::env::args().next().unwrap_or_else(|| "clawhook".to_owned());
    output::note(&format!("\nthen:\n\n{program} runs list\n{program} runs show RUN_ID\n"));
}

/// A small order as Shopify sends them.
const ORDER: &str = include_str!("sample_order.json");

/// A `curl` line that delivers a signed order: only for a door in the clear on this machine, where people try things.
async fn sample(running: &Running) -> Option<String> {
    if !running.hooks_url.starts_with("http://127.") {
        return None;
    }
    let catalog = running.catalog();
    let is_shopify = |plan: &&Arc<RoutePlan>| match &plan.verify {
        Verify::Scheme { verifier, .. } => plan.enabled && verifier.kind().name == "shopify",
        Verify::Nobody | Verify::Fetched(_) => false,
    };
    let plan = catalog.routes.values().find(is_shopify)?;
    let Verify::Scheme { secrets, .. } = &plan.verify else { return None };
    let settings = running.settings();
    // A key that is kept elsewhere is not put on a screen.
    let vault = Vault::open(&settings.secrets, &settings.azure, Arc::new(SystemClock)).ok().filter(Vault::is_local)?;
    let key = vault.resolve(secrets.first()?.1.first()?).await.ok()?;
    let order = ORDER.trim_end();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()), order.as_bytes());
    let signature = data_encoding::BASE64.encode(tag.as_ref());
    let id = format!("{:032x}", rand::random::<u128>());
    Some(format!(
        "curl -i {url}{path} \\\n  -H 'Content-Type: application/json' -H 'X-Shopify-Topic: orders/create' \\\n  \
         -H 'X-Shopify-Shop-Domain: demo.myshopify.com' -H 'X-Shopify-Webhook-Id: {id}' \\\n  \
         -H 'X-Shopify-Triggered-At: {now}' \\\n  -H 'X-Shopify-Hmac-Sha256: {signature}' \\\n  --data-raw '{order}'",
        url = running.hooks_url,
        path = plan.path,
        now = crate::clock::Clock::now(&SystemClock),
    ))
}
