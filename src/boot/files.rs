//! The files on disk as the gateway wants them: settings, routes and workflows, understood together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::azure::Azure;
use crate::gateway::{Loaded, Source};
use crate::secrets::Vault;
use crate::settings::Settings;
use crate::spec::diagnostic::{Look, Problem, Report, Severity};
use crate::spec::{self, Files};
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
    let vault = settings.as_ref().and_then(|settings| {
        let azure = Arc::new(Azure::new(settings.azure.clone()));
        Vault::open(&settings.secrets, &azure).ok().filter(Vault::is_local)
    });
    if let Some(vault) = vault {
        loaded.problems.extend(spec::missing_secrets(&loaded.secrets, &vault).await);
    }
    (settings, loaded)
}

/// The same for a gateway: files with errors are refused as a whole, with the report.
pub(super) async fn read_all(config: &Path, env: &BTreeMap<String, String>) -> Result<(Settings, Loaded), String> {
    let (settings, loaded) = read_files(config, env).await;
    let (errors, warnings): (Vec<_>, Vec<_>) =
        loaded.problems.into_iter().partition(|problem| problem.severity == Severity::Error);
    let Some(settings) = settings.filter(|_| errors.is_empty()) else {
        return Err(render(errors.into_iter().chain(warnings).collect()));
    };
    if !warnings.is_empty() {
        tracing::warn!("the files have warnings:\n{}", render(warnings));
    }
    let connections = settings.connections.clone();
    Ok((settings, Loaded { catalog: loaded.catalog, connections }))
}

fn render(problems: Vec<Problem>) -> String {
    Report::new(problems).render(Look::Plain)
}

/// Reads the same files again at every reload.
#[derive(Debug)]
pub(super) struct OnDisk {
    pub(super) config: PathBuf,
    pub(super) env: BTreeMap<String, String>,
}

/// What texts of older revisions are called in reports.
const OLDER: &str = "an older revision";

#[async_trait]
impl Source for OnDisk {
    async fn load(&self) -> Result<Loaded, String> {
        read_all(&self.config, &self.env).await.map(|(_, loaded)| loaded)
    }

    fn workflow(&self, text: &str) -> Result<Plan, String> {
        spec::compile_workflow(OLDER, text).map_err(render)
    }

    fn routes(&self, text: &str) -> Result<(Vec<RoutePlan>, Vec<SchedulePlan>), String> {
        spec::compile_routes(OLDER, text).map(|compiled| (compiled.routes, compiled.schedules)).map_err(render)
    }
}
