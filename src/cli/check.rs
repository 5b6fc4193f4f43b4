//! `clawhook check`: every problem of every file at once.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::config;
use super::error::Error;
use super::output::{self, Output};
use super::words::count;
use crate::spec::diagnostic::{Look, Report};
use crate::tasks::plan::Catalog;

/// What to check.
#[derive(Debug, Clone, Args)]
pub(super) struct Check {
    /// Settings file; the folders that it names are checked with it
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
    /// Print the problems as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(check: &Check, output: Output) -> Result<ExitCode, Error> {
    let mut gathered = config::gather(&check.config, &config::environment());
    if !gathered.look_for_secrets().await {
        output::note("secrets are kept elsewhere and were not asked for: `clawhook secrets check` does that");
    }
    let report = Report::new(gathered.problems);
    let (errors, warnings) = (report.errors(), report.problems().len() - report.errors());
    let catalog = &gathered.loaded.catalog;
    if check.json {
        output::print_json(&json!({
            "problems": report.entries(),
            "errors": errors,
            "warnings": warnings,
            "workflows": catalog.workflows.len(),
            "routes": catalog.routes.len(),
            "schedules": catalog.schedules.len(),
            "tests": gathered.tests,
        }));
    } else {
        output::print(&format!("{}{}", render(&report, output), summary(catalog, gathered.tests, errors, warnings)));
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The report as this terminal, or this file, can show it.
pub(super) fn render(report: &Report, output: Output) -> String {
    report.render(if output.colours { Look::Colours } else { Look::Plain })
}

fn summary(catalog: &Catalog, tests: usize, errors: usize, warnings: usize) -> String {
    let tests = if tests == 0 { String::new() } else { format!("{}, ", count(tests, "test")) };
    let warned = if warnings == 0 { String::new() } else { format!(", {}", count(warnings, "warning")) };
    format!(
        "{}, {}, {}, {tests}{}{warned}",
        count(catalog.workflows.len(), "workflow"),
        count(catalog.routes.len(), "route"),
        count(catalog.schedules.len(), "schedule"),
        count(errors, "problem"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts() {
        assert_eq!(summary(&Catalog::default(), 0, 1, 0), "0 workflows, 0 routes, 0 schedules, 1 problem");
        assert_eq!(
            summary(&Catalog::default(), 7, 0, 2),
            "0 workflows, 0 routes, 0 schedules, 7 tests, 0 problems, 2 warnings"
        );
    }
}
