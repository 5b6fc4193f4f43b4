//! Every bound of the gateway, with its unit and its reason. A bound that a user may move is the
//! default of a setting and says so.

use std::time::Duration;

/// Body of a delivery, bytes, unless the route sets `limits.max_body`. Shopify's largest orders are about 1 MiB.
pub const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The most that `limits.max_body` may ask for: bodies are held in memory until they are on disk.
pub const BODY_BYTES_CEILING: usize = 64 * 1024 * 1024;
/// Response body that a task keeps, bytes, unless `max_response` is set. Larger results are artifacts, in a later version.
pub const RESPONSE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of a request or response body kept with an attempt for people to read.
pub const EXCHANGE_BODY_BYTES_MAX: usize = 64 * 1024;
/// Output of one task, bytes of JSON; keeps a run's log readable in memory.
pub const TASK_OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Runs waiting in memory for a free worker; the rest wait in the store.
pub const RUNS_READY_MAX: usize = 256;
/// Runs that make progress at one time in this process (`limits.concurrency`).
pub const RUNS_ACTIVE_MAX: usize = 64;
/// Accepts and appends waiting for the store's writer; past this the door answers 503.
pub const WRITES_QUEUED_MAX: usize = 4096;
/// Writes that one transaction takes: bounds the time a commit holds the others up.
pub const WRITES_PER_COMMIT_MAX: usize = 512;
/// Bytes of bodies and events waiting for the store's writer; past this the door answers 503.
pub const WRITES_QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of bodies and events that one transaction takes: bounds the time a commit takes and the log it leaves.
pub const WRITES_PER_COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a door waits for the store before it answers 503 with `Retry-After`.
pub const ACCEPT_TIMEOUT: Duration = Duration::from_secs(4);
/// What a sender is told to wait after a 503, seconds.
pub const RETRY_AFTER_SECS: u32 = 5;
/// A worker's right to drive a run; longer than any stall we expect, short enough to take over soon.
pub const LEASE: Duration = Duration::from_secs(30);
/// A lease is renewed when this much of it is gone.
pub const LEASE_RENEW_AFTER: Duration = Duration::from_secs(10);
/// Tasks of one workflow, handlers included.
pub const TASKS_MAX: usize = 200;
/// Attempts that `retry` may ask for; beyond this an outage wants a person.
pub const RETRY_MAX: u32 = 100;
/// Longest a task may run when it sets no `timeout`.
pub const TASK_TIMEOUT: Duration = Duration::from_mins(5);
/// Longest a run may take when the workflow sets no `timeout`; waiting counts.
pub const RUN_TIMEOUT: Duration = Duration::from_hours(24);
/// Longest delay between attempts when the task sets no `max_retry_delay`.
pub const RETRY_DELAY_MAX: Duration = Duration::from_mins(5);
/// Longest `Retry-After` that is obeyed; a far end cannot park a run for ever.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);
/// Labels of one run, and bytes of one label's value: they are indexed.
pub const LABELS_MAX: usize = 8;
/// Bytes of a label's value; longer values are cut at a character.
pub const LABEL_BYTES_MAX: usize = 64;
/// Redirects that one request follows, each checked by the egress guard.
pub const REDIRECTS_MAX: usize = 5;
/// Fuel of one expression: about as many MiniJinja instructions.
pub const EXPRESSION_FUEL: u64 = 100_000;
/// Bytes that one expression may produce.
pub const EXPRESSION_OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest an expression's or jq filter's source may be, bytes.
pub const EXPRESSION_SOURCE_BYTES_MAX: usize = 16 * 1024;
/// Time that one jq filter may take before its task fails.
pub const JQ_TIMEOUT: Duration = Duration::from_secs(10);
/// Values that one jq filter may produce.
pub const JQ_OUTPUTS_MAX: usize = 100_000;
/// Bytes of one YAML file.
pub const YAML_BYTES_MAX: usize = 1024 * 1024;
/// Nodes of one YAML file after aliases are expanded: stops alias bombs.
pub const YAML_NODES_MAX: usize = 50_000;
/// Nesting of one YAML file.
pub const YAML_DEPTH_MAX: usize = 64;
/// Refused requests kept for inspection; the oldest go first.
pub const REFUSALS_KEPT_MAX: usize = 1_000;
/// Bytes of a refused body that are kept.
pub const REFUSAL_BODY_BYTES_MAX: usize = 16 * 1024;
/// Audit entries and gateway events kept; the oldest go first.
pub const JOURNAL_KEPT_MAX: usize = 100_000;
/// Entries of a list page, and the default.
pub const PAGE_MAX: usize = 200;
/// Entries of a list page when `limit` is not given.
pub const PAGE_DEFAULT: usize = 50;
/// Secrets are read again from their source after this long.
pub const SECRET_TTL: Duration = Duration::from_mins(5);
/// Missed slots that one catch-up enters for one schedule.
pub const CATCHUP_SLOTS_MAX: usize = 1_000;
/// How long running work gets to finish on SIGTERM before its leases are given back.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of one workflow's `state`.
pub const STATE_BYTES_MAX: usize = 256 * 1024;
/// Reads waiting for one of the store's readers; past this the caller is told that the store is full.
pub const READS_QUEUED_MAX: usize = 4096;
/// Bytes of write-ahead log after which it is copied into the database file, off the commit path.
pub const WAL_COPY_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of write-ahead log at which the writer stops to copy it itself: bounds the disk and the time to open.
pub const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
