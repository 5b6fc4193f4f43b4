//! The settings of this process: `clawhook.yaml` with the environment over it, resolved.
//!
//! Each part owns what it is told; this part owns the file, the defaults, and the rules that hold between parts: no
//! door in the clear but on loopback, no control door without proof. It opens the files that settings name (authorities
//! and the like are small) and no store, socket or secret.

mod azure;
mod blobs;
mod channels;
mod commands;
mod connections;
mod data;
mod doors;
mod storage;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::azure::Azure;
use crate::azure::cloud::Cloud;
use crate::channels::Channels;
use crate::engine::Retention;
use crate::limits;
use crate::outbound::Egress;
use crate::spec::diagnostic::{Problem, Severity};
use crate::spec::overrides::Override;
use crate::spec::source_map::{Path as YamlPath, Source, Span};
use crate::spec::structure::SettingsFile;
use crate::spec::{Around, Desk, SecretUse, raw, reader, yaml};
use crate::tasks::plan::Written;
use crate::tasks::{Connections, sql};
use crate::{artifacts, secrets, store};

pub use self::doors::{Auth, ControlDoor, DoorTls, HooksDoor, TlsFiles};

/// What `clawhook.yaml` says, with every default filled in and every path absolute.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The public door.
    pub hooks: HooksDoor,
    /// The door for people and programs.
    pub control: ControlDoor,
    /// Who may use the control door.
    pub auth: Auth,
    /// Where runs are kept.
    pub storage: store::Settings,
    /// Where secrets come from.
    pub secrets: secrets::Settings,
    /// Which Azure, and who we are there.
    pub azure: Arc<Azure>,
    /// Runs that make progress at one time.
    pub runs_active_max: NonZeroUsize,
    /// Body of a delivery, bytes, for routes that set none.
    pub body_bytes_max: usize,
    /// How long things are kept.
    pub retention: Retention,
    /// The far ends that workflows call.
    pub connections: Connections,
    /// The places where people are told.
    pub channels: Channels,
    /// Where workflows may call beside the public internet.
    pub egress: Egress,
    /// The databases that workflows work with.
    pub databases: BTreeMap<String, sql::Place>,
    /// The places for files that people and other systems fetch.
    pub blobs: crate::tasks::blob::Places,
    /// Where what is too large for the record of a run is kept.
    pub artifacts: artifacts::Settings,
    /// The programs that workflows may run.
    pub commands: crate::tasks::command::settings::Settings,
    /// The folder of the route files.
    pub routes: PathBuf,
    /// The folder of the workflow files.
    pub workflows: PathBuf,
    /// The folder that holds `clawhook.yaml`; reports call other files by their path from here.
    pub folder: PathBuf,
    /// The secrets that the settings name.
    pub secrets_named: Vec<SecretUse>,
    /// Hashes of what is written, so that it can be held against what is in force.
    pub written: Written,
}

impl Settings {
    /// Reads the settings. `None` when there is an error among the problems.
    ///
    /// This blocks on the disk.
    pub fn load(path: &Path, env: impl IntoIterator<Item = (String, String)>) -> (Option<Self>, Vec<Problem>) {
        let name = path.display().to_string();
        match read(path, limits::YAML_BYTES_MAX) {
            Ok(bytes) => Self::resolve(&name, &bytes, &folder_of(path), env),
            Err(error) => {
                let problem = Problem::new(
                    "spec.file",
                    format!("the file cannot be read: {}", why(&error)),
                    &Source::new(name, ""),
                    Span::default(),
                );
                (None, vec![problem.help("make one with `clawhook init`, or name another with `--config FILE`")])
            }
        }
    }

    /// The same from a text; paths in it begin at `folder`.
    pub fn resolve(
        name: &str,
        bytes: &[u8],
        folder: &Path,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> (Option<Self>, Vec<Problem>) {
        let env: BTreeMap<String, String> = env.into_iter().collect();
        let source = match yaml::decode(name, bytes) {
            Ok(source) => source,
            Err(problem) => return (None, vec![*problem]),
        };
        let (mut problems, mut named) = (Vec::new(), Vec::new());
        let overrides = Override::among(env.clone());
        let Some(file) = reader().settings(&source, &overrides, &mut problems) else { return (None, problems) };
        let settings = {
            let desk = Desk::bare(&file.map, &mut problems, &mut named);
            Table { desk, folder, env: &env }.settings(&file)
        };
        file.send_home(&mut problems, &mut named);
        let healthy = problems.iter().all(|problem| problem.severity != Severity::Error);
        let settings = settings.filter(|_| healthy).map(|settings| Self { secrets_named: named, ..settings });
        (settings, problems)
    }

    /// What routes and workflows are held against.
    pub fn around(&self) -> Around {
        Around {
            connections: self.connections.keys().cloned().collect(),
            channels: self.channels.keys().cloned().collect(),
            databases: self
                .databases
                .iter()
                .map(|(name, place)| (name.clone(), matches!(place, sql::Place::Postgres(_))))
                .collect(),
            blobs: self.blobs.iter().map(|(name, place)| (name.clone(), place.gives_links())).collect(),
            commands: self.commands.clone(),
            body_bytes_max: self.body_bytes_max,
        }
    }
}

/// The settings on their way to being resolved.
struct Table<'a> {
    desk: Desk<'a>,
    folder: &'a Path,
    env: &'a BTreeMap<String, String>,
}

impl Table<'_> {
    fn settings(&mut self, file: &SettingsFile) -> Option<Settings> {
        // The connections are looked at even when the rest is wrong: one look shows everything.
        let egress = file.head.as_ref().map(|head| self.egress(head)).unwrap_or_default();
        let azure = file.head.as_ref().map(|head| self.azure(&head.azure)).unwrap_or_default();
        // One for all that use it, so that a token is asked for once; until then this is nothing but a name.
        let azure = Arc::new(Azure::new(azure));
        let connections = self.connections(&file.connections, file.head.is_some().then_some(&egress), &azure);
        let channels = self.channels(&file.channels, file.head.is_some().then_some(&egress));
        let head = file.head.as_ref()?;
        let (hooks, control) = self.doors(head);
        let auth = self.auth(head, control.as_ref().map(|door| door.address.ip()));
        let storage = self.storage(&head.storage, azure.cloud());
        let databases = self.databases(head, azure.cloud());
        let blobs = self.blobs(head, azure.cloud());
        let artifacts = self.artifacts(head, storage.as_ref(), azure.cloud());
        let secrets = self.secrets(&head.secrets, azure.cloud());
        let body_bytes_max = self.body_bytes_max(head);
        let commands = self.commands(head.commands.as_ref());
        let concurrency =
            head.limits.concurrency.and_then(|count| usize::try_from(count).ok()).and_then(NonZeroUsize::new);
        let retention = self.retention(&head.retention);
        Some(Settings {
            hooks: hooks?,
            control: control?,
            auth,
            storage: storage?,
            secrets,
            azure,
            runs_active_max: concurrency.unwrap_or(RUNS_ACTIVE_MAX),
            body_bytes_max,
            retention,
            connections,
            channels,
            egress,
            databases,
            blobs,
            artifacts: artifacts?,
            commands,
            routes: self.absolute(head.paths.routes.as_deref().unwrap_or("./routes")),
            workflows: self.absolute(head.paths.workflows.as_deref().unwrap_or("./workflows")),
            folder: self.folder.to_owned(),
            secrets_named: Vec::new(),
            written: file.written.clone(),
        })
    }

    fn egress(&mut self, head: &raw::Settings) -> Egress {
        let path = YamlPath::root().with("egress").with("allow");
        let mut allow = Vec::new();
        for (index, text) in head.egress.allow.iter().enumerate() {
            let path = path.with(index);
            let Some(network) = self.desk.network(&path, text) else { continue };
            if network.prefix_len() == 0 {
                let problem = self.desk.at("spec.egress", "this lets workflows call every private address", &path);
                self.desk.push(problem.warning().help("name the ranges that they are to reach, such as `10.1.0.0/16`"));
            }
            allow.push(network);
        }
        Egress::new(allow)
    }

    fn secrets(&mut self, raw: &raw::Secrets, cloud: Cloud) -> secrets::Settings {
        let path = YamlPath::root().with("secrets");
        let source = raw.source.unwrap_or_default().as_str();
        let example = format!("vault_url: https://NAME.{}", cloud.vault_suffix());
        let vault_url = match (source, raw.vault_url.as_deref()) {
            ("key-vault", given) => self
                .needed(&path, "vault_url", given, &example)
                .and_then(|url| self.azure_url(&path.with("vault_url"), url, cloud, &example, false)),
            (_, Some(_)) => {
                let span = self.desk.map.key(&path, "vault_url");
                let message = format!("`vault_url` does nothing with `source: {source}`");
                let problem = self.desk.problem("spec.no_effect", message, span);
                self.desk.push(problem.warning().help("remove the line, or write `source: key-vault`"));
                None
            }
            (_, None) => None,
        };
        let key = path.with("path");
        match (source, &raw.path) {
            ("file", None) => {
                let span = self.desk.map.key(&path, "source");
                let problem = self.desk.problem("spec.missing_key", "the key `path` is missing in `secrets`", span);
                self.desk.push(problem.help("add `path: …`, the folder with one file for each secret"));
            }
            ("file", Some(folder)) if !self.absolute(folder).is_dir() => {
                let problem = self.desk.at("spec.file", "there is no such folder", &key);
                self.desk.push(problem.help("make it, and put a file for each secret into it, named like the secret"));
            }
            ("env" | "key-vault", Some(_)) => {
                let span = self.desk.map.key(&path, "path");
                let message = format!("`path` does nothing with `source: {source}`");
                let problem = self.desk.problem("spec.no_effect", message, span);
                self.desk.push(problem.warning().help("remove the line, or write `source: file`"));
            }
            _ => {}
        }
        let path = raw.path.as_deref().map(|path| self.absolute(path));
        secrets::Settings { source: source.to_owned(), path, vault_url }
    }

    fn body_bytes_max(&mut self, head: &raw::Settings) -> usize {
        let path = YamlPath::root().with("limits").with("max_body");
        let size = self.desk.size(&path, head.limits.max_body.as_ref(), limits::BODY_BYTES_CEILING);
        size.unwrap_or(limits::BODY_BYTES_MAX)
    }

    fn retention(&mut self, raw: &raw::Retention) -> Retention {
        let path = YamlPath::root().with("retention");
        let mut keep = |key: &str, raw: Option<&raw::Duration>, default: Duration| {
            self.desk.duration(&path.with(key), raw).unwrap_or(default)
        };
        Retention {
            runs: keep("runs", raw.runs.as_ref(), limits::RETENTION_RUNS),
            payloads: keep("payloads", raw.payloads.as_ref(), limits::RETENTION_PAYLOADS),
            failed_runs: keep("failed_runs", raw.failed_runs.as_ref(), limits::RETENTION_FAILED_RUNS),
        }
    }

    fn absolute(&self, path: &str) -> PathBuf {
        // Taken apart and put together again, so that `./` in the middle is gone.
        self.folder.join(path).components().collect()
    }

    /// The bytes of a file that a setting names; why it cannot be read is told.
    fn file(&mut self, path: &YamlPath, name: &str, bytes_max: usize) -> Option<Arc<[u8]>> {
        match read(&self.absolute(name), bytes_max) {
            Ok(bytes) if bytes.len() > bytes_max => {
                let problem = self.desk.at("spec.limit", format!("the file has more than {bytes_max} bytes"), path);
                self.desk.push(problem.help("name the file with the certificates only"));
                None
            }
            Ok(bytes) => Some(bytes.into()),
            Err(error) => {
                let problem = self.desk.at("spec.file", format!("the file cannot be read: {}", why(&error)), path);
                self.desk.push(
                    problem
                        .help("the path begins at the folder of `clawhook.yaml`; check it, and who may read the file"),
                );
                None
            }
        }
    }
}

/// The default of `limits.concurrency`.
const RUNS_ACTIVE_MAX: NonZeroUsize = NonZeroUsize::new(limits::RUNS_ACTIVE_MAX).expect("the bound is not zero");

fn folder_of(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.parent().map(Path::to_owned).unwrap_or_default()
}

fn read(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than is allowed shows that there is too much.
    fs::File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it is not there".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
