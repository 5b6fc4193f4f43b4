//! What a gateway needs and costs: machine, disk, Blob operations, logs and a monthly price, from what is expected of
//! it. Plain arithmetic over measured costs and a price file; it knows no gateway and asks nobody.

use serde::{Deserialize, Serialize};

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
const DAYS_A_MONTH: f64 = 30.4;
const SECONDS_A_DAY: f64 = 86_400.0;

/// How much busier the busiest second is than the mean one: orders come by day and in sales.
const PEAK: f64 = 10.0;
/// Processor time of one run with one call, seconds: a third of what `bench/README.md` measures on two cores that the
/// load shares, turned round for room.
const CPU_RUN_S: f64 = 0.001;
/// Processor time of each further call, seconds.
const CPU_CALL_S: f64 = 0.0004;
/// Share of the machine that the gateway may use at its peak.
const CPU_SHARE: f64 = 0.5;
/// Memory of an idle gateway and the system beside it, GiB.
const MEMORY_BASE_GIB: f64 = 0.75;
/// Memory that one run in progress holds, GiB: its log, its answers, its connection.
const MEMORY_RUN_GIB: f64 = 0.5 / 1024.0;
/// Bytes that a run keeps beside bodies: its events, its index row and its head. Measured with the shipped order route.
const BYTES_RUN: f64 = 1_000.0;
/// Bytes that a call keeps beside bodies: request, answer, times.
const BYTES_CALL: f64 = 700.0;
/// Pages that are not full, and indexes.
const BYTES_FILL: f64 = 1.15;
/// Room on the disk for the log, for growth and for a copy.
const DISK_ROOM: f64 = 2.0;
/// Bytes of log lines that start, stop, reload and retention cost a day.
const LOG_BYTES_DAY: f64 = 64_000.0;
/// Bytes of log lines that a failed run costs; one that succeeds costs none.
const LOG_BYTES_FAILURE: f64 = 1_200.0;
/// Runs that fail, when nobody says: one in two hundred.
const FAILED_SHARE: f64 = 0.005;
/// Availability, per cent, that one virtual machine with premium disks is promised by its provider.
/// <https://azure.microsoft.com/support/legal/sla/virtual-machines>
const ONE_MACHINE_SLA: f64 = 99.9;

/// Writes that one run with one call takes.
const RUN_WRITES: f64 = 5.0;
/// Reads that one run takes.
const RUN_READS: f64 = 2.0;
/// Listings of one gateway that looks for others' work.
const LISTS_AN_HOUR: f64 = 540.0;

/// What is expected of a gateway.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Expected {
    /// Deliveries, slots and calls a day.
    pub triggers_day: f64,
    /// How long a run takes, seconds, its waits for far ends included.
    pub run_s: f64,
    /// Runs in progress at one time that must be possible; computed from the peak when absent.
    pub concurrency: Option<f64>,
    /// Outbound calls of a run.
    pub calls: f64,
    /// Mean body of a delivery, bytes.
    pub body_bytes: f64,
    /// Mean body of an answer of a far end, bytes, as far as it is kept.
    pub answer_bytes: f64,
    /// Days that runs are kept.
    pub runs_days: f64,
    /// Days that bodies are kept.
    pub payloads_days: f64,
    /// Availability that is wanted, per cent.
    pub sla: f64,
    pub backend: Backend,
    /// Finished runs are exported to Blob as well.
    pub records: bool,
}

/// A `storage.backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    Sqlite,
    AzureBlob,
    Postgres,
}

/// Prices of one region on one day.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// The day of the prices.
    pub as_of: String,
    pub region: String,
    pub currency: String,
    /// What to know about them.
    pub note: String,
    /// From small to large.
    pub virtual_machines: Vec<Machine>,
    /// From small to large.
    pub disks: Vec<Disk>,
    /// From small to large.
    pub databases: Vec<Machine>,
    pub database_storage_gib_month: f64,
    pub blob: BlobPrices,
    pub logs_gib: f64,
    pub load_balancer_month: f64,
    pub public_ip_month: f64,
    pub vault_operations_10k: f64,
}

/// A size of machine.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    pub name: String,
    pub vcpu: u32,
    pub memory_gib: u32,
    pub month: f64,
}

/// A size of disk.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    pub name: String,
    pub gib: u32,
    pub month: f64,
}

/// Prices of Blob Storage.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobPrices {
    pub gib_month: f64,
    pub writes_10k: f64,
    pub reads_10k: f64,
    pub lists_10k: f64,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    pub expected: Expected,
    /// Triggers in the busiest second.
    pub peak_per_s: f64,
    /// Runs in progress at the peak.
    pub concurrency: f64,
    /// Virtual machines.
    pub machines: u32,
    pub machine: Machine,
    /// The disk of each machine.
    pub disk: Disk,
    pub database: Option<Machine>,
    /// What is kept once the oldest runs go, GiB.
    pub stored_gib: f64,
    /// How much is added a day, GiB.
    pub growth_gib_day: f64,
    /// A month.
    pub blob: BlobOperations,
    /// A month, GiB.
    pub logs_gib: f64,
    /// Each with its price a month.
    pub lines: Vec<Line>,
    /// A month.
    pub total: f64,
    pub currency: String,
    pub prices_as_of: String,
    pub region: String,
    /// What the reader must know.
    pub notes: Vec<String>,
}

/// Operations on Blob Storage in a month.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct BlobOperations {
    pub writes: f64,
    pub reads: f64,
    pub lists: f64,
}

/// One line of the price.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    pub what: String,
    pub month: f64,
}

/// Why there is no estimate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No machine on the list is large enough.
    #[error(
        "no {what} in the price file is large enough for {needed}: add a larger one, or plan several gateways on `postgres`"
    )]
    TooLarge { what: &'static str, needed: String },
    /// More is wanted than anybody promises.
    #[error("nobody promises {0}%: ask for at most 99.99")]
    Sla(String),
}

impl Expected {
    fn peak_per_s(&self) -> f64 {
        self.triggers_day / SECONDS_A_DAY * PEAK
    }

    /// Little's law: those that come in a second, times the seconds that each stays.
    fn in_progress(&self) -> f64 {
        self.concurrency.unwrap_or_else(|| (self.peak_per_s() * self.run_s).ceil().max(1.0))
    }

    fn bytes_a_run(&self) -> (f64, f64) {
        let kept = BYTES_RUN + self.calls * BYTES_CALL;
        let payloads = self.body_bytes + self.calls * self.answer_bytes;
        (kept * BYTES_FILL, payloads * BYTES_FILL)
    }

    fn runs_a_month(&self) -> f64 {
        self.triggers_day * DAYS_A_MONTH
    }
}

/// Computes what is needed and what it costs.
pub fn estimate(expected: &Expected, prices: &Prices) -> Result<Estimate, Error> {
    if expected.sla >= 100.0 {
        return Err(Error::Sla(expected.sla.to_string()));
    }
    let several = expected.sla > ONE_MACHINE_SLA;
    let machines = if several { 2 } else { 1 };
    let (peak_per_s, concurrency) = (expected.peak_per_s(), expected.in_progress());
    let cpus = peak_per_s * (CPU_RUN_S + (expected.calls - 1.0).max(0.0) * CPU_CALL_S) / CPU_SHARE;
    let memory_gib = MEMORY_BASE_GIB + concurrency * MEMORY_RUN_GIB;
    // Each machine carries everything while the other is away.
    let machine = fits(&prices.virtual_machines, cpus, memory_gib)
        .ok_or_else(|| too_large("virtual machine", cpus, memory_gib))?;
    let (kept, payloads) = expected.bytes_a_run();
    let stored_gib = expected.triggers_day
        * (kept * expected.runs_days + payloads * expected.payloads_days.min(expected.runs_days))
        / GIB;
    let on_disk = if expected.backend == Backend::Sqlite { stored_gib } else { stored_gib / 20.0 };
    let wanted = (on_disk * DISK_ROOM).max(8.0);
    let disk = prices.disks.iter().find(|disk| f64::from(disk.gib) >= wanted);
    let disk = disk.ok_or_else(|| Error::TooLarge { what: "disk", needed: format!("{wanted:.0} GiB") })?;
    let database = match expected.backend {
        Backend::Postgres => Some(
            fits(&prices.databases, cpus, memory_gib.max(2.0))
                .ok_or_else(|| too_large("database", cpus, memory_gib))?,
        ),
        Backend::Sqlite | Backend::AzureBlob => None,
    };
    let blob = blob_operations(expected);
    let logs_gib =
        (LOG_BYTES_DAY + expected.triggers_day * FAILED_SHARE * LOG_BYTES_FAILURE) * DAYS_A_MONTH * f64::from(machines)
            / GIB;
    let blob_gib = if expected.backend == Backend::AzureBlob { stored_gib } else { 0.0 }
        + if expected.records { stored_gib } else { 0.0 };
    let mut lines = vec![
        line(
            format!("{machines} × {} ({} vCPU, {} GiB)", machine.name, machine.vcpu, machine.memory_gib),
            machine.month * f64::from(machines),
        ),
        line(format!("{machines} × disk {} ({} GiB)", disk.name, disk.gib), disk.month * f64::from(machines)),
        line("public address", prices.public_ip_month),
        line(format!("logs, {logs_gib:.2} GiB"), logs_gib * prices.logs_gib),
    ];
    if several {
        lines.push(line("load balancer", prices.load_balancer_month));
    }
    if let Some(database) = &database {
        let copies = if several { 2.0 } else { 1.0 };
        let storage = (stored_gib * DISK_ROOM).max(32.0);
        let what = format!("PostgreSQL {}{}", database.name, if several { ", zone-redundant" } else { "" });
        lines.push(line(what, database.month * copies));
        lines.push(line(
            format!("PostgreSQL storage, {storage:.0} GiB"),
            storage * copies * prices.database_storage_gib_month,
        ));
    }
    if blob_gib > 0.0 {
        lines.push(line(format!("Blob Storage, {blob_gib:.1} GiB"), blob_gib * prices.blob.gib_month));
        let operations = (blob.writes * prices.blob.writes_10k
            + blob.reads * prices.blob.reads_10k
            + blob.lists * prices.blob.lists_10k)
            / 10_000.0;
        lines.push(line("Blob operations", operations));
    }
    let total = lines.iter().map(|line| line.month).sum();
    Ok(Estimate {
        expected: expected.clone(),
        peak_per_s,
        concurrency,
        machines,
        machine: machine.clone(),
        disk: disk.clone(),
        database: database.cloned(),
        stored_gib,
        growth_gib_day: expected.triggers_day * (kept + payloads) / GIB,
        blob,
        logs_gib,
        lines,
        total,
        currency: prices.currency.clone(),
        prices_as_of: prices.as_of.clone(),
        region: prices.region.clone(),
        notes: notes(expected, several, &prices.note),
    })
}

/// Operations of the `azure-blob` store and of the export of records; `docs/decisions/azure-blob.md` counts them.
fn blob_operations(expected: &Expected) -> BlobOperations {
    let runs = expected.runs_a_month();
    let mut operations = BlobOperations::default();
    if expected.backend == Backend::AzureBlob {
        operations.writes += runs * (RUN_WRITES + (expected.calls - 1.0).max(0.0));
        operations.reads += runs * RUN_READS;
        operations.lists += LISTS_AN_HOUR * 24.0 * DAYS_A_MONTH;
    }
    if expected.records {
        operations.writes += runs;
    }
    operations
}

/// What the `azure-blob` store costs in operations.
fn notes(expected: &Expected, several: bool, of_prices: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if several && expected.backend == Backend::Sqlite {
        notes.push(format!(
            "{}% needs a second machine that can take over, and `sqlite` keeps runs on one: choose `azure-blob` or `postgres`",
            expected.sla
        ));
    }
    notes.push(format!("the busiest second is taken to be {PEAK} times the mean one; a run that fails writes log lines, one that succeeds none"));
    notes.push(of_prices.to_owned());
    notes
}

fn fits(machines: &[Machine], cpus: f64, memory_gib: f64) -> Option<&Machine> {
    machines.iter().find(|machine| f64::from(machine.vcpu) >= cpus && f64::from(machine.memory_gib) >= memory_gib)
}

fn too_large(what: &'static str, cpus: f64, memory_gib: f64) -> Error {
    Error::TooLarge { what, needed: format!("{:.0} vCPU and {:.0} GiB", cpus.ceil(), memory_gib.ceil()) }
}

fn line(what: impl Into<String>, month: f64) -> Line {
    Line { what: what.into(), month }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn prices() -> Prices {
        serde_json::from_str(include_str!("../infra/prices.json")).unwrap()
    }

    fn seller() -> Expected {
        Expected {
            triggers_day: 5_000.0,
            run_s: 2.0,
            concurrency: None,
            calls: 2.0,
            body_bytes: 6.0 * 1024.0,
            answer_bytes: 1024.0,
            runs_days: 90.0,
            payloads_days: 30.0,
            sla: 99.9,
            backend: Backend::Sqlite,
            records: false,
        }
    }

    fn check(change: impl Fn(&mut Expected), machines: u32, machine: &str, disk: &str) -> Estimate {
        let mut expected = seller();
        change(&mut expected);
        let estimate = estimate(&expected, &prices()).unwrap();
        assert_eq!(
            (estimate.machines, estimate.machine.name.as_str(), estimate.disk.name.as_str()),
            (machines, machine, disk)
        );
        assert!((estimate.lines.iter().map(|line| line.month).sum::<f64>() - estimate.total).abs() < 0.001);
        estimate
    }

    #[test]
    fn a_seller_fits_the_smallest_machine() {
        let small = check(|_| {}, 1, "Standard_B2als_v2", "P4");
        assert!(small.total < 60.0, "{}", small.total);
        assert!(small.stored_gib > 1.0 && small.stored_gib < 5.0, "{}", small.stored_gib);
        let large = check(|e| e.triggers_day *= 100.0, 1, "Standard_B2als_v2", "P20");
        assert!((large.growth_gib_day / small.growth_gib_day - 100.0).abs() < 0.01);
    }

    #[test]
    fn more_is_never_cheaper() {
        let price = |triggers_day: f64| estimate(&Expected { triggers_day, ..seller() }, &prices()).unwrap().total;
        assert!([10.0, 1e3, 1e5, 1e6].windows(2).all(|pair| price(pair[0]) <= price(pair[1])));
    }

    #[test]
    fn availability_wants_a_second_machine_and_a_shared_store() {
        let blob = check(|e| (e.sla, e.backend) = (99.95, Backend::AzureBlob), 2, "Standard_B2als_v2", "P4");
        assert!(blob.blob.writes > 150_000.0 * 6.0);
        let postgres = check(|e| (e.sla, e.backend) = (99.95, Backend::Postgres), 2, "Standard_B2als_v2", "P4");
        assert!(postgres.database.is_some());
        let alone = check(|e| e.sla = 99.95, 2, "Standard_B2als_v2", "P4");
        assert!(alone.notes[0].contains("`sqlite` keeps runs on one"));
    }

    #[test]
    fn what_nothing_on_the_list_can_do_is_said() {
        let refused = |change: fn(&mut Expected)| {
            let mut expected = seller();
            change(&mut expected);
            estimate(&expected, &prices()).unwrap_err().to_string()
        };
        assert!(refused(|e| e.triggers_day = 1e10).contains("large enough"));
        assert!(refused(|e| e.sla = 100.0).contains("nobody promises"));
    }
}
