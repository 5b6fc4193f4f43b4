//! Bounds of the tests that users write.

use std::time::Duration;

/// Tests in one file.
pub const TRIALS_MAX: usize = 500;
/// Exchanges in one file of fixtures.
pub const EXCHANGES_MAX: usize = 10_000;
/// Times that the clock of a test is moved on before the test is cut off: its run does not end.
pub const TRIAL_MOVES_MAX: usize = 20_000;
/// How long a test may take, in real time.
pub const TRIAL_TIME_MAX: Duration = Duration::from_secs(30);
/// Calls of one test that are kept and looked at.
pub const TRIAL_CALLS_MAX: usize = 10_000;
/// Bytes of the body of one call of a test, and of a file that an answer is read from.
pub const TRIAL_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that a far end of a test takes ahead of whoever reads them.
pub const TRIAL_WIRE_BYTES: usize = 64 * 1024;
