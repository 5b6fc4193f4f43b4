//! Which programs may run, and how much each may take.

use std::borrow::Cow;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::limits;

/// What `commands` of the settings says. The default allows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Programs, and folders whose programs may run; all are whole paths.
    pub allow: Vec<PathBuf>,
    /// What one command may take at most, and takes unless its task says less.
    pub bounds: Bounds,
    /// Commands that run at one time; the others wait.
    pub concurrency: usize,
    /// Runs commands also where the machine cannot bound them.
    pub unbounded: bool,
}

/// What one command may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Memory of all its processes together, page cache included; it gets no swap.
    pub memory_bytes: u64,
    /// Processors that it keeps busy.
    pub cpu: Cores,
    /// Processes and threads at one time.
    pub processes: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { memory_bytes: limits::COMMAND_MEMORY_BYTES, cpu: Cores::ONE, processes: limits::COMMAND_PROCESSES }
    }
}

impl Settings {
    /// No program may run.
    pub fn is_off(&self) -> bool {
        self.allow.is_empty()
    }

    /// The canonical path of `program`, if it may run. Links are followed before anything is compared, and neither the
    /// program nor a folder around it may be one that other users can write to.
    ///
    /// This blocks on the disk.
    pub fn admit(&self, program: &Path) -> Result<PathBuf, Refused> {
        if let Some(problem) = form_of(&program.to_string_lossy()) {
            return Err(Refused::Form(problem));
        }
        let real = fs::canonicalize(program).map_err(|error| Refused::Absent(program.to_owned(), why(&error)))?;
        // Entries are looked at each time: a link such as `current` may point to a newer release by now.
        let entries = self.allow.iter().filter_map(|entry| fs::canonicalize(entry).ok());
        let Some(entry) = entries.into_iter().find(|entry| real.starts_with(entry)) else {
            return Err(Refused::NotAllowed { program: program.to_owned(), real });
        };
        let about = read(&real)?;
        if !about.is_file() || about.permissions().mode() & EXECUTABLE == 0 {
            return Err(Refused::NotAProgram(real));
        }
        guarded(&real, &entry)?;
        Ok(real)
    }

    /// Whether an entry of `allow` is one under which programs could run.
    ///
    /// This blocks on the disk.
    pub fn check_entry(entry: &Path) -> Result<(), Refused> {
        if let Some(problem) = form_of(&entry.to_string_lossy()) {
            return Err(Refused::Form(problem));
        }
        let real = fs::canonicalize(entry).map_err(|error| Refused::Absent(entry.to_owned(), why(&error)))?;
        guarded(&real, &real)
    }
}

/// Bits of a mode by which someone may execute a file.
const EXECUTABLE: u32 = 0o111;
/// Bits of a mode by which someone else than the owner may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Everyone may write.
const WRITABLE_BY_ALL: u32 = 0o002;
/// Entries of such a folder can be replaced by their owners only.
const STICKY: u32 = 0o1000;

/// What is wrong with the form of the path of a program.
pub(super) fn form_of(program: &str) -> Option<&'static str> {
    if program.contains("${{") {
        return Some("the path of a program is not an expression");
    }
    if !program.starts_with('/') {
        return Some("the path of a program begins with `/`");
    }
    let up = Path::new(program).components().any(|part| part == Component::ParentDir);
    up.then_some("the path of a program has no `..` in it")
}

/// From the program up to the entry of `allow`, nobody but the owner may write; above that, nobody may replace.
fn guarded(real: &Path, entry: &Path) -> Result<(), Refused> {
    for place in real.ancestors() {
        let mode = read(place)?.permissions().mode();
        let open = if place.starts_with(entry) {
            mode & WRITABLE_BY_OTHERS != 0
        } else {
            mode & WRITABLE_BY_ALL != 0 && mode & STICKY == 0
        };
        if open {
            return Err(Refused::Writable(place.to_owned()));
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Metadata, Refused> {
    fs::metadata(path).map_err(|error| Refused::Absent(path.to_owned(), why(&error)))
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it is not there".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Why a program may not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its path is not one.
    #[error("{0}")]
    Form(&'static str),
    /// It cannot be looked at.
    #[error("`{}` cannot be read: {}", .0.display(), .1)]
    Absent(PathBuf, String),
    /// It is none of those in `allow`.
    #[error("`commands.allow` of the settings does not allow `{}`{}", .program.display(), really(.program, .real))]
    NotAllowed { program: PathBuf, real: PathBuf },
    /// It is a folder, or has no permission to be executed.
    #[error("`{}` is not a file that may be executed", .0.display())]
    NotAProgram(PathBuf),
    /// Somebody else could change what runs.
    #[error("other users can write to `{}`", .0.display())]
    Writable(PathBuf),
}

fn really(program: &Path, real: &Path) -> String {
    if program == real { String::new() } else { format!(", which is `{}`", real.display()) }
}

impl Refused {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Form(_) => "write the whole path, such as `/opt/clawhook/tools/reconcile`".to_owned(),
            Self::Absent(..) => "correct the path, or install the program".to_owned(),
            Self::NotAllowed { real, .. } => {
                format!("add `{}`, or its folder, to `commands.allow` in clawhook.yaml", real.display())
            }
            Self::NotAProgram(path) => format!("name a program, or run `chmod +x {}`", path.display()),
            Self::Writable(path) => format!("run `chmod go-w {}`", path.display()),
        }
    }
}

/// Processors, in hundredths of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cores(u32);

/// The time over which the kernel counts, microseconds: its own default.
/// <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files>
const PERIOD_US: u64 = 100_000;

impl Cores {
    /// One processor.
    pub const ONE: Self = Self(100);

    /// As `cpu.max` takes it: the time that may be used in each period.
    pub(super) fn cpu_max(self) -> String {
        format!("{} {PERIOD_US}", u64::from(self.0) * PERIOD_US / 100)
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Decimal::new(i64::from(self.0), 2).normalize();
        fmt::Display::fmt(&text, f)
    }
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let hundredths = number.to_string().parse::<Decimal>().ok().and_then(|cores| {
            let hundredths = (cores * Decimal::ONE_HUNDRED).round().to_u32()?;
            (1..=limits::COMMAND_CORES_MAX * 100).contains(&hundredths).then_some(hundredths)
        });
        hundredths.map(Self).ok_or_else(|| D::Error::custom("a number of processors is written like `0.5`"))
    }
}

impl JsonSchema for Cores {
    fn schema_name() -> Cow<'static, str> {
        "Cores".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "processors, such as `0.5` or `2`",
            "type": "number",
            "minimum": 0.01,
            "maximum": limits::COMMAND_CORES_MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn processors() {
        let check = |text: &str, cpu_max: &str, printed: &str| {
            let cores: Cores = serde_json::from_str(text).unwrap();
            assert_eq!((cores.cpu_max().as_str(), cores.to_string().as_str()), (cpu_max, printed), "{text}");
        };
        check("1.0", "100000 100000", "1");
        check("0.5", "50000 100000", "0.5");
        check("0.01", "1000 100000", "0.01");
        check("2", "200000 100000", "2");
        check("1.339", "134000 100000", "1.34");
        for text in ["0", "-1", "0.001", "5000", "\"1\""] {
            assert!(serde_json::from_str::<Cores>(text).is_err(), "{text}");
        }
    }

    fn program(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn folder(path: &Path, mode: u32) {
        fs::create_dir_all(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// `refusal` begins the refusal, `ROOT` standing for the folder of the test; empty when the program may run.
    #[test]
    fn only_what_is_allowed_runs() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| fs::canonicalize(root.path()).unwrap().join(name);
        for name in ["tools", "tools/deep", "other", "toolsmith", "groupish"] {
            folder(&at(name), 0o755);
        }
        for name in ["tools/good", "tools/deep/good", "other/one", "other/two", "toolsmith/near", "groupish/tool"] {
            program(&at(name), 0o755);
        }
        program(&at("tools/plain"), 0o644);
        program(&at("tools/shared"), 0o775);
        program(&at("loose/tool"), 0o755);
        folder(&at("groupish"), 0o775);
        folder(&at("loose"), 0o777);
        folder(&at("loose/inner"), 0o755);
        program(&at("loose/inner/tool"), 0o755);
        symlink(at("other/two"), at("tools/out")).unwrap();
        symlink(at("tools/good"), at("tools/in")).unwrap();
        symlink(at("tools"), at("current")).unwrap();
        let settings =
            |allow: &[&str]| Settings { allow: allow.iter().map(|name| at(name)).collect(), ..Settings::default() };
        let check = |allow: &[&str], program: &str, refusal: &str| {
            let told = match settings(allow).admit(&at(program)) {
                Ok(real) => {
                    assert!(real.is_file());
                    String::new()
                }
                Err(refused) => refused.to_string().replace(at("").to_str().unwrap(), "ROOT/"),
            };
            assert!(told.starts_with(refusal) && told.is_empty() == refusal.is_empty(), "{program}: {told}");
        };
        check(&["tools"], "tools/good", "");
        check(&["tools"], "tools/deep/good", "");
        check(&["tools"], "tools/in", "");
        check(&["tools"], "current/good", "");
        check(&["current"], "tools/good", "");
        check(&["other/one"], "other/one", "");
        check(&["other/one"], "other/two", "`commands.allow` of the settings does not allow `ROOT/other/two`");
        check(&["tools"], "toolsmith/near", "`commands.allow` of the settings does not allow `ROOT/toolsmith/near`");
        check(
            &["tools"],
            "tools/out",
            "`commands.allow` of the settings does not allow `ROOT/tools/out`, which is `ROOT/other/two`",
        );
        check(&["tools"], "tools/../other/two", "the path of a program has no `..` in it");
        check(&["tools"], "tools/gone", "`ROOT/tools/gone` cannot be read: it is not there");
        check(&["tools"], "tools/deep", "`ROOT/tools/deep` is not a file that may be executed");
        check(&["tools"], "tools/plain", "`ROOT/tools/plain` is not a file that may be executed");
        check(&["tools"], "tools/shared", "other users can write to `ROOT/tools/shared`");
        check(&["groupish"], "groupish/tool", "other users can write to `ROOT/groupish`");
        check(&["groupish/tool"], "groupish/tool", "");
        check(&["loose"], "loose/tool", "other users can write to `ROOT/loose`");
        check(&["loose/inner"], "loose/inner/tool", "other users can write to `ROOT/loose`");
        check(&[], "tools/good", "`commands.allow` of the settings does not allow");
        check(&["gone"], "tools/good", "`commands.allow` of the settings does not allow");
        assert_eq!(
            Settings::default().admit(Path::new("true")),
            Err(Refused::Form("the path of a program begins with `/`"))
        );
        assert!(Settings::check_entry(&at("tools")).is_ok());
        assert_eq!(Settings::check_entry(&at("loose")), Err(Refused::Writable(at("loose"))));
    }
}
