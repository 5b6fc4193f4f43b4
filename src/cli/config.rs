//! What `clawhook.yaml` and its folders say, as commands need it: also when a part of it is wrong, because the command
//! that tells what is wrong must go on. The environment is read here and nowhere else on this floor.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::azure::Azure;
use crate::clock::SystemClock;
use crate::domain::secret::SecretValue;
use crate::id::{ChannelName, ConnectionName, SecretName};
use crate::secrets::{self, Vault};
use crate::settings::{DoorTls, Settings};
use crate::spec::diagnostic::{Problem, Report, Severity};
use crate::spec::overrides::Override;
use crate::spec::raw::DatabaseType;
use crate::spec::structure::SettingsFile;
use crate::spec::{Around, Files, Loaded, SecretUse, SourceFile, load, missing_secrets, raw, reader, unfit_keys, yaml};
use crate::tasks::plan::Written;
use crate::trials;

use super::check::render;
use super::error::Error;
use super::output::Output;

/// The settings file when none is named.
pub(super) const DEFAULT_FILE: &str = "clawhook.yaml";
/// The variable that holds the secret of tokens when the settings do not say.
const JWT_SECRET: &str = "JWT_SECRET";

/// The environment, without what is not text.
pub(super) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Everything that the files say, and everything that is wrong with them.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) loaded: Loaded,
    pub(super) problems: Vec<Problem>,
    /// Every secret that is named, in the settings too.
    pub(super) secrets: Vec<SecretUse>,
    pub(super) source: secrets::Settings,
    /// Which Azure, and who we are there.
    pub(super) azure: Arc<Azure>,
    /// Certificates that doors have from the vault: the door, and the name.
    pub(super) certificates: Vec<(&'static str, SecretName)>,
    /// How many tests of workflows there are.
    pub(super) tests: usize,
    /// Hashes of what the settings say.
    pub(super) written: Written,
}

impl Gathered {
    /// Asks a secret source on this machine for every secret that is named, and adds what it cannot give to the
    /// problems. Answers whether it was asked.
    pub(super) async fn look_for_secrets(&mut self) -> bool {
        if !self.source.is_local() {
            return false;
        }
        // Why a source cannot be opened is told with the settings.
        if let Ok(vault) = self.open() {
            self.problems.extend(missing_secrets(&self.secrets, &vault).await);
            let routes = self.loaded.catalog.routes.values().map(AsRef::as_ref);
            self.problems.extend(unfit_keys(routes, &self.secrets, &vault).await);
        }
        true
    }

    /// The secret source. It calls nobody yet.
    pub(super) fn open(&self) -> Result<Vault, secrets::OpenError> {
        Vault::open(&self.source, &self.azure, Arc::new(SystemClock))
    }
}

/// Reads the settings and the folders that they name.
pub(super) fn gather(file: &Path, env: &BTreeMap<String, String>) -> Gathered {
    let (settings, mut problems) = Settings::load(file, env.clone());
    let written = settings.as_ref().map(|settings| settings.written.clone()).unwrap_or_default();
    let folder = folder_of(file);
    let known = match settings {
        Some(settings) => {
            let certificates = certificates(&settings);
            Known {
                around: settings.around(),
                routes: settings.routes,
                workflows: settings.workflows,
                named: settings.secrets_named,
                source: settings.secrets,
                azure: settings.azure,
                certificates,
            }
        }
        None => Known::of_form(form(file, env).as_ref(), &folder),
    };
    let files = Files::read(&known.routes, &known.workflows, &folder, &mut problems);
    let mut loaded = load(&files, &known.around);
    let tests = SourceFile::tests(&known.workflows, &folder);
    let mut about_tests = Vec::new();
    let tests = trials::read(&tests, &folder, &loaded.catalog, &known.around.connections, &mut about_tests);
    // A workflow with problems of its own is not there for its tests; that is told at the workflow.
    about_tests.retain(|problem| !loaded.has_errors() || !OF_BROKEN_WORKFLOWS.contains(&problem.code));
    problems.append(&mut loaded.problems);
    problems.append(&mut about_tests);
    let secrets = known.named.iter().cloned().chain(loaded.secrets.iter().cloned()).collect();
    let Known { source, azure, certificates, .. } = known;
    let tests = tests.iter().map(|file| file.tests().count()).sum();
    Gathered { loaded, problems, secrets, source, azure, certificates, tests, written }
}

/// Codes of tests that a broken workflow alone can bring about.
const OF_BROKEN_WORKFLOWS: [&str; 2] = ["spec.unknown_workflow", "trial.unknown"];

/// What must be known of the settings to look at the other files.
struct Known {
    routes: PathBuf,
    workflows: PathBuf,
    around: Around,
    named: Vec<SecretUse>,
    source: secrets::Settings,
    azure: Arc<Azure>,
    certificates: Vec<(&'static str, SecretName)>,
}

impl Known {
    /// As much as settings with problems still say.
    fn of_form(form: Option<&SettingsFile>, folder: &Path) -> Self {
        let head = form.and_then(|form| form.head.as_ref());
        let paths = head.map(|head| head.paths.clone()).unwrap_or_default();
        let place = |path: Option<String>, default: &str| {
            folder.join(path.as_deref().unwrap_or(default)).components().collect()
        };
        let names = form.into_iter().flat_map(|form| &form.connections).filter_map(|item| item.path.key());
        let connections: BTreeSet<_> = names.filter_map(|name| ConnectionName::new(name).ok()).collect();
        let names = form.into_iter().flat_map(|form| &form.channels).filter_map(|item| item.path.key());
        let channels: BTreeSet<_> = names.filter_map(|name| ChannelName::new(name).ok()).collect();
        Self {
            routes: place(paths.routes, "routes"),
            workflows: place(paths.workflows, "workflows"),
            around: Around {
                connections,
                channels,
                databases: head
                    .into_iter()
                    .flat_map(|head| &head.databases)
                    .map(|(name, raw)| (name.clone(), raw.kind == DatabaseType::Postgres))
                    .collect(),
                // Of those that are not healthy it is not known, so nothing is said.
                blobs: head.into_iter().flat_map(|head| head.blobs.keys().map(|name| (name.clone(), true))).collect(),
                ..Around::default()
            },
            named: Vec::new(),
            source: source_of(head, folder),
            azure: Arc::default(),
            certificates: Vec::new(),
        }
    }
}

/// The certificates that doors have from the vault.
fn certificates(settings: &Settings) -> Vec<(&'static str, SecretName)> {
    let doors = [("hooks", &settings.hooks.tls), ("control", &settings.control.tls)];
    let named = doors.into_iter().filter_map(|(door, tls)| match tls {
        Some(DoorTls::KeyVault(name)) => Some((door, name.clone())),
        _ => None,
    });
    named.collect()
}

fn source_of(head: Option<&raw::Settings>, folder: &Path) -> secrets::Settings {
    let secrets = head.map(|head| head.secrets.clone()).unwrap_or_default();
    let source = secrets.source.unwrap_or_default().as_str();
    let path = secrets.path.map(|path| folder.join(path));
    secrets::Settings { source: source.to_owned(), path, vault_url: secrets.vault_url }
}

/// The settings for a run without a server. It opens no doors, so what guards them need not be there. Nothing when there
/// is no settings file and none was asked for.
pub(super) fn without_doors(file: &Path, asked: bool) -> Result<Option<Settings>, Vec<Problem>> {
    if !asked && !file.exists() {
        return Ok(None);
    }
    let mut env = environment();
    let secret = env.entry(jwt_variable(form(file, &env).as_ref())).or_default();
    if secret.len() < crate::limits::JWT_SECRET_BYTES_MIN {
        *secret = "-".repeat(crate::limits::JWT_SECRET_BYTES_MIN);
    }
    let (settings, problems) = Settings::load(file, env);
    settings.map(Some).ok_or(problems)
}

/// The settings, or the report of what is wrong with them.
pub(super) fn settings(file: &Path, output: Output) -> Result<Settings, Error> {
    let (settings, problems) = Settings::load(file, environment());
    settings.ok_or_else(|| {
        let errors = problems.into_iter().filter(|problem| problem.severity == Severity::Error).collect();
        Error::new(render(&Report::new(errors), output))
    })
}

/// Where the control door is, by the settings file; nothing when there is no such file.
pub(super) fn control_url(file: &Path) -> Result<Option<String>, Error> {
    if !file.exists() {
        return Ok(None);
    }
    let Some(head) = form(file, &environment()).and_then(|form| form.head) else {
        return Err(Error::new(format!(
            "`{}` does not say where the control door is, because it has problems",
            file.display()
        ))
        .help("see them with `clawhook check`, or name the gateway with `--url`"));
    };
    let control = head.listen.control.unwrap_or_default();
    let address = control.address.and_then(|raw::ListenAddress(text)| text.parse().ok()).unwrap_or(CONTROL);
    Ok(Some(url_of(address, control.tls.is_some())))
}

/// The control door's address when the settings do not say.
const CONTROL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// A door that listens everywhere is reached on this machine.
fn url_of(address: SocketAddr, tls: bool) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

/// The secret that signs tokens, and the variable that it is in.
pub(super) fn jwt_secret(file: &Path) -> (String, Option<SecretValue>) {
    let mut env = environment();
    let variable = jwt_variable(form(file, &env).as_ref());
    let secret = env.remove(&variable).filter(|secret| !secret.is_empty()).map(SecretValue::new);
    (variable, secret)
}

fn jwt_variable(form: Option<&SettingsFile>) -> String {
    let auth = form.and_then(|form| form.head.as_ref()).and_then(|head| head.auth.as_ref());
    match auth {
        Some(raw::Auth::Methods(methods)) => methods.jwt.as_ref().map(|jwt| jwt.secret_env.clone()),
        _ => None,
    }
    .unwrap_or_else(|| JWT_SECRET.to_owned())
}

/// The file as far as it can be read, its problems left for `check` to tell.
fn form(file: &Path, env: &BTreeMap<String, String>) -> Option<SettingsFile> {
    let bytes = std::fs::read(file).ok()?;
    let source = yaml::decode(&file.display().to_string(), &bytes).ok()?;
    reader().settings(&source, &Override::among(env.clone()), &mut Vec::new())
}

fn folder_of(file: &Path) -> PathBuf {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    file.parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[track_caller]
    fn check_url(address: &str, tls: bool, expected: &str) {
        assert_eq!(url_of(address.parse().unwrap(), tls), expected);
    }

    #[test]
    fn doors_have_urls() {
        check_url("127.0.0.1:8080", false, "http://127.0.0.1:8080");
        check_url("0.0.0.0:8443", true, "https://127.0.0.1:8443");
        check_url("[::]:80", false, "http://[::1]:80");
    }

    #[test]
    fn a_file_with_problems_still_says_where_the_door_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clawhook.yaml");
        assert_eq!(control_url(&file), Ok(None));
        std::fs::write(&file, "version: 1\nlisten: { control: { address: \"127.0.0.1:9\" } }\nconnections: { a: 1 }\n")
            .unwrap();
        assert_eq!(control_url(&file), Ok(Some("http://127.0.0.1:9".to_owned())));
        std::fs::write(&file, "a: [").unwrap();
        assert!(control_url(&file).is_err());
    }

    #[test]
    fn the_variable_of_the_token_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clawhook.yaml");
        let variable = |text: &str| {
            std::fs::write(&file, text).unwrap();
            jwt_variable(form(&file, &BTreeMap::new()).as_ref())
        };
        assert_eq!(variable("version: 1\nauth: { jwt: { secret_env: MY_SECRET } }\n"), "MY_SECRET");
        assert_eq!(variable("version: 1\nauth: none\n"), "JWT_SECRET");
        assert_eq!(variable("version: 1\n"), "JWT_SECRET");
    }
}
