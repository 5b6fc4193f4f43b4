//! What a gateway that was killed left behind: folders, and processes of commands. Everything of a command is named
//! after the process that owns it, and a random number, so that only what is nobody's is removed.

use std::fmt;
use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process_group};

/// A process, told from a later one with the same number by when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pid: u32,
    /// Ticks since the machine started.
    started: u64,
}

impl Owner {
    /// The process of this number, as it is now.
    pub(super) fn of(root: &Path, pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(root.join("proc").join(pid.to_string()).join("stat")).ok()?;
        // The second field is the program's name in parentheses, with anything in it (proc(5)).
        let (_, rest) = stat.rsplit_once(") ")?;
        let started = rest.split(' ').nth(STARTED_AFTER_NAME)?.parse().ok()?;
        Some(Self { pid, started })
    }

    /// Reads `PID-STARTED`, with or without more behind.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        Some(Self { pid: parts.next()?.parse().ok()?, started: parts.next()?.parse().ok()? })
    }

    /// Whether it still runs.
    pub(super) fn is_alive(self, root: &Path) -> bool {
        Self::of(root, self.pid) == Some(self)
    }

    /// Kills its process group, which it leads; it may have ended by itself.
    fn kill_group(self) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.pid, self.started)
    }
}

/// Field 22 of `stat` is the time of start; the state, field 3, is the first behind the name.
const STARTED_AFTER_NAME: usize = 22 - 3;
/// The file in a command's folder that names its process.
pub(super) const PROCESS: &str = "process";
/// The folder in a command's folder in which it works.
pub(super) const HOME: &str = "home";

/// Kills the commands of gateways that are gone, as far as they can be found without control groups, and removes their
/// folders.
pub(super) fn remove(root: &Path, folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(Owner::of_name) else { continue };
        if owner.is_alive(root) {
            continue;
        }
        let process = fs::read_to_string(entry.path().join(PROCESS)).unwrap_or_default();
        if let Some(process) = Owner::of_name(&process).filter(|process| process.is_alive(root)) {
            process.kill_group();
        }
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::warn!("the folder `{}` of an earlier command stays: {error}", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn processes_are_told_apart_by_their_start() {
        let root = tempfile::tempdir().unwrap();
        let stat = |pid: u32, started: u64| {
            let folder = root.path().join("proc").join(pid.to_string());
            fs::create_dir_all(&folder).unwrap();
            let zeros = "0 ".repeat(STARTED_AFTER_NAME - 1);
            fs::write(folder.join("stat"), format!("{pid} (a) b (c) S {zeros}{started} 4096 7\n")).unwrap();
        };
        stat(12, 345);
        let owner = Owner::of(root.path(), 12).unwrap();
        assert_eq!(owner.to_string(), "12-345");
        assert_eq!(Owner::of_name("12-345-9"), Some(owner));
        assert!(owner.is_alive(root.path()));
        stat(12, 346);
        assert!(!owner.is_alive(root.path()));
        assert_eq!(Owner::of_name("clawhook"), None);

        let here = Owner::of(Path::new("/"), std::process::id()).unwrap();
        assert!(here.is_alive(Path::new("/")));
    }

    #[test]
    fn only_what_is_nobodys_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner::of(Path::new("/"), std::process::id()).unwrap();
        let (ours, theirs) = (folder.path().join(format!("{owner}-1")), folder.path().join("1-1-1"));
        for command in [&ours, &theirs] {
            fs::create_dir_all(command.join(HOME)).unwrap();
        }
        fs::create_dir(folder.path().join("other")).unwrap();
        remove(Path::new("/"), folder.path());
        assert!(ours.exists() && !theirs.exists() && folder.path().join("other").exists());
    }
}
