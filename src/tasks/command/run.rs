//! Starts a program, feeds it, listens to it, and takes everything of it away again: when it ends, when its attempt is
//! cut off, and when a gateway before this one was killed.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{DumpableBehavior, Pid, Signal, kill_process_group, set_dumpable_behavior};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::group::{self, Group, Tree};
use super::launch;
use super::leftovers::{self, Owner};
use super::settings::{Bounds, Refused, Settings};
use crate::limits;

/// Where commands run.
#[derive(Debug, Clone)]
pub struct Host {
    /// What `/proc` and the control groups are read below.
    pub root: PathBuf,
    /// Our own program, which launches.
    pub launcher: PathBuf,
    /// The folder for what commands work with. Nobody else uses it.
    pub folder: PathBuf,
    /// Runs what outlives an attempt: killing, and removing.
    pub tracker: TaskTracker,
}

impl Host {
    /// This machine; `storage` is the folder of the store.
    pub fn here(storage: &Path, tracker: TaskTracker) -> Self {
        Self { root: "/".into(), launcher: "/proc/self/exe".into(), folder: storage.join("commands"), tracker }
    }
}

/// Why commands cannot be run at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the folder `{}` for `command` tasks: {cause}; correct `storage.path`, or its permissions", path.display())]
    Folder { path: PathBuf, cause: io::Error },
    #[error("cannot tell when this process started from `/proc`: mount it, or remove `commands` from clawhook.yaml")]
    NoProc,
}

/// Runs programs. The default runs none.
#[derive(Debug, Clone, Default)]
pub struct Commands(Option<Arc<Runner>>);

#[derive(Debug)]
struct Runner {
    settings: Settings,
    host: Host,
    tree: Result<Tree, group::Error>,
    owner: Owner,
    places: Semaphore,
}

/// What to run.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, Vec<u8>)>,
    pub(super) stdin: Option<Vec<u8>>,
    pub(super) bounds: Bounds,
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) out_of_memory: bool,
    pub(super) out_of_processes: bool,
}

impl Ended {
    /// The exit code, unless a signal ended it.
    pub(super) fn exit(&self) -> Option<u8> {
        self.status.code().and_then(|code| u8::try_from(code).ok())
    }

    pub(super) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

/// Why a program did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRun {
    #[error("the settings allow no `command` tasks")]
    Off,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("commands cannot be bounded here, so none is run: {0}")]
    Unbounded(#[from] group::Error),
    #[error("cannot {doing}: {cause}")]
    Here { doing: &'static str, cause: io::Error },
    #[error("{0}")]
    Launch(String),
    #[error("it wrote more than {} bytes to {}", .0.bytes_max(), .0.name())]
    TooMuch(Stream),
}

/// What a program writes to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn bytes_max(self) -> usize {
        match self {
            Self::Stdout => limits::COMMAND_STDOUT_BYTES_MAX,
            Self::Stderr => limits::COMMAND_STDERR_BYTES_MAX,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The whole environment of a command, beside its own variables and those of its folder.
const ENVIRONMENT: [(&str, &str); 2] = [("PATH", "/usr/bin:/bin"), ("LANG", "C.UTF-8")];

impl Commands {
    /// Makes this machine ready for the commands that `settings` allow, and takes away what an earlier gateway left.
    ///
    /// This blocks on the disk, and while leftovers die.
    pub fn open(settings: &Settings, host: Host) -> Result<Self, Error> {
        if settings.is_off() {
            return Ok(Self::default());
        }
        // Commands are the same user as we are: none of them is to read our memory or our environment.
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!("this process cannot be closed to its commands: {error}");
        }
        let owner = Owner::of(&host.root, std::process::id())
            .or_else(|| Owner::of(Path::new("/"), std::process::id()))
            .ok_or(Error::NoProc)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&host.folder)
            .map_err(|cause| Error::Folder { path: host.folder.clone(), cause })?;
        let tree = Tree::prepare(&host.root, !settings.unbounded);
        leftovers::remove(Path::new("/"), &host.folder);
        tell(&tree, settings.unbounded);
        let places = Semaphore::new(settings.concurrency);
        let settings = settings.clone();
        let runner = Runner { settings, host, tree, owner, places };
        Ok(Self(Some(Arc::new(runner))))
    }

    /// What a command may take at most.
    pub(super) fn bounds(&self) -> Bounds {
        self.0.as_ref().map(|runner| runner.settings.bounds).unwrap_or_default()
    }

    /// Runs a program to its end. Dropping the future kills it, with everything it started.
    pub(super) async fn run(&self, order: Order) -> Result<Ended, NotRun> {
        let runner = self.0.as_ref().ok_or(NotRun::Off)?;
        // The places are never closed.
        let _place = runner.places.acquire().await.map_err(|_| NotRun::Off)?;
        let (blocking, program, bounds) = (Arc::clone(runner), order.program.clone(), order.bounds);
        let prepared = tokio::task::spawn_blocking(move || blocking.prepare(&program, bounds)).await;
        let (program, mut job) = prepared.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let pipes = job.start(&runner.host, &program, order)?;
        let listened = job.listen(pipes).await;
        let ended = listened.map(|(status, stdout, stderr)| job.sum_up(status, stdout, stderr));
        job.end().await;
        let ended = ended?;
        let said = String::from_utf8_lossy(&ended.stderr);
        match said.strip_prefix(launch::FAILED) {
            Some(why) if ended.exit() == Some(launch::FAILED_EXIT) => Err(NotRun::Launch(why.trim_end().to_owned())),
            _ => Ok(ended),
        }
    }
}

fn tell(tree: &Result<Tree, group::Error>, unbounded: bool) {
    match tree {
        Ok(_) => {}
        Err(error) if unbounded => {
            tracing::warn!("commands run without bounds, as `commands.unbounded` says: {error}");
        }
        Err(error) => {
            tracing::warn!(
                "`command` tasks will fail, because commands cannot be bounded here: {error}; `clawhook doctor` says more, \
                 and the service's unit wants `Delegate=cpu memory pids`"
            );
        }
    }
}

impl Runner {
    fn prepare(&self, program: &Path, bounds: Bounds) -> Result<(PathBuf, Job), NotRun> {
        let program = self.settings.admit(program)?;
        let name = format!("{}-{:016x}", self.owner, rand::random::<u64>());
        let folder = self.host.folder.join(&name);
        let job = Job { traces: Some(Traces { folder, group: None, child: None }), tracker: self.host.tracker.clone() };
        self.furnish(job, &name, bounds).map(|job| (program, job))
    }

    fn furnish(&self, mut job: Job, name: &str, bounds: Bounds) -> Result<Job, NotRun> {
        let Some(traces) = &mut job.traces else { return Ok(job) };
        traces.group = match &self.tree {
            Ok(tree) => Some(tree.group(name, bounds)).transpose().or_else(|error| self.unless_unbounded(error))?,
            Err(error) => self.unless_unbounded(error.clone())?,
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(traces.home());
        made.map_err(|cause| NotRun::Here { doing: "make a folder for the command", cause })?;
        Ok(job)
    }

    fn unless_unbounded(&self, error: group::Error) -> Result<Option<Group>, NotRun> {
        if self.settings.unbounded { Ok(None) } else { Err(error.into()) }
    }
}

/// A command under way. However it goes out of sight, everything of it is killed and removed.
struct Job {
    traces: Option<Traces>,
    tracker: TaskTracker,
}

/// Everything that there is of a command.
struct Traces {
    folder: PathBuf,
    group: Option<Group>,
    child: Option<Child>,
}

/// What the gateway holds of a program.
struct Pipes {
    feed: Option<(ChildStdin, Vec<u8>)>,
    stdout: Box<dyn AsyncRead + Send + Unpin>,
    stderr: Box<dyn AsyncRead + Send + Unpin>,
}

impl Job {
    fn start(&mut self, host: &Host, program: &Path, order: Order) -> Result<Pipes, NotRun> {
        let cannot = |cause: io::Error| match cause.kind() {
            // Arguments that the kernel does not take will not fit the next time.
            io::ErrorKind::ArgumentListTooLong | io::ErrorKind::InvalidInput => NotRun::Launch(cause.to_string()),
            _ => NotRun::Here { doing: "start the command", cause },
        };
        let Some(traces) = &mut self.traces else { return Err(NotRun::Off) };
        let mut command = Command::new(&host.launcher);
        command.arg(launch::VERB);
        if let Some(group) = &traces.group {
            command.arg(launch::GROUP).arg(group.path());
        }
        command.arg("--").arg(program).args(&order.args);
        command.env_clear().envs(ENVIRONMENT).env("HOME", traces.home()).env("TMPDIR", traces.home());
        command.envs(order.env.into_iter().map(|(name, value)| (name, OsString::from_vec(value))));
        command.current_dir(traces.home()).process_group(0).kill_on_drop(true);
        let stdin = if order.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = traces.child.insert(command.spawn().map_err(cannot)?);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let process = child.id().and_then(|pid| Owner::of(Path::new("/"), pid));
        if let Some(process) = process {
            // Without it only a control group finds the process after a crash.
            let _ = fs::write(traces.folder.join(leftovers::PROCESS), process.to_string());
        }
        let gone = || NotRun::Here { doing: "listen to the command", cause: io::ErrorKind::BrokenPipe.into() };
        let stdout = Box::new(stdout.ok_or_else(gone)?);
        Ok(Pipes { feed: stdin.zip(order.stdin), stdout, stderr: Box::new(stderr.ok_or_else(gone)?) })
    }

    /// Feeds and listens until the program ends; then what it started ends too, and what is still in the pipes is read.
    async fn listen(&mut self, mut pipes: Pipes) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), NotRun> {
        let Some(traces) = &mut self.traces else { return Err(NotRun::Off) };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = {
            let reading = async {
                tokio::try_join!(
                    read(&mut pipes.stdout, &mut stdout, Stream::Stdout),
                    read(&mut pipes.stderr, &mut stderr, Stream::Stderr)
                )
            };
            let mut reading = std::pin::pin!(reading);
            let mut feeding = std::pin::pin!(feed(pipes.feed.take()));
            let (mut is_read, mut is_fed) = (false, false);
            let status = loop {
                tokio::select! {
                    status = traces.wait() => break status?,
                    read = &mut reading, if !is_read => {
                        read?;
                        is_read = true;
                    }
                    () = &mut feeding, if !is_fed => is_fed = true,
                }
            };
            traces.kill_rest();
            if !is_read {
                // What left its process group, without control groups, may hold the pipes open for ever.
                tokio::time::timeout(limits::COMMAND_DRAIN_MAX, reading).await.unwrap_or(Ok(((), ())))?;
            }
            status
        };
        Ok((status, stdout, stderr))
    }

    fn sum_up(&self, status: ExitStatus, stdout: Vec<u8>, stderr: Vec<u8>) -> Ended {
        let group = self.traces.as_ref().and_then(|traces| traces.group.as_ref());
        let out_of_memory = group.is_some_and(Group::ran_out_of_memory);
        let out_of_processes = group.is_some_and(Group::ran_out_of_processes);
        Ended { status, stdout, stderr, out_of_memory, out_of_processes }
    }

    /// Kills and removes; when nobody waits for it any more it goes on by itself.
    async fn end(mut self) {
        if let Some(traces) = self.traces.take() {
            // A panic in there has been told; nothing hangs on it.
            let _ = self.tracker.spawn(traces.remove()).await;
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let Some(mut traces) = self.traces.take() else { return };
        traces.kill();
        // Without a runtime the process ends, and the next start removes the rest.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.tracker.spawn_on(traces.remove(), &runtime);
        }
    }
}

impl Traces {
    fn home(&self) -> PathBuf {
        self.folder.join(leftovers::HOME)
    }

    async fn wait(&mut self) -> Result<ExitStatus, NotRun> {
        let Some(child) = &mut self.child else { return Err(NotRun::Off) };
        child.wait().await.map_err(|cause| NotRun::Here { doing: "wait for the command", cause })
    }

    /// Kills everything, now. The program's own process first: it may not have entered its group yet.
    fn kill(&mut self) {
        let pid = self.child.as_ref().and_then(Child::id);
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.start_kill();
        }
        kill_led_by(pid);
        if let Some(group) = &self.group {
            group.kill();
        }
    }

    /// Kills what a program that ended left running.
    fn kill_rest(&mut self) {
        match &self.group {
            Some(group) => group.kill(),
            None => kill_led_by(self.leader()),
        }
    }

    /// The number of the program's process, also when it ended: the folder has it.
    fn leader(&self) -> Option<u32> {
        let text = fs::read_to_string(self.folder.join(leftovers::PROCESS)).ok()?;
        text.split('-').next()?.parse().ok()
    }

    async fn remove(mut self) {
        self.kill();
        if let Some(child) = &mut self.child {
            let _ = child.wait().await;
        }
        if let Some(group) = &self.group
            && let Err(error) = group.remove().await
        {
            tracing::warn!("the control group `{}` of a command stays: {error}", group.path().display());
        }
        if let Err(error) = tokio::fs::remove_dir_all(&self.folder).await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("the folder `{}` of a command stays: {error}", self.folder.display());
        }
    }
}

/// Kills the process group that this process leads.
fn kill_led_by(pid: Option<u32>) {
    if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
        // There may be nobody left.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Writes what the program is to read. A program that does not want it is no failure.
async fn feed(feed: Option<(ChildStdin, Vec<u8>)>) {
    if let Some((mut stdin, bytes)) = feed {
        let _ = stdin.write_all(&bytes).await;
    }
}

/// Reads to the end of a stream. One that breaks has ended.
async fn read(from: &mut (impl AsyncRead + Unpin), into: &mut Vec<u8>, stream: Stream) -> Result<(), NotRun> {
    let most = stream.bytes_max();
    // One byte more shows that there is too much.
    let _ = from.take(most as u64 + 1).read_to_end(into).await;
    if into.len() > most { Err(NotRun::TooMuch(stream)) } else { Ok(()) }
}
