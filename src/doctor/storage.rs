//! The store: whether it opens, whether it takes a write, and how long a durable write takes.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Finding;
use crate::clock::Clock;
use crate::domain::secret::Secrets;
use crate::limits;
use crate::settings::Settings;
use crate::store::{self, Parts, Store};

/// The mark that is written and taken away again.
const MARK: &str = "doctor";

pub(super) async fn examine(settings: &Settings, secrets: &Arc<dyn Secrets>, clock: &Arc<dyn Clock>) -> Vec<Finding> {
    let about = format!("storage {}", settings.storage.backend);
    let mut storage = settings.storage.clone();
    let mut scratch = None;
    if is_empty(&storage.path) && storage.blob.is_some() {
        // What it keeps here can be lost, so it is made where it goes again.
        match Scratch::new() {
            Ok(made) => storage.path = scratch.insert(made).0.clone(),
            Err(error) => {
                let found = format!("cannot make a folder in `{}`: {error}", std::env::temp_dir().display());
                return vec![Finding::bad(about, found, "let this user write there, or set `TMPDIR`")];
            }
        }
    } else if is_empty(&storage.path) && storage.postgres.is_none() {
        // To open it would make it; its disk is what can be looked at.
        let what = "there is none yet, the first start makes it; a sync of its disk";
        return vec![synced(about, what, existing(&storage.path))];
    }
    let parts = Parts {
        settings: storage,
        azure: Arc::clone(&settings.azure),
        secrets: Arc::clone(secrets),
        clock: Arc::clone(clock),
    };
    let finding = opened(about, parts).await;
    drop(scratch);
    vec![finding]
}

async fn opened(about: String, parts: Parts) -> Finding {
    match tokio::time::timeout(limits::DOCTOR_STORE_MAX, store::open(parts)).await {
        Ok(Ok(store)) => {
            let finding = match writes(store.as_ref()).await {
                Ok(times) => judged(about, "a durable write", &times),
                Err(error) => {
                    Finding::bad(about, error.to_string(), "see the text, and `docs/guide.md`, section Storage")
                }
            };
            store.close().await;
            finding
        }
        // A gateway that runs has the folder to itself: then its disk is what can be looked at.
        Ok(Err(store::Error::Locked { place })) => {
            synced(about, "in use by a gateway that runs; a sync of its disk", Path::new(&place))
        }
        Ok(Err(error)) => {
            Finding::bad(about, error.to_string(), "correct `storage` in clawhook.yaml, or what it names")
        }
        Err(_) => {
            let found = format!("it did not open within {} s", limits::DOCTOR_STORE_MAX.as_secs());
            Finding::bad(about, found, "check that its server can be reached from this machine")
        }
    }
}

/// A folder that goes with this.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("clawhook-doctor-{:016x}", rand::random::<u64>()));
        let mut builder = std::fs::DirBuilder::new();
        // Logs of runs are in it for a moment.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now goes with the other temporary files of the machine.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether nothing is in a folder, or it is not there.
fn is_empty(folder: &Path) -> bool {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The folder, or the nearest above it that is there.
fn existing(folder: &Path) -> &Path {
    folder.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("."))
}

fn synced(about: String, what: &str, folder: &Path) -> Finding {
    match syncs(folder) {
        Ok(times) => judged(about, what, &times),
        Err(error) => {
            let mend = "check who owns the folder, and whether its disk is full or read-only";
            Finding::bad(about, format!("cannot write to `{}`: {error}", folder.display()), mend)
        }
    }
}

/// How long each of some small durable writes took.
async fn writes(store: &dyn Store) -> Result<Vec<Duration>, store::Error> {
    let mut times = Vec::new();
    for round in 0..limits::DOCTOR_WRITES {
        let began = Instant::now();
        store.set_mark(MARK, Some(&round.to_string())).await?;
        times.push(began.elapsed());
    }
    store.set_mark(MARK, None).await?;
    Ok(times)
}

/// How long each of some syncs of a small file took.
fn syncs(folder: &Path) -> io::Result<Vec<Duration>> {
    let path = folder.join("doctor.tmp");
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    let mut sync_all = || -> io::Result<()> {
        for _ in 0..limits::DOCTOR_WRITES {
            let began = Instant::now();
            file.write_all(&[0; 4096])?;
            file.sync_data()?;
            times.push(began.elapsed());
        }
        Ok(())
    };
    let done = sync_all();
    std::fs::remove_file(&path)?;
    done.map(|()| times)
}

fn judged(about: String, what: &str, times: &[Duration]) -> Finding {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let (Some(middle), Some(worst)) = (sorted.get(sorted.len() / 2), sorted.last()) else {
        return Finding::good(about, what);
    };
    let ms = |time: &Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let found = format!("{what} takes {} (worst of {}: {})", ms(middle), sorted.len(), ms(worst));
    if *middle > limits::DOCTOR_WRITE_SLOW {
        let mend = "every delivery waits for such a write: use a faster disk, or a store nearer to this machine";
        return Finding::doubtful(about, found, mend);
    }
    Finding::good(about, found)
}
