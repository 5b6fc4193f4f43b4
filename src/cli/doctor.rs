//! `clawhook doctor`: is this machine fit, and what mends it when not.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::config;
use super::error::Error;
use super::output::{self, Output};
use super::table::table;
use super::words::count;
use crate::clock::SystemClock;
use crate::doctor::{self, Finding, Verdict};

/// What to look at.
#[derive(Debug, Clone, Args)]
pub(super) struct Doctor {
    /// Settings file
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
    /// Only ask the gateway that runs whether it is ready: for health checks
    #[arg(long)]
    quick: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(doctor: &Doctor, output: Output) -> Result<ExitCode, Error> {
    let settings = config::settings(&doctor.config, output)?;
    let findings = if doctor.quick {
        vec![doctor::alive(&settings).await]
    } else {
        let gathered = config::gather(&doctor.config, &config::environment());
        doctor::examine(&settings, &gathered.secrets, Arc::new(SystemClock)).await
    };
    if doctor.json {
        output::print_json(&json!({ "findings": findings }));
    } else {
        output::print(&report(&findings));
    }
    let bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn report(findings: &[Finding]) -> String {
    let row = |finding: &Finding| vec![word(finding.verdict).to_owned(), finding.about.clone(), finding.found.clone()];
    let mut text = table(&["", "WHAT", "FOUND"], findings.iter().map(row));
    for finding in findings {
        if let Some(mend) = &finding.mend {
            text = format!("{text}\n\n{}: {}\nhelp: {mend}", finding.about, finding.found);
        }
    }
    let of = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (bad, doubtful) = (of(Verdict::Bad), of(Verdict::Doubtful));
    format!("{text}\n\n{}, {}\n", count(bad, "problem"), count(doubtful, "doubt"))
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "ok",
        Verdict::Doubtful => "doubtful",
        Verdict::Bad => "BAD",
        Verdict::Skipped => "skipped",
    }
}
