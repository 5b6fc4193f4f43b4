//! The folder that a store keeps files in: only its owner reads it, and one process at a time works with it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use super::Error;

/// Takes the folder for this process, until the file is dropped; it is made when it is missing. `name` is the file that
/// is locked.
pub(super) fn lock(folder: &Path, name: &str) -> Result<File, Error> {
    create(folder).map_err(|error| cannot_open(folder, format!("cannot create the folder: {error}")))?;
    let path = folder.join(name);
    let file = private(&path)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => Error::Locked { place: folder.display().to_string() },
        TryLockError::Error(error) => cannot_open(&path, format!("cannot lock the file: {error}")),
    })?;
    Ok(file)
}

/// Opens or creates a file that only its owner can read. SQLite gives its other files the same rights.
pub(super) fn private(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| cannot_open(path, error.to_string()))
}

/// What opening says when it fails at this place.
pub(super) fn cannot_open(place: &Path, why: impl Into<String>) -> Error {
    Error::Open { place: place.display().to_string(), why: why.into() }
}

fn create(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn one_at_a_time_has_a_folder() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("a/b");
        let first = lock(&folder, "x.lock").unwrap();
        assert!(
            matches!(lock(&folder, "x.lock"), Err(Error::Locked { place }) if place == folder.display().to_string())
        );
        // Another store may keep its files beside.
        lock(&folder, "y.lock").unwrap();
        drop(first);
        lock(&folder, "x.lock").unwrap();
        assert!(matches!(lock(&folder.join("x.lock"), "z"), Err(Error::Open { .. })));
    }
}
