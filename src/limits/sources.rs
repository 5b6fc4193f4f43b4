//! Bounds of what is fetched instead of being sent here: queues.

use std::time::Duration;

/// How long one question to a queue waits for a message. Amazon SQS waits for at most 20 s.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html>
pub const SQS_WAIT: Duration = Duration::from_secs(20);
/// Messages of one answer, as many as Amazon SQS gives.
pub const SQS_MESSAGES_MAX: u8 = 10;
/// How long a message that was received is hidden from others when the source does not say. It is hidden again as long
/// as it is held here, so this is what a crash costs: the time until the message comes again.
pub const SQS_VISIBILITY: Duration = Duration::from_mins(1);
/// The shortest time that a source may hide messages for: an accept may take its whole time, and a call to the queue too.
pub const SQS_VISIBILITY_MIN: Duration = Duration::from_secs(30);
/// The longest that Amazon SQS hides a message for, from when it was received.
pub const SQS_VISIBILITY_MAX: Duration = Duration::from_hours(12);
/// How long messages are held while they cannot be accepted, as when the store is away. Every return to the queue counts
/// towards its redrive policy, so this is long; another gateway may have a store that works, so it has an end.
pub const SQS_HELD_MAX: Duration = Duration::from_hours(1);
/// How long a delivery of a queue is remembered when `dedupe.window` is not set: Amazon SQS keeps a message for at most
/// 14 days, and one that was accepted may come again as long as that.
pub const SQS_DEDUPE_WINDOW: Duration = Duration::from_hours(15 * 24);
/// How long a message that cannot be read is hidden after it came for the first time; each further time doubles it.
pub const SQS_UNREADABLE_PAUSE: Duration = Duration::from_mins(1);
/// The longest that it is hidden for.
pub const SQS_UNREADABLE_PAUSE_MAX: Duration = Duration::from_hours(1);
/// Bytes of one answer of a queue: ten messages of 1 MiB, each escaped in JSON.
pub const SQS_ANSWER_BYTES_MAX: usize = 24 * 1024 * 1024;
/// How long a call to a queue may take that does not wait for messages.
pub const SQS_CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Tries to delete messages that were accepted. Should all fail, they come again, and are known.
pub const SQS_DELETE_TRIES: u32 = 3;
/// Pause after the first failure of a source; each further one doubles it, and all of it is jittered.
pub const SOURCE_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause of a source that fails.
pub const SOURCE_PAUSE_MAX: Duration = Duration::from_mins(1);
/// Pause between two tries to accept what is held.
pub const SOURCE_HELD_PAUSE: Duration = Duration::from_secs(2);
/// Failures in a row after which a source is said to fail: one may be a hiccup.
pub const SOURCE_FAILURES_TOLD: u32 = 3;
