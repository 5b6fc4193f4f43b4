//! `clawhook subscriptions`: what platforms were asked to send here, held against the routes, and mended. `plan` changes
//! nothing. Both speak to the platforms from this machine, through the connections of the settings; no gateway is needed.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use super::check::render;
use super::config;
use super::error::Error;
use super::output::{self, Output};
use super::table::table;
use super::words::count;
use crate::clock::{Clock, SystemClock};
use crate::id::ConnectionName;
use crate::outbound::Client;
use crate::secrets::Vault;
use crate::settings::Settings;
use crate::spec::diagnostic::Report;
use crate::subscriptions::{Action, Change, Comparison, Desk, Trouble, Wanted, compare};
use crate::tasks::plan::Catalog;

/// What platforms are asked to send to the routes.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Subscriptions {
    /// Tells what is missing, leads elsewhere or was switched off, and changes nothing
    #[command(
        after_help = "Exit codes: 0 all is in order, 1 a platform could not be asked, 2 the arguments are wrong, \
                            3 there is something to do."
    )]
    Plan(Look),
    /// Asks for what is missing and mends what is wrong
    #[command(after_help = "Exit codes: 0 all is in order now, 1 something could not be done, 2 the arguments are \
                            wrong, 3 it was not agreed to.")]
    Apply(Apply),
}

/// Which files, and which connection.
#[derive(Debug, Clone, Args)]
pub(super) struct Look {
    /// Only what goes through this connection
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    /// Also remove what leads to this gateway and no route wants
    #[arg(long)]
    prune: bool,
    /// Settings file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// What to do without asking.
#[derive(Debug, Clone, Args)]
pub(super) struct Apply {
    #[command(flatten)]
    look: Look,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
}

/// The exit code that says that there is something to do.
const DRIFT: u8 = 3;

/// What is needed to speak to the platforms.
struct Means {
    settings: Settings,
    wanted: BTreeMap<ConnectionName, Vec<Wanted>>,
    client: Client,
    vault: Vault,
    clock: Arc<dyn Clock>,
}

pub(super) async fn run(asked: Subscriptions, output: Output) -> Result<ExitCode, Error> {
    let (look, apply) = match asked {
        Subscriptions::Plan(look) => (look, None),
        Subscriptions::Apply(Apply { look, yes }) => (look, Some(yes)),
    };
    let means = Means::open(&look, output).await?;
    let done = means.run(&look, apply).await;
    means.client.close().await;
    done
}

impl Means {
    async fn open(look: &Look, output: Output) -> Result<Self, Error> {
        let mut gathered = config::gather(&look.config, &config::environment());
        gathered.look_for_secrets().await;
        let report = Report::new(gathered.problems);
        if report.errors() > 0 {
            output::note(&render(&report, output));
            return Err(Error::new(format!(
                "the files have {}, so nobody was asked",
                count(report.errors(), "problem")
            )));
        }
        let settings = config::without_doors(&look.config, true).map_err(|problems| {
            output::note(&render(&Report::new(problems), output));
            Error::new("nobody was asked, because of the problems above")
        })?;
        let settings = settings.ok_or_else(|| Error::new("there are no settings"))?;
        let wanted =
            wanted(&gathered.loaded.catalog, settings.hooks.public_url.as_deref(), look.connection.as_deref())?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let vault = Vault::open(&settings.secrets, &settings.azure, Arc::clone(&clock));
        let vault = vault.map_err(|error| Error::new(error.to_string()))?;
        let client = Client::new(settings.egress.clone());
        Ok(Self { settings, wanted, client, vault, clock })
    }

    async fn run(&self, look: &Look, apply: Option<bool>) -> Result<ExitCode, Error> {
        let compared = self.compare(look.prune).await?;
        let changes: Vec<&Change> = compared.values().flat_map(|told| &told.changes).collect();
        let Some(yes) = apply else {
            output::show(look.json, &json!({ "connections": compared }), || shown(&compared));
            return Ok(ExitCode::from(if changes.is_empty() { 0 } else { DRIFT }));
        };
        if changes.is_empty() || !(yes || agreed(&compared)?) {
            output::show(look.json, &json!({ "done": [], "connections": compared }), || shown(&compared));
            return Ok(ExitCode::from(if changes.is_empty() { 0 } else { DRIFT }));
        }
        let mut done = Vec::new();
        let mut troubles = Vec::new();
        for change in changes {
            let wanted = self.wanted[&change.connection].iter();
            let one = wanted
                .clone()
                .find(|one| change.route.as_ref() == Some(&one.route) && one.platform_topic() == change.topic);
            let Some(desk) = self.desk(&change.connection) else { continue };
            match desk.apply(change, one).await {
                Ok(()) => done.push(change),
                Err(trouble) => troubles.push((change, trouble)),
            }
        }
        let failed: Vec<_> = troubles
            .iter()
            .map(|(change, trouble)| json!({ "change": change, "why": trouble.to_string(), "help": trouble.help }))
            .collect();
        output::show(look.json, &json!({ "done": done, "failed": failed }), || {
            let rows = done.iter().map(|change| row(change));
            if done.is_empty() { "nothing was done".to_owned() } else { table(HEADS, rows) }
        });
        let Some((_, first)) = troubles.first() else { return Ok(ExitCode::SUCCESS) };
        Err(told(first, format!("{} could not be done: {first}", count(troubles.len(), "change"))))
    }

    async fn compare(&self, prune: bool) -> Result<BTreeMap<ConnectionName, Comparison>, Error> {
        let mut compared = BTreeMap::new();
        for (name, wanted) in &self.wanted {
            let Some(desk) = self.desk(name) else { continue };
            let standing = desk.list().await.map_err(|trouble| told(&trouble, trouble.to_string()))?;
            compared.insert(name.clone(), compare(wanted, &standing, prune));
        }
        Ok(compared)
    }

    fn desk(&self, name: &ConnectionName) -> Option<Desk<'_>> {
        let first = self.wanted.get(name)?.first()?;
        Some(Desk {
            connection: self.settings.connections.get(name)?,
            platform: first.platform,
            api_version: first.api_version.as_deref(),
            client: &self.client,
            secrets: &self.vault,
            clock: self.clock.as_ref(),
        })
    }
}

/// What the routes want, by connection.
fn wanted(
    catalog: &Catalog,
    public_url: Option<&str>,
    only: Option<&str>,
) -> Result<BTreeMap<ConnectionName, Vec<Wanted>>, Error> {
    let mut all: BTreeMap<ConnectionName, Vec<Wanted>> = BTreeMap::new();
    for route in catalog.routes.values().filter(|route| route.enabled) {
        let Some(asked) = &route.subscription else { continue };
        if only.is_some_and(|only| only != asked.connection.as_str()) {
            continue;
        }
        let url = match (&asked.url, public_url) {
            (Some(url), _) => url.clone(),
            (None, Some(public)) => format!("{}{}", public.trim_end_matches('/'), route.path),
            (None, None) => {
                let message = format!("nobody says how the platform reaches the route `{}`", route.name);
                let help = "write `listen: { hooks: { public_url: \"https://gw.example.com\" } }` in the settings, or `url` in the `subscription`";
                return Err(Error::new(message).help(help));
            }
        };
        let of = all.entry(asked.connection.clone()).or_default();
        if let Some(first) = of.first().filter(|first| first.platform != asked.platform) {
            let message = format!(
                "the routes `{}` and `{}` take the connection `{}` for different platforms",
                first.route, route.name, asked.connection
            );
            return Err(Error::new(message).help("give each platform a connection of its own"));
        }
        for topic in &asked.topics {
            let wanted = Wanted {
                route: route.name.clone(),
                connection: asked.connection.clone(),
                platform: asked.platform,
                topic: topic.clone(),
                url: url.clone(),
                proof: asked.proof.clone(),
                api_version: asked.api_version.clone(),
            };
            // Several routes of one path take the same delivery: one subscription serves them all.
            if !of.iter().any(|other| other.platform_topic() == wanted.platform_topic() && other.url == wanted.url) {
                of.push(wanted);
            }
        }
    }
    match (all.is_empty(), only) {
        (false, _) => Ok(all),
        (true, None) => {
            let help = "add `subscription: { connection: shop, topics: [orders/create] }` to a route";
            Err(Error::new("no route has a `subscription`").help(help))
        }
        (true, Some(only)) => Err(Error::new(format!("no route has a `subscription` through the connection `{only}`"))),
    }
}

/// Asks the person at the terminal.
fn agreed(compared: &BTreeMap<ConnectionName, Comparison>) -> Result<bool, Error> {
    if !io::stdin().is_terminal() {
        let error = Error::new("nobody is there to agree");
        return Err(error.help("look with `clawhook subscriptions plan`, then write `--yes`"));
    }
    output::note(&shown(compared));
    output::note("Do this? [y/N]");
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Error::new(format!("cannot read the answer: {error}")))?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

const HEADS: &[&str] = &["ACTION", "CONNECTION", "ROUTE", "TOPIC", "URL", "WHY"];

fn row(change: &Change) -> Vec<String> {
    let action = match change.action {
        Action::Create => "create",
        Action::Repair => "repair",
        Action::Remove => "remove",
    };
    let route = change.route.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    vec![
        action.to_owned(),
        change.connection.to_string(),
        route,
        change.topic.clone(),
        change.url.clone(),
        change.why.join("; "),
    ]
}

fn shown(compared: &BTreeMap<ConnectionName, Comparison>) -> String {
    let mut lines = Vec::new();
    let changes: Vec<_> = compared.values().flat_map(|told| &told.changes).collect();
    if !changes.is_empty() {
        lines.push(table(HEADS, changes.iter().map(|change| row(change))));
    }
    for (connection, told) in compared {
        for there in &told.surplus {
            lines.push(format!(
                "{connection}: {} leads to {} and no route wants it; `--prune` removes it",
                there.topic, there.url
            ));
        }
        let foreign = if told.foreign > 0 { format!(", {} of others", told.foreign) } else { String::new() };
        lines.push(format!("{connection}: {} in order, {} to do{foreign}", told.in_order, told.changes.len()));
    }
    lines.join("\n")
}

fn told(trouble: &Trouble, message: String) -> Error {
    let error = Error::new(message).code("subscription.refused");
    match &trouble.help {
        Some(help) => error.help(help.clone()),
        None => error,
    }
}
