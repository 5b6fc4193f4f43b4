//! Artifacts in a folder: one folder a run, one file an artifact. A file is written under `unfinished/`, synced, and
//! then renamed, so a name that is there is whole.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ArtifactId, ArtifactStore, Error, Sink, Source};
use crate::clock::Timestamp;
use crate::id::RunId;
use crate::limits;

/// The folder of files that are being written.
const UNFINISHED: &str = "unfinished";

/// The folder of the names of the stores that keep artifacts here.
const STORES: &str = "stores";

/// Artifacts in a folder.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Nothing is made before it is needed.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn file(&self, id: &ArtifactId) -> PathBuf {
        self.root.join(id.run().to_string()).join(id.to_string())
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { why: format!("`{path}`: {error}") },
        _ => Error::Failed { doing, why: format!("`{path}`: {error}") },
    }
}

#[async_trait]
impl ArtifactStore for Folder {
    async fn create(&self, id: &ArtifactId) -> Result<Box<dyn Sink>, Error> {
        let (unfinished, target) = (self.root.join(UNFINISHED), self.file(id));
        fs::create_dir_all(&unfinished).await.map_err(failed("begin an", &unfinished))?;
        let path = unfinished.join(id.to_string());
        let file = File::create_new(&path).await.map_err(failed("begin an", &path))?;
        // From here on the file goes when the sink does.
        let sink = FileSink { file, path, target, published: false, until_look: 0 };
        Ok(Box::new(sink))
    }

    async fn open(&self, id: &ArtifactId) -> Result<Box<dyn Source>, Error> {
        let path = self.file(id);
        match File::open(&path).await {
            Ok(file) => Ok(Box::new(FileSource { file, path })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Missing { id: id.clone() }),
            Err(error) => Err(failed("read an", &path)(error)),
        }
    }

    async fn runs(&self, after: Option<RunId>, limit: usize) -> Result<Vec<RunId>, Error> {
        let mut folders = match fs::read_dir(&self.root).await {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("look for an", &self.root)(error)),
        };
        // The oldest of them, without ever holding more than twice as many.
        let mut runs = Vec::new();
        while let Some(folder) = folders.next_entry().await.map_err(failed("look for an", &self.root))? {
            let run: Option<RunId> = folder.file_name().to_str().and_then(|name| name.parse().ok());
            runs.extend(run.filter(|run| after.is_none_or(|after| *run > after)));
            if runs.len() >= 2 * limit {
                runs.sort_unstable();
                runs.truncate(limit);
            }
        }
        runs.sort_unstable();
        runs.truncate(limit);
        Ok(runs)
    }

    async fn remove(&self, run: RunId) -> Result<(), Error> {
        let path = self.root.join(run.to_string());
        match fs::remove_dir_all(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove an", &path)(error)),
            _ => Ok(()),
        }
    }

    async fn tidy(&self, before: Timestamp) -> Result<usize, Error> {
        let unfinished = self.root.join(UNFINISHED);
        let Ok(mut files) = fs::read_dir(&unfinished).await else { return Ok(0) };
        let mut removed = 0;
        while let Some(file) = files.next_entry().await.map_err(failed("look for an", &unfinished))? {
            // A file that went meanwhile is what is wanted.
            let Ok(written) = file.metadata().await.and_then(|about| about.modified()) else { continue };
            let written = Timestamp::from(chrono::DateTime::<chrono::Utc>::from(written));
            if written < before && fs::remove_file(file.path()).await.is_ok() {
                removed += 1;
            }
        }
        Ok(removed)
    }

    async fn stores(&self) -> Result<Vec<String>, Error> {
        let stores = self.root.join(STORES);
        let mut files = match fs::read_dir(&stores).await {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("look for an", &stores)(error)),
        };
        let mut names = Vec::new();
        while let Some(file) = files.next_entry().await.map_err(failed("look for an", &stores))? {
            names.push(file.file_name().to_string_lossy().into_owned());
            if names.len() == limits::ARTIFACT_STORES_MAX {
                break;
            }
        }
        Ok(names)
    }

    async fn add_store(&self, name: &str) -> Result<(), Error> {
        let stores = self.root.join(STORES);
        let added = async {
            fs::create_dir_all(&stores).await?;
            File::create(stores.join(name)).await?.sync_all().await?;
            File::open(&stores).await?.sync_all().await?;
            // The folder of the names may be new.
            File::open(&self.root).await?.sync_all().await
        };
        added.await.map_err(failed("look after an", &stores))
    }

    fn shared(&self) -> bool {
        false
    }

    fn place_of_store(&self, name: &str) -> String {
        self.root.join(STORES).join(name).display().to_string()
    }
}

struct FileSink {
    file: File,
    path: PathBuf,
    target: PathBuf,
    published: bool,
    /// Bytes that may be written before the next look at the room on the disk.
    until_look: usize,
}

#[async_trait]
impl Sink for FileSink {
    async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        if self.until_look < piece.len() {
            room(self.path.parent().unwrap_or(&self.path))?;
            self.until_look = limits::ARTIFACT_ROOM_LOOK_BYTES;
        }
        self.until_look -= piece.len();
        self.file.write_all(&piece).await.map_err(failed("write an", &self.path))
    }

    async fn publish(mut self: Box<Self>) -> Result<(), Error> {
        let saved = async {
            self.file.flush().await?;
            self.file.sync_all().await?;
            let folder = self.target.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder).await?;
            fs::rename(&self.path, &self.target).await?;
            File::open(folder).await?.sync_all().await?;
            // The folder of the run may be new.
            File::open(folder.parent().unwrap_or(folder)).await?.sync_all().await
        };
        saved.await.map_err(failed("publish an", &self.target))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if !self.published {
            // What stays behind because this fails goes with `tidy`.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether the disk of a folder that is there has room left for the store, which must go on when artifacts cannot:
/// [`Error::Full`] below [`limits::ARTIFACT_ROOM_BYTES_MIN`].
pub fn room(folder: &Path) -> Result<(), Error> {
    let at = rustix::fs::statvfs(folder).map_err(|error| failed("write an", folder)(error.into()))?;
    let free = at.f_bavail.saturating_mul(at.f_frsize);
    if free < limits::ARTIFACT_ROOM_BYTES_MIN {
        let why = format!("the disk of `{}` has {} MiB left", folder.display(), free / (1024 * 1024));
        return Err(Error::Full { why });
    }
    Ok(())
}

struct FileSource {
    file: File,
    path: PathBuf,
}

#[async_trait]
impl Source for FileSource {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let mut piece = bytes::BytesMut::with_capacity(limits::ARTIFACT_READ_BYTES);
        let read = self.file.read_buf(&mut piece).await.map_err(failed("read an", &self.path))?;
        Ok((read > 0).then(|| piece.freeze()))
    }
}
