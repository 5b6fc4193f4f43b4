//! The step between gateway and program: a process of our own program that enters the command's control group and then
//! becomes the command. So the command never runs a single instruction outside of its bounds, and nothing between
//! `fork` and `exec` is ours.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The verb of the command line that launches.
pub const VERB: &str = "launch-command";
/// The option that names the group.
pub const GROUP: &str = "--group";
/// What a launcher that fails says first.
pub const FAILED: &str = "clawhook cannot launch the command: ";
/// The exit code of a launcher that fails, as shells have it.
pub const FAILED_EXIT: u8 = 127;

/// What to become.
#[derive(Debug)]
pub struct Launch {
    /// The control group to enter.
    pub group: Option<PathBuf>,
    pub program: OsString,
    pub args: Vec<OsString>,
}

impl Launch {
    /// Becomes the program: answers only when that failed, in words for a person.
    pub fn exec(&self) -> String {
        if let Some(group) = &self.group
            && let Err(error) = enter(group)
        {
            return format!("{FAILED}it cannot enter the control group `{}`: {error}", group.display());
        }
        // No program that is reached from here gets more rights than we have, not even by set-user-id.
        if let Err(error) = rustix::thread::set_no_new_privs(true) {
            return format!("{FAILED}it cannot give up new privileges: {error}");
        }
        if let Err(why) = known_format(Path::new(&self.program)) {
            return format!("{FAILED}{why}");
        }
        let error = Command::new(&self.program).args(&self.args).exec();
        format!("{FAILED}{error}")
    }
}

/// The first bytes of a script that names its interpreter, and of a binary (elf(5)).
const SCRIPT: &[u8] = b"#!";
const BINARY: &[u8] = b"\x7fELF";
/// Where a binary says its word size and byte order, and for which machine it is.
const CLASS_AND_ORDER: Range<usize> = 4..6;
const MACHINE: Range<usize> = 18..20;

/// Whether the kernel knows what to do with the program. What it does not know, `exec` of the C library would give to a
/// shell.
fn known_format(program: &Path) -> Result<(), &'static str> {
    // What may be run and not read is none that a shell could read.
    let Ok(head) = head_of(program) else { return Ok(()) };
    if head.starts_with(SCRIPT) {
        return Ok(());
    }
    if !head.starts_with(BINARY) {
        return Err("it is neither a binary nor a script that begins with `#!`");
    }
    let Ok(own) = head_of(Path::new("/proc/self/exe")) else { return Ok(()) };
    let same = |part: Range<usize>| head.get(part.clone()) == own.get(part);
    if same(CLASS_AND_ORDER) && same(MACHINE) { Ok(()) } else { Err("it is a binary for another kind of machine") }
}

fn head_of(program: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    fs::File::open(program)?.take(MACHINE.end as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Moves this process. <https://docs.kernel.org/admin-guide/cgroup-v2.html#processes>
pub(super) fn enter(group: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(group.join("cgroup.procs")).and_then(|mut file| {
        // `0` is whoever writes.
        file.write_all(b"0")
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_what_the_kernel_knows_is_run() {
        let folder = tempfile::tempdir().unwrap();
        let own = fs::read("/proc/self/exe").unwrap();
        let check = |bytes: &[u8], refusal: Option<&str>| {
            let path = folder.path().join("program");
            fs::write(&path, bytes).unwrap();
            let told = known_format(&path).err();
            assert_eq!(told.is_some(), refusal.is_some(), "{told:?}");
            assert!(told.unwrap_or_default().contains(refusal.unwrap_or_default()), "{told:?}");
        };
        check(b"#!/bin/sh\n", None);
        check(&own[..64], None);
        let mut other = own[..64].to_vec();
        other[MACHINE.start] ^= 1;
        check(&other, Some("another kind of machine"));
        check(b"\x7fELF", Some("another kind of machine"));
        check(b"echo hello\n", Some("neither a binary nor a script"));
        check(b"", Some("neither a binary nor a script"));
        assert_eq!(known_format(&folder.path().join("gone")), Ok(()));
    }
}
