//! Reloads when a file changed. It looks at times and sizes every few seconds, which works on every disk and with
//! every editor, and waits until a look finds nothing new, so that half of a change is not loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gateway::{Caller, Gateway, Scopes};
use crate::settings::Settings;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How the files look: what tells that one of them changed.
type Looks = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

pub(super) fn files(
    tracker: &TaskTracker,
    gateway: Gateway,
    settings: &Settings,
    config: PathBuf,
    stop: CancellationToken,
) {
    let folders = [settings.routes.clone(), settings.workflows.clone()];
    tracker.spawn(async move {
        let mut in_force = look(&config, &folders).await;
        let mut before = in_force.clone();
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let now = look(&config, &folders).await;
            if now == before && now != in_force {
                in_force = now.clone();
                reload(&gateway).await;
            }
            before = now;
        }
    });
}

async fn reload(gateway: &Gateway) {
    let caller = Caller { name: "files".to_owned(), scopes: Scopes::all(), remote: "local".to_owned() };
    if let Err(error) = gateway.reload(&caller).await {
        let report = match &error {
            crate::gateway::Error::Invalid { help: Some(report), .. } => report.as_str(),
            _ => "",
        };
        tracing::error!(%error, "changed files were not loaded: {error}\n{report}");
    }
}

async fn look(config: &Path, folders: &[PathBuf; 2]) -> Looks {
    let (config, folders) = (config.to_owned(), folders.clone());
    let blocking = move || {
        let mut looks = Looks::new();
        add(&config, &mut looks);
        for folder in &folders {
            add(folder, &mut looks);
        }
        looks
    };
    tokio::task::spawn_blocking(blocking).await.unwrap_or_default()
}

/// Adds a file, or everything in a folder. What cannot be read has no looks: when it comes back, that is a change.
fn add(path: &Path, looks: &mut Looks) {
    let Ok(facts) = std::fs::metadata(path) else { return };
    if facts.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        for entry in entries {
            add(&entry.path(), looks);
        }
    } else {
        looks.insert(path.to_owned(), (facts.modified().ok(), facts.len()));
    }
}
