//! `clawhook runs artifact`: what of a run is too large for its record.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::api::{Api, Place, Server};
use super::error::Error;
use super::output;
use super::table::table;
use super::words::{list, number, text};

/// An artifact to fetch, or all of a run to list.
#[derive(Debug, Clone, Args)]
pub(super) struct Artifact {
    /// The run
    run: String,
    /// The artifact; without it, those of the run are listed
    #[arg(value_name = "ARTIFACT")]
    id: Option<String>,
    /// Write it into this file, which must not be there yet, instead of to the terminal
    #[arg(long, value_name = "FILE", requires = "id")]
    out: Option<PathBuf>,
    /// Print the gateway's list as it came
    #[arg(long, conflicts_with = "id")]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Artifact {
    pub(super) async fn run(&self) -> Result<(), Error> {
        let api = Api::open(&self.server)?;
        let Some(artifact) = &self.id else {
            let artifacts = api.get(&Place::new(&["runs", &self.run, "artifacts"])).await?;
            output::show(self.json, &artifacts, || show(&artifacts));
            return Ok(());
        };
        let mut opened = api.read(&Place::new(&["runs", &self.run, "artifacts", artifact])).await?;
        let mut sink: Box<dyn std::io::Write> = match &self.out {
            Some(file) => {
                Box::new(std::fs::File::create_new(file).map_err(|error| Error::file("write", file, &error))?)
            }
            None => Box::new(std::io::stdout().lock()),
        };
        let broken = |why: String| {
            Error::new(format!("`{artifact}` broke off: {why}")).help("what was written is not whole; fetch it again")
        };
        while let Some(piece) = opened.body.next().await.map_err(|cause| broken(cause.sentence()))? {
            sink.write_all(&piece).map_err(|error| broken(error.to_string()))?;
        }
        sink.flush().map_err(|error| broken(error.to_string()))
    }
}

fn show(artifacts: &Value) -> String {
    let rows = list(artifacts, "items").iter().map(|artifact| {
        let rows = artifact["rows"].as_u64().map(|rows| rows.to_string()).unwrap_or_default();
        vec![
            text(artifact, "artifact").to_owned(),
            text(artifact, "media_type").to_owned(),
            number(artifact, "bytes").to_string(),
            rows,
        ]
    });
    if rows.len() == 0 {
        return "no artifacts".to_owned();
    }
    table(&["ARTIFACT", "TYPE", "BYTES", "ROWS"], rows)
}
