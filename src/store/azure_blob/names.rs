//! What blobs are called. Names are the layout: they are never changed, only added.

use crate::clock::Timestamp;
use crate::domain::delivery::DeliveryKey;
use crate::id::{RunId, Seq, WorkflowName};

/// Every delivery that is remembered, by the hash of its key.
pub(super) const DELIVERIES: &str = "deliveries/";
/// Bodies that were seen, by hash.
pub(super) const GUARDS: &str = "guards/";
/// One append blob for each run that was ever claimed.
pub(super) const LOGS: &str = "logs/";
/// Logs that were rewritten into one piece.
pub(super) const COLD: &str = "cold/";
/// One empty blob for each run that has not ended.
pub(super) const OPEN: &str = "open/";
/// Append blobs of journals: kind, day, writer.
pub(super) const JOURNALS: &str = "journals/";
/// Small named values of the gateways.
pub(super) const MARKS: &str = "marks.json";

/// The member of a marker's metadata that names its delivery.
pub(super) const KEY: &str = "key";
/// The member of a marker's metadata that no other marker has.
pub(super) const BY: &str = "by";
/// The member of a delivery's metadata with its runs.
pub(super) const RUNS: &str = "runs";
/// The member of a delivery's metadata that says until when it is remembered, milliseconds.
pub(super) const EXPIRES: &str = "expires";

pub(super) fn delivery(key: DeliveryKey) -> String {
    format!("{DELIVERIES}{}", data_encoding::HEXLOWER.encode(key.as_bytes()))
}

pub(super) fn guard(key: DeliveryKey) -> String {
    format!("{GUARDS}{}", data_encoding::HEXLOWER.encode(key.as_bytes()))
}

pub(super) fn log(run: RunId) -> String {
    format!("{LOGS}{run}")
}

pub(super) fn cold(run: RunId) -> String {
    format!("{COLD}{run}")
}

/// The marker of a run that is open since its event `since`: 0, or the one that resumed it.
pub(super) fn marker(run: RunId, since: Seq) -> String {
    if since == Seq(0) { format!("{OPEN}{run}") } else { format!("{OPEN}{run}-{}", since.0) }
}

/// The run of a marker, and the event since which it is open.
pub(super) fn of_marker(name: &str) -> Option<(RunId, Seq)> {
    let name = name.strip_prefix(OPEN)?;
    match name.split_once('-') {
        Some((run, since)) => Some((run.parse().ok()?, Seq(since.parse().ok()?))),
        None => Some((name.parse().ok()?, Seq(0))),
    }
}

/// What the logs of runs that were accepted around this time begin with: the same for 2^20 ms, some 17 minutes.
pub(super) fn logs_around(at: Timestamp) -> String {
    const DIGITS_OF_TIME: usize = 5;
    let run = RunId::floor(at).to_string();
    let end = run.len().min("run_".len() + DIGITS_OF_TIME);
    format!("{LOGS}{}", &run[..end])
}

pub(super) fn document(revision: &str) -> String {
    format!("documents/{revision}")
}

pub(super) fn state(workflow: &WorkflowName) -> String {
    format!("states/{workflow}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_say_whose_they_are() {
        let run = RunId::from_u64(1_795_338_000_123 << 20);
        for since in [Seq(0), Seq(17)] {
            assert_eq!(of_marker(&marker(run, since)), Some((run, since)));
        }
        assert_eq!(of_marker("open/else"), None);
    }

    #[test]
    fn logs_of_one_time_stand_together() {
        let at = Timestamp::from_secs(1_795_338_000);
        let name = log(RunId::floor(at));
        assert!(name.starts_with(&logs_around(at)));
        let later = Timestamp::from_secs(1_795_338_000 + 3600);
        assert!(!name.starts_with(&logs_around(later)));
    }
}
