//! Control groups of version 2: one for the gateway itself, and beside it one for each command. Everything is read and
//! written below a root, so that tests bring their own.
//!
//! <https://docs.kernel.org/admin-guide/cgroup-v2.html>

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::launch;
use super::leftovers::Owner;
use super::settings::Bounds;
use crate::limits;

/// What commands are bounded by.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
/// The group into which the gateway moves: one that holds processes cannot bound groups below it.
const OWN: &str = "clawhook-gateway";
/// What the names of the groups of commands begin with; the owner and a random number follow.
const COMMAND: &str = "clawhook-command-";
/// Between two looks whether a group is empty.
const LOOK: Duration = Duration::from_millis(5);

/// Why commands cannot be bounded here.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Error {
    #[error("this machine has no control groups of version 2")]
    NoHierarchy,
    #[error("the control group `{}` has no controllers {missing}", folder.display())]
    NoControllers { folder: PathBuf, missing: String },
    #[error("cannot {doing} `{}`: {why}", path.display())]
    File { doing: &'static str, path: PathBuf, why: String },
}

impl Error {
    fn file(doing: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::File { doing, path: path.to_owned(), why: error.to_string() }
    }
}

/// The place for the groups of commands.
#[derive(Debug)]
pub(super) struct Tree {
    folder: PathBuf,
    /// Those of [`CONTROLLERS`] that are there.
    controllers: Vec<&'static str>,
}

impl Tree {
    /// Finds our own group below `root`, and makes it one that can hold groups of commands: what an earlier gateway left
    /// goes, this process moves into a group beside them, and the controllers are handed down. Without `all` it also
    /// takes a place that lacks controllers.
    pub(super) fn prepare(root: &Path, all: bool) -> Result<Self, Error> {
        let folder = own_group(root).ok_or(Error::NoHierarchy)?;
        let path = folder.join("cgroup.controllers");
        let given = fs::read_to_string(&path).map_err(|error| Error::file("read", &path, &error))?;
        let is_given = |name: &&str| given.split_whitespace().any(|given| given == *name);
        let (controllers, missing): (Vec<_>, Vec<_>) = CONTROLLERS.into_iter().partition(is_given);
        if all && !missing.is_empty() {
            return Err(Error::NoControllers { folder, missing: missing.join(", ") });
        }
        let tree = Self { folder, controllers };
        tree.remove_leftovers(root);
        if !tree.controllers.is_empty() {
            tree.hand_down()?;
        }
        Ok(tree)
    }

    fn hand_down(&self) -> Result<(), Error> {
        let own = self.folder.join(OWN);
        make(&own)?;
        launch::enter(&own).map_err(|error| Error::file("move the gateway into", &own, &error))?;
        let path = self.folder.join("cgroup.subtree_control");
        let wanted: Vec<_> = self.controllers.iter().map(|name| format!("+{name}")).collect();
        write(&path, &wanted.join(" "))
    }

    fn remove_leftovers(&self, root: &Path) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(COMMAND)) else { continue };
            if !Owner::of_name(rest).is_some_and(|owner| owner.is_alive(root)) {
                let group = Group(entry.path());
                group.kill();
                if let Err(error) = group.remove_soon() {
                    tracing::warn!("the control group `{}` of an earlier gateway stays: {error}", group.0.display());
                }
            }
        }
    }

    /// Makes the group of one command; `name` is its owner and number.
    pub(super) fn group(&self, name: &str, bounds: Bounds) -> Result<Group, Error> {
        let group = Group(self.folder.join(format!("{COMMAND}{name}")));
        make(&group.0)?;
        for (controller, file, value) in settings_of(bounds) {
            let path = group.0.join(file);
            if !self.controllers.contains(&controller) || (OPTIONAL.contains(&file) && !path.exists()) {
                continue;
            }
            if let Err(error) = write(&path, &value) {
                drop(fs::remove_dir(&group.0));
                return Err(error);
            }
        }
        Ok(group)
    }
}

/// Files that a kernel may be built without.
const OPTIONAL: [&str; 2] = ["memory.swap.max", "memory.oom.group"];

/// The files that bound a group. Swap would only make a command that is too large slow, and the machine with it; a
/// command of which one process was killed for memory is killed whole, because half of it is worth nothing.
fn settings_of(bounds: Bounds) -> [(&'static str, &'static str, String); 5] {
    [
        ("memory", "memory.max", bounds.memory_bytes.to_string()),
        ("memory", "memory.swap.max", "0".to_owned()),
        ("memory", "memory.oom.group", "1".to_owned()),
        ("cpu", "cpu.max", bounds.cpu.cpu_max()),
        ("pids", "pids.max", bounds.processes.to_string()),
    ]
}

/// The group of one command.
#[derive(Debug)]
pub(super) struct Group(PathBuf);

impl Group {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Kills everything in it: at once with Linux 5.14 and later, else process by process, which may want repeating.
    pub(super) fn kill(&self) {
        let whole = self.0.join("cgroup.kill");
        if whole.exists() && write(&whole, "1").is_ok() {
            return;
        }
        let members = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines().filter_map(|line| line.trim().parse().ok()).filter_map(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// A process of it was killed for want of memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        self.events("memory.events", "oom_kill") > 0 || self.events("memory.events", "oom_group_kill") > 0
    }

    /// It wanted more processes than it may have.
    pub(super) fn ran_out_of_processes(&self) -> bool {
        self.events("pids.events", "max") > 0
    }

    fn events(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(self.0.join(file)).unwrap_or_default();
        let counts = text.lines().filter_map(|line| line.split_once(' '));
        counts.filter(|(event, _)| *event == name).find_map(|(_, count)| count.trim().parse().ok()).unwrap_or_default()
    }

    /// Kills and removes it, groups that the command made inside included; waits a bounded time for processes to be gone.
    pub(super) async fn remove(&self) -> io::Result<()> {
        let deadline = tokio::time::Instant::now() + limits::COMMAND_GONE_MAX;
        loop {
            self.kill();
            match remove_all(&self.0) {
                Err(error) if tokio::time::Instant::now() < deadline => {
                    tracing::trace!(%error, "a control group is not empty yet");
                    tokio::time::sleep(LOOK).await;
                }
                done => return done,
            }
        }
    }

    /// The same at start, where blocking is fine.
    fn remove_soon(&self) -> io::Result<()> {
        let looks = limits::COMMAND_GONE_MAX.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            self.kill();
            if remove_all(&self.0).is_ok() {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        remove_all(&self.0)
    }
}

fn remove_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_all(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

/// The folder of the group that this process is in, or would be in had it not moved aside.
fn own_group(root: &Path) -> Option<PathBuf> {
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    let (mounted, at) = mounts.lines().find_map(unified)?;
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    // What is mounted may be a part of the hierarchy.
    let below = Path::new(own).strip_prefix(mounted).ok()?;
    let folder = root.join(at.strip_prefix('/')?).join(below);
    let moved = folder.file_name().is_some_and(|name| name == OWN);
    if moved { folder.parent().map(Path::to_owned) } else { Some(folder) }
}

/// What is mounted, and where, when a line of `mountinfo` is about the unified hierarchy (proc(5)).
fn unified(line: &str) -> Option<(&str, &str)> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let place = (fields.next()?, fields.next()?);
    kind.starts_with("cgroup2 ").then_some(place)
}

fn make(folder: &Path) -> Result<(), Error> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::file("make the control group", folder, &error))
        }
        _ => Ok(()),
    }
}

/// Files of the kernel take one write, and are not made by it.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let written = fs::OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Error::file("write to", path, &error))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::super::settings::Cores;
    use super::*;

    const MOUNTS: &str = "25 30 0:23 / /sys rw - sysfs sysfs rw\n31 25 0:28 / /cg rw shared:4 - cgroup2 cgroup2 rw\n";

    /// A machine whose unified hierarchy is mounted at `/cg`, with this process in `own`.
    fn machine(mounts: &str, own: &str, controllers: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("proc/self/mountinfo", mounts);
        put("proc/self/cgroup", &format!("1:name=systemd:/x\n0::{own}\n"));
        if let Some(controllers) = controllers {
            for file in ["cgroup.subtree_control", "clawhook-gateway/cgroup.procs"] {
                put(&format!("cg/unit/{file}"), "");
            }
            put("cg/unit/cgroup.controllers", controllers);
        }
        root
    }

    fn text(root: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(root.path().join("cg/unit").join(name)).unwrap_or_default()
    }

    #[test]
    fn our_own_group_is_found() {
        let check = |mounts: &str, own: &str, expected: Option<&str>| {
            let root = machine(mounts, own, None);
            let found = own_group(root.path());
            assert_eq!(found, expected.map(|name| root.path().join(name)), "{own}");
        };
        check(MOUNTS, "/unit", Some("cg/unit"));
        check(MOUNTS, "/a/b.service", Some("cg/a/b.service"));
        check(MOUNTS, "/unit/clawhook-gateway", Some("cg/unit"));
        check(&MOUNTS.replace("0:28 /", "0:28 /pod"), "/pod/unit", Some("cg/unit"));
        check(&MOUNTS.replace("0:28 /", "0:28 /pod"), "/elsewhere", None);
        check(&MOUNTS.replace("cgroup2", "tmpfs"), "/unit", None);
    }

    #[test]
    fn the_gateway_moves_aside_and_hands_controllers_down() {
        let root = machine(MOUNTS, "/unit", Some("cpuset cpu io memory pids"));
        let leftover = root.path().join("cg/unit/clawhook-command-1-0-7");
        fs::create_dir_all(leftover.join("inner")).unwrap();
        let tree = Tree::prepare(root.path(), true).unwrap();
        assert_eq!(text(&root, "clawhook-gateway/cgroup.procs"), "0");
        assert_eq!(text(&root, "cgroup.subtree_control"), "+memory +cpu +pids");
        assert!(!leftover.exists(), "the group of a gateway that is gone stays");

        // The files of the kernel appear with the folder.
        let group = root.path().join("cg/unit/clawhook-command-me-1");
        fs::create_dir(&group).unwrap();
        let files = ["memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "pids.max"];
        for file in files {
            fs::write(group.join(file), "").unwrap();
        }
        let bounds = Bounds { memory_bytes: 64 << 20, cpu: Cores::ONE, processes: 8 };
        let made = tree.group("me-1", bounds).unwrap();
        assert_eq!(made.path(), group);
        let written = files.map(|file| text(&root, &format!("clawhook-command-me-1/{file}")));
        assert_eq!(written, ["67108864", "0", "1", "100000 100000", "8"]);
    }

    #[test]
    fn without_controllers_nothing_is_bounded_and_that_is_told() {
        let root = machine(MOUNTS, "/unit", Some("cpuset io pids"));
        let error = Tree::prepare(root.path(), true).unwrap_err();
        assert!(matches!(&error, Error::NoControllers { missing, .. } if missing == "memory, cpu"), "{error}");
        assert_eq!(Tree::prepare(root.path(), false).unwrap().controllers, ["pids"]);
        assert_eq!(text(&root, "cgroup.subtree_control"), "+pids");
        let root = machine("", "/unit", None);
        assert!(matches!(Tree::prepare(root.path(), false), Err(Error::NoHierarchy)));
    }

    #[test]
    fn a_group_that_cannot_be_bounded_is_not_made() {
        let root = machine(MOUNTS, "/unit", Some("cpu memory pids"));
        let tree = Tree::prepare(root.path(), true).unwrap();
        let error = tree.group("me-1", Bounds::default()).unwrap_err();
        assert!(error.to_string().contains("memory.max"), "{error}");
        assert!(!root.path().join("cg/unit/clawhook-command-me-1").exists());
    }

    #[test]
    fn what_the_kernel_counted() {
        let root = tempfile::tempdir().unwrap();
        let group = Group(root.path().to_owned());
        assert!(!group.ran_out_of_memory() && !group.ran_out_of_processes());
        fs::write(root.path().join("memory.events"), "low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\n").unwrap();
        fs::write(root.path().join("pids.events"), "max 0\n").unwrap();
        assert!(!group.ran_out_of_memory() && !group.ran_out_of_processes());
        fs::write(root.path().join("memory.events"), "oom 1\noom_kill 2\noom_group_kill 1\n").unwrap();
        fs::write(root.path().join("pids.events"), "max 3\n").unwrap();
        assert!(group.ran_out_of_memory() && group.ran_out_of_processes());
    }
}
