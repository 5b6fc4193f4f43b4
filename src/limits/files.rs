//! Bounds of what a run keeps beside its log: artifacts, downloads, reports, tables, and what databases take and give.

use std::time::Duration;

/// Bytes of a body or table that stay in the log of a run (`limits.inline_max`); what is larger is an artifact.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;
/// The least bytes of a part of an output that is kept as an artifact: below, a handle would gain nothing.
pub const OUTPUT_KEPT_BYTES_MIN: usize = 1024;
/// How long the engine waits for an artifact to take a part of an output; the part stays in the log after that.
pub const OUTPUT_KEEP_MAX: Duration = Duration::from_secs(30);
/// Artifacts that are read at one time when a run goes on whose outputs are kept beside its log.
pub const OUTPUT_READS_MAX: usize = 8;
/// How long one of them may take to be read: outputs have at most 16 MiB.
pub const OUTPUT_READ_MAX: Duration = Duration::from_mins(1);
/// The pause of a run whose kept outputs cannot be read, before it looks again.
pub const OUTPUT_READ_AGAIN: Duration = Duration::from_secs(30);
/// The most that `limits.inline_max` may ask for: logs are read into memory whole.
pub const INLINE_BYTES_CEILING: usize = 8 * 1024 * 1024;
/// Bytes of an artifact that its writer holds in memory.
pub const ARTIFACT_PIECE_BYTES: usize = 1024 * 1024;
/// Bytes of an artifact that are read from a file at once.
pub const ARTIFACT_READ_BYTES: usize = 256 * 1024;
/// Bytes of one block of an artifact in Blob Storage, which takes 50,000 of them.
pub const ARTIFACT_BLOCK_BYTES: usize = 8 * 1024 * 1024;
/// Blocks of one blob. <https://learn.microsoft.com/rest/api/storageservices/put-block-list>
pub const ARTIFACT_BLOCKS_MAX: usize = 50_000;
/// The largest file that `http_download` takes when the task sets no `max_size`: large reports have some hundred MiB.
pub const DOWNLOAD_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// The most that `max_size` may ask for.
pub const DOWNLOAD_BYTES_CEILING: u64 = 64 * 1024 * 1024 * 1024;
/// How long a far end may be silent in the middle of a file when the task sets no `idle_timeout`.
pub const DOWNLOAD_IDLE_MAX: Duration = Duration::from_secs(30);
/// Times that one attempt asks for a fresh link.
pub const DOWNLOAD_REFRESHES_MAX: u32 = 3;
/// Times that one attempt goes on, or begins anew, after the connection broke.
pub const DOWNLOAD_CUTS_MAX: u32 = 8;
/// The pause after the first such break; it grows with each.
pub const DOWNLOAD_CUT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of the answer that holds a link.
pub const DOWNLOAD_LINK_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a refusal that are read to see whether a token or a quota is over: words of platforms come first.
pub const REFUSAL_BYTES_MAX: usize = 4 * 1024;
/// How long a file that broke off waits for its turn to be asked for its rest, before it is given up and begun anew.
pub const DOWNLOAD_TURN_MAX: Duration = Duration::from_mins(5);
/// Bytes of an unwanted answer that its failure quotes.
pub const DOWNLOAD_WORDS_BYTES_MAX: usize = 400;
/// Characters of the name of a file that came.
pub const DOWNLOAD_NAME_CHARS_MAX: usize = 120;
/// How much the clock of a platform may differ from ours when it says when a report was asked for.
pub const REPORT_CLOCKS_DIFFER_MAX: Duration = Duration::from_mins(2);
/// Reports in a row that a platform may give up before a task stops asking for another: each costs its daily quota.
pub const REPORTS_GIVEN_UP_MAX: u32 = 3;
/// How far back the same report explains why Amazon cancelled one: some types are made once a day.
pub const REPORT_TOO_OFTEN_WITHIN: Duration = Duration::from_hours(24);
/// Bytes of a file that are looked through for rows; what is larger has some.
pub const REPORT_HEAD_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of the document by which a platform explains a failure.
pub const REPORT_REASON_BYTES_MAX: usize = 16 * 1024;
/// Characters of it that the failure quotes.
pub const REPORT_REASON_CHARS_MAX: usize = 400;
/// Days of an Ads report, the first and the last included.
pub const ADS_REPORT_DAYS_MAX: i64 = 31;
/// Bytes at the front of a file by which its form and charset are found out.
pub const TABLE_SNIFF_BYTES: u64 = 64 * 1024;
/// Bytes of one row of a table, as text: one is held in memory.
pub const TABLE_ROW_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Columns of a table.
pub const TABLE_COLUMNS_MAX: usize = 1_000;
/// Bytes of a table that a task gives.
pub const TABLE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// Rows that a query gives when its task sets no `max_rows`.
pub const TABLE_ROWS_MAX: u64 = 1_000_000;
/// The most that `max_rows` may ask for.
pub const TABLE_ROWS_CEILING: u64 = 100_000_000;
/// Threads that work on tables, in all runs together: each holds a core and some megabytes.
pub const TABLE_THREADS_MAX: usize = 4;
/// Bytes that the tables of one `table_query` may take on the disk.
pub const TABLE_QUERY_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Memory for the pages of one `table_query`, KiB: what is larger is read from the disk.
pub const TABLE_QUERY_CACHE_KIB: u32 = 16 * 1024;
/// Bytes of one value in a `table_query`.
pub const TABLE_QUERY_VALUE_BYTES_MAX: i32 = 16 * 1024 * 1024;
/// Bytes of the SQL of a `table_query`, ours for wide tables included.
pub const TABLE_QUERY_SQL_BYTES_MAX: i32 = 256 * 1024;
/// Steps of SQLite between two looks whether the attempt is over and the disk has room.
pub const TABLE_QUERY_LOOK_STEPS: i32 = 1_000;
/// Connections of tasks to one database: each costs the server a process.
pub const SQL_CONNECTIONS_MAX: usize = 8;
/// How long a connection of a task to Azure SQL may take to open, redirects, TLS and sign-in included.
pub const SQL_CONNECT_MAX: Duration = Duration::from_secs(15);
/// How often a server may send on to another one: the service does it once.
pub const SQL_REDIRECTS_MAX: usize = 2;
/// How long the end of a connection to a database may take.
pub const SQL_GOODBYE_MAX: Duration = Duration::from_secs(1);
/// Tries to make a table that another makes at the same moment.
pub const SQL_MAKE_TRIES_MAX: usize = 3;
/// Bytes of a table on their way to a database at once.
pub const SQL_PIECE_BYTES: usize = 256 * 1024;
/// Pieces of a table that are read ahead of the database.
pub const SQL_PIECES_AHEAD: usize = 4;
/// Rows that a load refuses and tells one by one; past this the load fails.
pub const SQL_REJECTS_MAX: u64 = 100_000;
/// Bytes of the rows that a load refuses.
pub const SQL_REJECTS_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Room on the disk below which no artifact grows: the store must go on.
pub const ARTIFACT_ROOM_BYTES_MIN: u64 = 512 * 1024 * 1024;
/// Bytes of an artifact between two looks at the room on the disk.
pub const ARTIFACT_ROOM_LOOK_BYTES: usize = 64 * 1024 * 1024;
/// How long a write that was cut off is left alone, in case it is still under way.
pub const ARTIFACT_UNFINISHED_KEPT: Duration = Duration::from_hours(24);
/// Stores whose names are read of one place for artifacts: two are too many already.
pub const ARTIFACT_STORES_MAX: usize = 100;
/// Runs whose artifacts one look goes through.
pub const ARTIFACT_SWEEP_RUNS: usize = 100;
/// Between two looks for artifacts of old runs when there are more.
pub const ARTIFACT_SWEEP_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks for artifacts of old runs.
pub const ARTIFACT_SWEEP_EVERY: Duration = Duration::from_mins(10);
