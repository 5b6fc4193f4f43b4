//! The files on disk as the gateway wants them: settings, routes and workflows, understood together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::secrets::Upkeep;
use crate::clock::SystemClock;
use crate::gateway::{Loaded, Source};
use crate::secrets::Vault;
use crate::settings::Settings;
use crate::spec::diagnostic::{Look, Problem, Report, Severity};
use crate::spec::{self, Files, SecretUse};
use crate::tasks::plan::{Plan, RoutePlan, SchedulePlan};

/// Everything that the files say and everything that is wrong with them: what `clawhook check` tells.
pub async fn read_files(config: &Path, env: &BTreeMap<String, String>) -> (Option<Settings>, spec::Loaded) {
    let (path, variables) = (config.to_owned(), env.clone());
    let blocking = move || {
        let (settings, problems) = Settings::load(&path, variables);
        let Some(settings) = settings else {
            return (None, spec::Loaded { problems, ..spec::Loaded::default() });
        };
        let mut found = problems;
        let files = Files::read(&settings.routes, &settings.workflows, &settings.folder, &mut found);
        let mut loaded = spec::load(&files, &settings.around());
        found.append(&mut loaded.problems);
        loaded.problems = found;
        loaded.secrets.extend(settings.secrets_named.iter().cloned());
        (Some(settings), loaded)
    };
    let read = tokio::task::spawn_blocking(blocking).await;
    let (settings, mut loaded) = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    // A vault elsewhere is not asked here: what it cannot give is no mistake in the files.
    let local = settings.as_ref().filter(|settings| settings.secrets.is_local());
    let vault = local.and_then(|settings| Vault::open(&settings.secrets, &settings.azure, Arc::new(SystemClock)).ok());
    if let Some(vault) = vault {
        loaded.problems.extend(spec::missing_secrets(&loaded.secrets, &vault).await);
        let routes = loaded.catalog.routes.values().map(AsRef::as_ref);
        let unfit = spec::unfit_keys(routes, &loaded.secrets, &vault).await;
        loaded.problems.extend(unfit);
    }
    (settings, loaded)
}

/// Files without errors.
pub(super) struct Read {
    pub(super) settings: Settings,
    pub(super) loaded: Loaded,
    /// The secrets that they name.
    pub(super) secrets: Vec<SecretUse>,
}

/// The same for a gateway: files with errors are refused as a whole, with the report.
pub(super) async fn read_all(config: &Path, env: &BTreeMap<String, String>) -> Result<Read, String> {
    let (settings, loaded) = read_files(config, env).await;
    let (errors, warnings): (Vec<_>, Vec<_>) =
        loaded.problems.into_iter().partition(|problem| problem.severity == Severity::Error);
    let Some(settings) = settings.filter(|_| errors.is_empty()) else {
        return Err(render(errors.into_iter().chain(warnings).collect()));
    };
    if !warnings.is_empty() {
        tracing::warn!("the files have warnings:\n{}", render(warnings));
    }
    let (connections, channels) = (settings.connections.clone(), settings.channels.clone());
    let written = settings.written.clone();
    let (catalog, secrets) = (loaded.catalog, loaded.secrets);
    Ok(Read { settings, loaded: Loaded { catalog, connections, channels, written }, secrets })
}

fn render(problems: Vec<Problem>) -> String {
    Report::new(problems).render(Look::Plain)
}

/// Reads the same files again at every reload.
#[derive(Debug)]
pub(super) struct OnDisk {
    pub(super) config: PathBuf,
    pub(super) env: BTreeMap<String, String>,
    pub(super) upkeep: Upkeep,
}

/// What texts of older revisions are called in reports.
const OLDER: &str = "an older revision";

#[async_trait]
impl Source for OnDisk {
    async fn load(&self) -> Result<Loaded, String> {
        // Whatever is wrong with the files: secrets and certificates are asked for again.
        self.upkeep.reload();
        let Read { loaded, secrets, .. } = read_all(&self.config, &self.env).await?;
        self.upkeep.look_through(secrets);
        Ok(loaded)
    }

    fn workflow(&self, text: &str) -> Result<Plan, String> {
        spec::compile_workflow(OLDER, text).map_err(render)
    }

    fn routes(&self, text: &str) -> Result<(Vec<RoutePlan>, Vec<SchedulePlan>), String> {
        spec::compile_routes(OLDER, text).map(|compiled| (compiled.routes, compiled.schedules)).map_err(render)
    }
}
