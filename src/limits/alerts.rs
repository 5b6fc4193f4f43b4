//! Bounds of telling people: notices, channels, groups of alerts.

use std::time::Duration;

/// Bytes of a notice's title.
pub const NOTICE_TITLE_BYTES_MAX: usize = 256;
/// Bytes of a notice's text as it is handed over; each channel cuts it to what its platform takes.
pub const NOTICE_TEXT_BYTES_MAX: usize = 64 * 1024;
/// Rows of a notice's table when `max_rows` is not set: what a person reads on a telephone.
pub const NOTICE_ROWS: usize = 20;
/// Rows of a notice's table at most.
pub const NOTICE_ROWS_MAX: usize = 200;
/// Columns of a notice's table at most.
pub const NOTICE_COLUMNS_MAX: usize = 20;
/// Bytes of one cell of a notice's table.
pub const NOTICE_CELL_BYTES_MAX: usize = 200;
/// How long one message may take to be handed over when the channel sets no `timeout`.
pub const CHANNEL_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a platform's answer to a message.
pub const CHANNEL_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long a notice waits for the one before it on the same channel before it gives its worker back.
pub const CHANNEL_TURN_MAX: Duration = Duration::from_secs(5);
/// The first pause after a channel could not be reached; it doubles.
pub const CHANNEL_PAUSE_FIRST: Duration = Duration::from_secs(5);
/// The longest pause after a channel could not be reached.
pub const CHANNEL_PAUSE_MAX: Duration = Duration::from_mins(1);
/// How long a channel may stay out of reach before its `fallback` is used.
pub const CHANNEL_DOWN_MAX: Duration = Duration::from_mins(2);
/// How long a notice waits for a channel that takes none before its task fails.
pub const NOTICE_HELD_MAX: Duration = Duration::from_hours(1);
/// Notices that wait in memory for one channel; the rest wait in their runs only.
pub const NOTICES_WAITING_MAX: usize = 10_000;
/// Bytes of those notices: many that are long must not fill the memory of a small machine.
pub const NOTICES_WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Outcomes of waiting notices that are kept until their runs come for them.
pub const NOTICES_DONE_MAX: usize = 10_000;
/// Bytes of a platform's answer that are kept with the outcome of a notice that waited.
pub const NOTICE_SAID_BYTES_MAX: usize = 512;
/// Bytes of one notice in a digest.
pub const DIGEST_LINE_BYTES_MAX: usize = 400;
/// How long alerts of one group are counted instead of sent when `window` is not set.
pub const ALERT_WINDOW: Duration = Duration::from_mins(10);
/// Groups of alerts that are remembered; of more than this those that were silent longest are forgotten.
pub const ALERT_GROUPS_MAX: usize = 1_000;
/// How long a problem of which nothing more is heard counts as open.
pub const ALERT_OPEN_MAX: Duration = Duration::from_hours(30 * 24);
/// Different texts of a group that its summary tells.
pub const ALERT_SAMPLES_MAX: usize = 10;
/// Bytes of one such text.
pub const ALERT_SAMPLE_BYTES_MAX: usize = 160;
/// Moments of sent messages that are remembered for one channel; a `rate` of more messages than this is not kept exactly.
pub const CHANNEL_MOMENTS_MAX: usize = 1_000;
/// How often the groups of alerts are looked through when none is known to come due.
pub const ALERTS_LOOK_EVERY: Duration = Duration::from_secs(30);
