//! What was measured, as a Markdown table, and the small statistics behind it.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::Result;

/// The machine, and a row for each number.
#[derive(Debug, Default)]
pub(crate) struct Report {
    machine: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    target: String,
    gateway: String,
    bare: String,
    ratio: String,
}

impl Report {
    /// Adds a number, its target, the bare handler's number, and how they compare.
    pub(crate) fn row(&mut self, what: impl Into<String>, target: &str, gateway: String, bare: String, ratio: String) {
        let row = Row { what: what.into(), target: target.to_owned(), gateway, bare, ratio };
        eprintln!("   {}: {} (bare {}, ratio {}, target {})", row.what, row.gateway, row.bare, row.ratio, row.target);
        self.rows.push(row);
    }

    /// Says that a number was not taken, and why.
    pub(crate) fn skipped(&mut self, what: &str, why: &str) {
        self.row(what, "–", format!("not measured: {why}"), "–".into(), "–".into());
    }

    /// Notes the cores and the disk: a number without them says nothing.
    pub(crate) fn machine(&mut self, folder: &Path) -> Result<()> {
        let cores = std::thread::available_parallelism()?;
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map(|(_, name)| name);
        self.machine.push(format!("{cores} cores ({})", model.unwrap_or("unknown model").trim()));
        let syncs = sync_times(folder)?;
        self.machine.push(format!(
            "fdatasync of 4 KiB in `{}`: p50 {}, p99 {}",
            folder.display(),
            ms(percentile(&syncs, 50)),
            ms(percentile(&syncs, 99)),
        ));
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for line in &self.machine {
            writeln!(f, "- {line}")?;
        }
        writeln!(f, "\n| What | Target | Clawhook | Bare handler | Ratio |\n|---|---|---|---|---|")?;
        for Row { what, target, gateway, bare, ratio } in &self.rows {
            writeln!(f, "| {what} | {target} | {gateway} | {bare} | {ratio} |")?;
        }
        Ok(())
    }
}

/// How long the disk takes to make 4 KiB durable.
fn sync_times(folder: &Path) -> Result<Vec<Duration>> {
    const WRITES: usize = 500;
    let mut file = tempfile::tempfile_in(folder)?;
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        file.write_all(&[7; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// The value below which this share of the sorted values lies.
pub(crate) fn percentile(sorted: &[Duration], share: usize) -> Duration {
    let place = (sorted.len() * share).div_ceil(100).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(place).copied().unwrap_or_default()
}

/// The middle of some numbers, with the least and the greatest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(at(middle.saturating_sub(1)), at(middle))
        } else {
            at(middle)
        };
        Self { median, least: at(0), greatest: at(values.len().saturating_sub(1)) }
    }

    /// `51% (48–55)`.
    pub(crate) fn percent(self) -> String {
        format!("{:.0}% ({:.0}–{:.0})", self.median * 100.0, self.least * 100.0, self.greatest * 100.0)
    }

    /// `42100/s (40000–43000)`.
    pub(crate) fn rate(self) -> String {
        format!("{:.0}/s ({:.0}–{:.0})", self.median, self.least, self.greatest)
    }

    /// `8.1 ms (7.9–9.0)`, of seconds.
    pub(crate) fn ms(self) -> String {
        format!("{:.2} ms ({:.2}–{:.2})", self.median * 1e3, self.least * 1e3, self.greatest * 1e3)
    }
}

/// `0.19 ms`.
pub(crate) fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

/// `24.3 MiB`, of KiB.
pub(crate) fn mib(kib: u32) -> String {
    format!("{:.1} MiB", f64::from(kib) / 1024.0)
}
