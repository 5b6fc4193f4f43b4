//! Bounds of the places for files that others fetch.

use std::time::Duration;

/// Characters of the path of a file in a place, as the names of blobs.
/// <https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata>
pub const PLACE_PATH_CHARS_MAX: usize = 1024;
/// Bytes of one part of such a path, as the names of files in common file systems.
pub const PLACE_PATH_PART_BYTES_MAX: usize = 255;
/// Bytes of what a task says of a file in its metadata; Blob Storage takes 8 KiB, and we add to it.
pub const PLACE_METADATA_BYTES_MAX: usize = 7 * 1024;
/// How long a link holds when the task does not say.
pub const PLACE_LINK_TIME: Duration = Duration::from_hours(24);
/// How long a link may hold: a key that Blob Storage gives an identity lives for seven days, the skew of clocks included.
/// <https://learn.microsoft.com/rest/api/storageservices/get-user-delegation-key>
pub const PLACE_LINK_TIME_MAX: Duration = Duration::from_hours(7 * 24 - 1);
/// How far another machine's clock may be behind ours when it looks at a signature.
pub const PLACE_CLOCK_SKEW: Duration = Duration::from_mins(15);
/// How long a signature holds that we make for our own calls; one attempt may last as long.
pub const PLACE_SIGNED_FOR: Duration = Duration::from_hours(24);
/// Age at which a half-written file was left by a crash; no attempt lasts as long.
pub const PLACE_LEFTOVER_AGE: Duration = Duration::from_hours(48);
