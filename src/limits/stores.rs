//! Bounds of the stores in Blob Storage and PostgreSQL, and of the records of finished runs.

use std::time::Duration;

/// How long one call to Blob Storage may take, with all its retries.
pub const BLOB_CALL_MAX: Duration = Duration::from_secs(10);
/// How long a call to Blob Storage is tried again; the door gives up on a delivery after [`ACCEPT_TIMEOUT`].
pub const BLOB_RETRY_MAX: Duration = Duration::from_secs(3);
/// Calls to Blob Storage at one time.
pub const BLOB_CALLS_MAX: usize = 64;
/// Calls that wait for their turn; past this the store is full.
pub const BLOB_CALLS_QUEUED_MAX: usize = 4096;
/// Calls of one background job, such as reading what other gateways did, at one time.
pub const BLOB_UPKEEP_CALLS_MAX: usize = 16;
/// How long nobody asks a Blob Storage that did not answer.
pub const BLOB_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of one blob that are sent or read in one call: more than a body and its events can have.
pub const BLOB_PART_BYTES: u64 = 256 * 1024 * 1024;
/// How often a gateway looks for runs that others accepted.
pub const BLOB_POLL: Duration = Duration::from_secs(10);
/// Looks after which a gateway also reads what others finished, and their journals.
pub const BLOB_POLLS_PER_HISTORY: u32 = 6;
/// How often a gateway lists everything, for what the lists of recent runs missed.
pub const BLOB_EVERYTHING_POLL: Duration = Duration::from_hours(24);
/// How long a queued run is left to the gateway that accepted it.
pub const BLOB_QUEUED_GRACE: Duration = Duration::from_secs(15);
/// Age at which a marker without a delivery was left by a crash, not by an accept under way.
pub const BLOB_MARKER_AGE: Duration = Duration::from_mins(10);
/// Appends after which a log is rewritten into one piece; an append blob holds 50,000.
pub const BLOB_BLOCKS_MAX: u32 = 49_000;
/// Bytes of a run's log that the index keeps, so that its next event needs no read.
pub const BLOB_LOG_CACHED_BYTES_MAX: usize = 256 * 1024;
/// Times that a small shared blob is read and written again because another gateway was faster.
pub const BLOB_CONFLICTS_MAX: u32 = 16;
/// How long the index remembers a name of a workflow's state that was removed, against late writers.
pub const BLOB_REMOVED_STATE_KEPT: Duration = Duration::from_hours(24);
/// How often finished runs are looked for to export their records.
pub const RECORDS_POLL: Duration = Duration::from_secs(30);
/// Runs younger than this are left for later where several gateways write: their lists lag.
pub const RECORDS_LAG: Duration = Duration::from_mins(2);
/// Records that are uploaded at one time.
pub const RECORDS_CALLS_MAX: usize = 8;
/// Runs still open whose records are owed; with more, younger runs wait their turn.
pub const RECORDS_OPEN_MAX: usize = 4096;
/// Longest pause after an export that failed.
pub const RECORDS_RETRY_MAX: Duration = Duration::from_mins(1);
/// Records between two notes of how far the export has come.
pub const RECORDS_PER_NOTE: usize = 200;
/// Runs that one look for records goes through, oldest first; the rest waits for the next.
pub const RECORDS_PER_LOOK_MAX: usize = 100_000;
/// How long the gateway that exports keeps that task without saying so again.
pub const RECORDS_TURN: Duration = Duration::from_mins(5);
/// How long a resume that was asked for is waited for, so that its record is written again.
pub const RECORDS_RESUME_MAX: Duration = Duration::from_mins(10);
/// How long one statement or transaction of a PostgreSQL store may take: less than a door waits for the store.
pub const POSTGRES_CALL_MAX: Duration = Duration::from_secs(3);
/// How long a write to PostgreSQL may wait and run before its caller is told that it failed.
pub const POSTGRES_WRITE_MAX: Duration = Duration::from_secs(8);
/// How long one list or batch of retention may take on PostgreSQL: people and upkeep, on a connection of their own.
pub const POSTGRES_SHOW_MAX: Duration = Duration::from_secs(20);
/// How long a step of the schema, or what gives disk space of an old partition back, may take on PostgreSQL.
pub const POSTGRES_UPKEEP_MAX: Duration = Duration::from_mins(30);
/// How long a connection to PostgreSQL may take to open, name resolution, TLS and sign-in included.
pub const POSTGRES_CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a call waits for a lost PostgreSQL connection to come back before it fails: a restart of the server is a
/// failure, a connection that was cut is not.
pub const POSTGRES_RECONNECT_WAIT: Duration = Duration::from_millis(800);
/// Shortest and longest pause between two tries to connect to PostgreSQL.
pub const POSTGRES_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long a lock may be waited for on PostgreSQL; other gateways hold theirs for one transaction.
pub const POSTGRES_LOCK_MAX: Duration = Duration::from_secs(2);
/// Tries of one transaction on PostgreSQL that met another in a way that the server undoes.
pub const POSTGRES_TRIES_MAX: usize = 5;
/// How long a queued run that one gateway has read is kept from the others: it either claims it, or the others may.
pub const POSTGRES_OFFER: Duration = Duration::from_secs(2);
/// How often a gateway tells the others on its database that it is there.
pub const POSTGRES_HEARTBEAT: Duration = Duration::from_secs(5);
/// Silence after which a gateway counts as gone, and what it had parked is shown to the others.
pub const POSTGRES_SILENCE_MAX: Duration = Duration::from_secs(20);
/// Shortest time between two notices of new work from one gateway: each costs all others a look.
pub const POSTGRES_NOTICE_EVERY: Duration = Duration::from_millis(20);
/// Delivery keys that one batch of retention lets go on PostgreSQL.
pub const POSTGRES_KEYS_FORGOTTEN_MAX: usize = 5_000;
/// How much time the runs of one partition span.
pub const POSTGRES_PARTITION: Duration = Duration::from_hours(7 * 24);
