//! The machine: control groups, memory, disk. What the kernel says is read below a root, so that tests bring their own.

use std::fs;
use std::path::Path;

use super::{Finding, Verdict};
use crate::limits;

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// `commands` says that `command` tasks are wanted, and not without bounds.
pub(super) fn examine(root: &Path, storage: &Path, commands: bool) -> Vec<Finding> {
    let mut groups = cgroup(root);
    if commands && groups.verdict == Verdict::Doubtful {
        groups.verdict = Verdict::Bad;
    }
    vec![groups, memory(root), disk(storage)]
}

/// Control groups of version 2, which bound `command` tasks and this process.
/// <https://docs.kernel.org/admin-guide/cgroup-v2.html>
fn cgroup(root: &Path) -> Finding {
    let Ok(controllers) = fs::read_to_string(root.join("sys/fs/cgroup/cgroup.controllers")) else {
        return Finding::doubtful(
            "cgroup v2",
            "this machine has no unified control groups, so `command` tasks cannot be bounded",
            "boot with `systemd.unified_cgroup_hierarchy=1`; Ubuntu 22.04 does so by itself",
        );
    };
    let missing: Vec<_> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|name| !controllers.split_whitespace().any(|c| c == *name))
        .collect();
    if missing.is_empty() {
        return Finding::good("cgroup v2", "unified, with cpu, memory and pids");
    }
    Finding::doubtful(
        "cgroup v2",
        format!("the controllers {} are not there", missing.join(", ")),
        "let the service manager delegate them: `Delegate=cpu memory pids` in the unit",
    )
}

/// Memory that is free, and the bound that holds for this process.
fn memory(root: &Path) -> Finding {
    let about = "memory";
    let Some(available) = available(root) else {
        return Finding::new(about, Verdict::Skipped, "the kernel does not say how much is free");
    };
    let bound = own_cgroup(root).and_then(|group| bytes_in(&root.join("sys/fs/cgroup").join(group).join("memory.max")));
    let usable = bound.map_or(available, |bound| bound.min(available));
    let found = match bound {
        Some(bound) => format!("{} free, and this process may take {}", size(available), size(bound)),
        None => format!("{} free", size(available)),
    };
    let mend = "give the machine, or the service's `MemoryMax`, at least 512 MiB";
    match usable {
        usable if usable < limits::DOCTOR_MEMORY_BYTES_MIN => Finding::bad(about, found, mend),
        usable if usable < 2 * limits::DOCTOR_MEMORY_BYTES_MIN => Finding::doubtful(about, found, mend),
        _ => Finding::good(about, found),
    }
}

fn available(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// The group of this process: the line `0::/path` of version 2.
fn own_cgroup(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(path.to_owned())
}

/// A number in a file of the kernel; none when it says `max`.
fn bytes_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Room where the store is.
fn disk(storage: &Path) -> Finding {
    let about = "disk";
    // The folder may not be there yet: then its place is.
    let Some(there) = storage.ancestors().find(|folder| folder.exists()) else {
        let mend = "correct `storage.path` in clawhook.yaml";
        return Finding::bad(about, format!("`{}` is nowhere on this machine", storage.display()), mend);
    };
    let stat = match rustix::fs::statvfs(there) {
        Ok(stat) => stat,
        Err(error) => {
            let found = format!("cannot ask how much room `{}` has: {error}", there.display());
            return Finding::new(about, Verdict::Skipped, found);
        }
    };
    let (free, all) = (stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize));
    let found = format!("{} of {} free at `{}`", size(free), size(all), there.display());
    let mend = "make room, keep less under `retention`, or put `storage.path` on a larger disk";
    match free {
        free if free < limits::DOCTOR_DISK_BYTES_MIN => Finding::bad(about, found, mend),
        free if free < 4 * limits::DOCTOR_DISK_BYTES_MIN || free < all / 20 => Finding::doubtful(about, found, mend),
        _ => Finding::good(about, found),
    }
}

fn size(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    if bytes >= GIB { format!("{} GiB", tenths(GIB)) } else { format!("{} MiB", tenths(MIB)) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// A root with these files in it.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn control_groups() {
        let check = |files: &[(&str, &str)], verdict: Verdict, found: &str| {
            let finding = cgroup(root(files).path());
            assert_eq!((finding.verdict, finding.found.contains(found)), (verdict, true), "{finding:?}");
        };
        check(&[], Verdict::Doubtful, "no unified control groups");
        let controllers = "sys/fs/cgroup/cgroup.controllers";
        check(&[(controllers, "cpuset cpu io memory pids\n")], Verdict::Good, "unified");
        check(&[(controllers, "cpuset io\n")], Verdict::Doubtful, "cpu, memory, pids");
    }

    #[test]
    fn memory_is_bounded_by_the_group() {
        let check = |free_kib: u64, max: &str, verdict: Verdict, found: &str| {
            let meminfo = format!("MemTotal: 9 kB\nMemAvailable:   {free_kib} kB\n");
            let files = [
                ("proc/meminfo", meminfo.as_str()),
                ("proc/self/cgroup", "0::/system.slice/clawhook.service\n"),
                ("sys/fs/cgroup/system.slice/clawhook.service/memory.max", max),
            ];
            let finding = memory(root(&files).path());
            assert_eq!((finding.verdict, finding.found.as_str()), (verdict, found));
        };
        check(2 * 1024 * 1024, "max\n", Verdict::Good, "2.0 GiB free");
        check(2 * 1024 * 1024, "1073741824\n", Verdict::Good, "2.0 GiB free, and this process may take 1.0 GiB");
        check(300 * 1024, "max\n", Verdict::Doubtful, "300.0 MiB free");
        check(2 * 1024 * 1024, "104857600\n", Verdict::Bad, "2.0 GiB free, and this process may take 100.0 MiB");
    }

    #[test]
    fn room_is_asked_for_where_the_folder_will_be() {
        let folder = tempfile::tempdir().unwrap();
        let finding = disk(&folder.path().join("not/there/yet"));
        assert!(finding.found.contains(&folder.path().display().to_string()), "{finding:?}");
    }
}
