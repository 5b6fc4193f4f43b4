//! `clawhook record`: makes a test and its fixture of a real run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::api::{Api, Place, Server};
use super::config;
use super::error::Error;
use super::output;
use super::words::{list, text};
use crate::expr::JsonPath;
use crate::settings::Settings;
use crate::trials::record::{Taken, Wanted, record};

/// What to record.
#[derive(Debug, Clone, Args)]
pub(super) struct Record {
    /// The run
    run: String,
    /// Where to write: `NAME.test.yaml` and `fixtures/NAME.yaml`; the folder of the workflows when left out
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// What the files are called; the workflow and the run when left out
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Blank this in bodies, inputs and outputs, such as `$.email`, and wherever else the same text stands; may be given
    /// several times
    #[arg(long, value_name = "JSONPATH")]
    redact: Vec<String>,
    #[command(flatten)]
    server: Server,
}

/// How deep runs that start runs are followed.
const DEPTH_MAX: usize = 8;

pub(super) async fn run(wanted: &Record) -> Result<ExitCode, Error> {
    let path = |text: &String| {
        JsonPath::parse(text).map_err(|error| {
            Error::new(format!("`{text}` is not a path: {}", error.message))
                .help("write it like `--redact '$.customer'`")
        })
    };
    let redact = wanted.redact.iter().map(path).collect::<Result<Vec<_>, _>>()?;
    let api = Api::open(&wanted.server)?;
    let taken = take(&api, &wanted.run, 0).await?;
    if taken.run["payloads_gone"] == true {
        return Err(
            Error::new(format!("retention has let the bodies of {} go", wanted.run)).help("record a younger run")
        );
    }
    if taken.run["ended_at"].is_null() {
        return Err(
            Error::new(format!("{} is {}", wanted.run, text(&taken.run, "status"))).help("record it when it has ended")
        );
    }
    let settings = config::without_doors(wanted.server.config(), false).ok().flatten();
    let name = wanted.name.clone().unwrap_or_else(|| {
        format!("{}-{}", text(&taken.run, "workflow"), text(&taken.run, "id").trim_start_matches("run_"))
    });
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        return Err(Error::new(format!("`{name}` is not a name for a file")).help("use letters, digits, `-` and `_`"));
    }
    let connections = settings.as_ref().map(connections).unwrap_or_default();
    let made = record(&taken, &Wanted { name: name.clone(), connections, redact });
    let folder = wanted.out.clone().or_else(|| settings.map(|settings| settings.workflows));
    let folder = folder.unwrap_or_else(|| PathBuf::from("workflows"));
    let mut files = vec![(folder.join(format!("{name}.test.yaml")), made.test)];
    files.extend(made.fixture.map(|text| (folder.join("fixtures").join(format!("{name}.yaml")), text)));
    if let Some((there, _)) = files.iter().find(|(file, _)| file.exists()) {
        return Err(Error::new(format!("nothing was written, because there is `{}` already", there.display()))
            .help("give another `--name`, or remove it"));
    }
    for (file, text) in &files {
        write(file, text)?;
        output::print(&format!("wrote {}", file.display()));
    }
    for warning in &made.warnings {
        output::note(&format!("warning: {warning}"));
    }
    output::note("secrets are not in it; look for names of people yourself, and then play it with `clawhook test`");
    Ok(ExitCode::SUCCESS)
}

/// A run, and those that it started.
async fn take(api: &Api, id: &str, depth: usize) -> Result<Taken, Error> {
    let run = api.get(&Place::new(&["runs", id])).await?;
    let events = api.get(&Place::new(&["runs", id, "events"])).await?;
    let workflow = api.get(&Place::new(&["workflows", text(&run, "workflow")])).await?;
    let kinds: BTreeMap<String, String> = list(&workflow, "tasks")
        .iter()
        .map(|task| (text(task, "id").to_owned(), text(task, "type").to_owned()))
        .collect();
    let mut children = Vec::new();
    if depth < DEPTH_MAX {
        for id in started(&run) {
            children.push(Box::pin(take(api, &id, depth + 1)).await?);
        }
    }
    Ok(Taken { run, events, kinds, children })
}

/// The runs that tasks of a run say that they started.
fn started(run: &Value) -> Vec<String> {
    let attempts = list(run, "tasks").iter().flat_map(|task| list(task, "attempts"));
    let ids = attempts.filter_map(|attempt| attempt["output"]["run_id"].as_str());
    ids.filter(|id| id.starts_with("run_")).map(str::to_owned).collect()
}

fn connections(settings: &Settings) -> Vec<(String, crate::outbound::connection::BaseUrl)> {
    settings.connections.iter().map(|(name, connection)| (name.to_string(), connection.base_url.clone())).collect()
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let told = |error: std::io::Error| Error::file("write", path, &error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(told)?;
    }
    std::fs::write(path, text).map_err(told)
}
