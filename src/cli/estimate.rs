//! `clawhook estimate`: which machine, how much storage, and what it costs a month.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::error::Error;
use super::output;
use super::table::table;
use crate::domain::{byte_size, duration};
use crate::estimate::{self, Estimate, Expected, Prices};

/// Prices that come with the program.
const PRICES: &str = include_str!("../../infra/prices.json");

/// What is expected.
#[derive(Debug, Clone, Args)]
pub(super) struct Estimating {
    /// Deliveries, slots and calls a day
    #[arg(long, value_name = "COUNT", default_value_t = 5_000.0, value_parser = positive)]
    triggers: f64,
    /// How long a run takes, its waits for far ends included
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = length)]
    run: Duration,
    /// Runs in progress at one time that must be possible; computed from the peak when left out
    #[arg(long, value_name = "COUNT", value_parser = positive)]
    concurrency: Option<f64>,
    /// Outbound calls of a run
    #[arg(long, value_name = "COUNT", default_value_t = 2.0, value_parser = positive)]
    calls: f64,
    /// Mean body of a delivery
    #[arg(long, value_name = "SIZE", default_value = "6KiB", value_parser = size)]
    body: u64,
    /// Mean body of a far end's answer
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = size)]
    answer: u64,
    /// How long runs are kept
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = length)]
    retention: Duration,
    /// How long bodies are kept
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = length)]
    payloads: Duration,
    /// Availability that is wanted, per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 99.9, value_parser = positive)]
    sla: f64,
    /// Where runs are kept
    #[arg(long, value_enum, default_value_t = Backend::Sqlite)]
    backend: Backend,
    /// Finished runs are exported to Blob Storage as well
    #[arg(long)]
    records: bool,
    /// Prices of your region or agreement, in the form of `infra/prices.json`
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Print the estimate as JSON
    #[arg(long)]
    json: bool,
}

/// A `storage.backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    Sqlite,
    AzureBlob,
    Postgres,
}

pub(super) fn run(asked: &Estimating) -> Result<ExitCode, Error> {
    let estimate = estimate::estimate(&asked.expected(), &asked.prices()?).map_err(|e| Error::new(e.to_string()))?;
    if asked.json {
        output::print_json(&serde_json::json!(estimate));
    } else {
        output::print(&told(&estimate));
    }
    Ok(ExitCode::SUCCESS)
}

impl Estimating {
    fn expected(&self) -> Expected {
        let days = |time: Duration| time.as_secs_f64() / 86_400.0;
        Expected {
            triggers_day: self.triggers,
            run_s: self.run.as_secs_f64(),
            concurrency: self.concurrency,
            calls: self.calls,
            body_bytes: bytes(self.body),
            answer_bytes: bytes(self.answer),
            runs_days: days(self.retention),
            payloads_days: days(self.payloads),
            sla: self.sla,
            backend: match self.backend {
                Backend::Sqlite => estimate::Backend::Sqlite,
                Backend::AzureBlob => estimate::Backend::AzureBlob,
                Backend::Postgres => estimate::Backend::Postgres,
            },
            records: self.records,
        }
    }

    fn prices(&self) -> Result<Prices, Error> {
        let (name, text) = match &self.prices {
            None => ("infra/prices.json".to_owned(), PRICES.to_owned()),
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path);
                (
                    name.clone(),
                    text.map_err(|error| Error::new(format!("cannot read the prices in `{name}`: {error}")))?,
                )
            }
        };
        serde_json::from_str(&text).map_err(|error| {
            Error::new(format!("cannot use the prices in `{name}`: {error}; start from `infra/prices.json`"))
        })
    }
}

fn told(estimate: &Estimate) -> String {
    let facts = [
        ("triggers in the busiest second", format!("{:.1}", estimate.peak_per_s)),
        ("runs in progress then", format!("{:.0}", estimate.concurrency)),
        ("kept when the oldest go", format!("{:.2} GiB", estimate.stored_gib)),
        ("growth a day until then", format!("{:.1} MiB", estimate.growth_gib_day * 1024.0)),
        ("Blob writes, reads, lists a month", {
            let blob = estimate.blob;
            format!("{:.0}, {:.0}, {:.0}", blob.writes, blob.reads, blob.lists)
        }),
        ("logs a month", format!("{:.2} GiB", estimate.logs_gib)),
    ];
    let facts = table(&["NEEDED", ""], facts.into_iter().map(|(what, much)| vec![what.to_owned(), much]));
    let price = |month: f64| format!("{month:.2} {}", estimate.currency);
    let lines = estimate.lines.iter().map(|line| vec![line.what.clone(), price(line.month)]);
    let lines = table(&["A MONTH", ""], lines.chain([vec!["together".to_owned(), price(estimate.total)]]));
    let notes = estimate.notes.join("\nnote: ");
    format!("{facts}\n\n{lines}\n\nprices of {}, {}\nnote: {notes}\n", estimate.prices_as_of, estimate.region)
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && *number > 0.0)
        .ok_or_else(|| "a number above 0 is wanted".into())
}

fn length(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| format!("{}; {}", error.problem(), error.help()))
}

fn size(text: &str) -> Result<u64, String> {
    byte_size::parse(text).map_err(|error| format!("{}; {}", error.problem(), error.help()))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate of sizes far below 2^52")]
const fn bytes(count: u64) -> f64 {
    count as f64
}
