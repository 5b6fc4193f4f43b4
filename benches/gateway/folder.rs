//! A gateway to measure: a folder with settings, routes and workflows, and the process on it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::Result;
use crate::load::{ID_HEADER, KEY, SIGNATURE_HEADER};
use crate::process::{Server, free_address};

/// The workflow that calls out once.
pub(crate) const CALL_ONCE: &str = "call-once";
/// The workflow that does next to nothing.
const TRIVIAL: &str = "trivial";
/// How many runs the gateway drives at one time: more than one machine's worth of the default.
const CONCURRENCY: usize = 64;

/// What a gateway is to do with deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Keep them and hold their runs: only accepting is measured.
    Held,
    /// Run a workflow of one task that touches no network.
    Trivial,
    /// Run a workflow of one `http_request` to the server at this address.
    CallOnce(SocketAddr),
    /// Run the same every second, by a schedule.
    EverySecond(SocketAddr),
}

/// A folder for one gateway; it is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    place: TempDir,
    secrets: Vec<(String, String)>,
    pub(crate) hooks: SocketAddr,
    pub(crate) control: SocketAddr,
}

impl Folder {
    /// Writes the files of a gateway under `parent`.
    pub(crate) fn new(parent: &Path, route: Route) -> Result<Self> {
        Self::on(parent, route, &Storage::embedded())
    }

    /// The same on another store.
    pub(crate) fn on(parent: &Path, route: Route, storage: &Storage) -> Result<Self> {
        let place = tempfile::Builder::new().prefix("clawhook-bench-").tempdir_in(parent)?;
        let secrets = storage.secrets.clone();
        let folder = Self { place, secrets, hooks: free_address()?, control: free_address()? };
        let write = |file: &str, text: String| std::fs::write(folder.path().join(file), text);
        std::fs::create_dir(folder.path().join("routes"))?;
        std::fs::create_dir(folder.path().join("workflows"))?;
        write("clawhook.yaml", folder.settings(route, storage))?;
        write("routes/bench.yaml", routes(route))?;
        write("workflows/trivial.yaml", trivial())?;
        if matches!(route, Route::CallOnce(_) | Route::EverySecond(_)) {
            write("workflows/call-once.yaml", call_once())?;
        }
        Ok(folder)
    }

    /// Where the files are.
    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> std::path::PathBuf {
        self.path().join("data")
    }

    /// Starts the gateway and waits until the hooks door takes connections.
    pub(crate) fn start(&self) -> Result<Server> {
        Server::start("the gateway", self.command(), self.hooks, Some(&self.log()))
    }

    /// Starts the gateway without waiting.
    pub(crate) fn spawn(&self) -> Result<Server> {
        Server::spawn("the gateway", self.command(), self.hooks, Some(&self.log()))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clawhook"));
        command.arg("serve").arg("--config").arg(self.path().join("clawhook.yaml"));
        command.env("CLAWHOOK_SECRET_BENCH_KEY", KEY).envs(self.secrets.iter().cloned());
        command
    }

    fn log(&self) -> std::path::PathBuf {
        self.path().join("gateway.log")
    }

    fn settings(&self, route: Route, storage: &Storage) -> String {
        let Self { hooks, control, .. } = self;
        let far = match route {
            Route::CallOnce(far) | Route::EverySecond(far) => {
                format!("egress: {{ allow: [ 127.0.0.0/8 ] }}\nconnections:\n  far: {{ base_url: \"http://{far}\" }}\n")
            }
            Route::Held | Route::Trivial => String::new(),
        };
        format!(
            "version: 1\n\
             listen:\n  hooks: {{ address: {hooks} }}\n  control: {{ address: {control} }}\n\
             auth: none\n\
             storage: {{ {} }}\n\
             secrets: {{ source: env }}\n\
             limits: {{ concurrency: {CONCURRENCY} }}\n\
             paths: {{ routes: ./routes, workflows: ./workflows }}\n\
             {far}",
            storage.settings
        )
    }
}

/// Where a gateway keeps its runs.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    /// What stands under `storage`.
    pub(crate) settings: String,
    /// Variables of the secrets that it names.
    pub(crate) secrets: Vec<(String, String)>,
}

impl Storage {
    /// The embedded store, in the folder.
    pub(crate) fn embedded() -> Self {
        Self { settings: "backend: sqlite, path: ./data".to_owned(), secrets: Vec::new() }
    }
}

fn routes(route: Route) -> String {
    let workflow = if matches!(route, Route::Held | Route::Trivial) { TRIVIAL } else { CALL_ONCE };
    let paused = route == Route::Held;
    let schedules = match route {
        Route::EverySecond(_) => {
            format!("schedules:\n  - {{ name: every-second, cron: \"* * * * * *\", workflow: {CALL_ONCE} }}\n")
        }
        _ => String::new(),
    };
    format!(
        "version: 1\n\
         routes:\n\
         \x20 - path: /hooks/bench\n\
         \x20   name: bench\n\
         \x20   verify:\n\
         \x20     preset: generic_hmac\n\
         \x20     secret_ref: bench-key\n\
         \x20     header: {SIGNATURE_HEADER}\n\
         \x20     algorithm: sha256\n\
         \x20     encoding: hex\n\
         \x20     template: \"{{body}}\"\n\
         \x20     id_header: {ID_HEADER}\n\
         \x20   workflow: {workflow}\n\
         \x20   paused: {paused}\n\
         {schedules}"
    )
}

fn trivial() -> String {
    format!("version: 1\nname: {TRIVIAL}\ntasks:\n  - {{ id: done, type: stop }}\n")
}

fn call_once() -> String {
    format!(
        "version: 1\nname: {CALL_ONCE}\ntasks:\n\
         \x20 - {{ id: call, type: http_request, connection: far, with: {{ method: GET, path: /called }} }}\n"
    )
}
