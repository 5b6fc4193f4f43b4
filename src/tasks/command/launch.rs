//! The step between gateway and program: a process of our own program that enters the command's control group and then
//! becomes the command. So the command never runs a single instruction outside of its bounds, and nothing between
//! `fork` and `exec` is ours.

use std::ffi::OsString;
use std::fs;
use std::io;
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
        let error = Command::new(&self.program).args(&self.args).exec();
        format!("{FAILED}{error}")
    }
}

/// Moves this process. <https://docs.kernel.org/admin-guide/cgroup-v2.html#processes>
pub(super) fn enter(group: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(group.join("cgroup.procs")).and_then(|mut file| {
        // `0` is whoever writes.
        io::Write::write_all(&mut file, b"0")
    })
}
