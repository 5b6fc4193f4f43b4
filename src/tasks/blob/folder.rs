//! A folder of this machine as a place: for development, and for one gateway. Files lie there under their own names;
//! what is said of them, files under way and the key of the links lie beside them in `.clawhook`, where no path leads.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;

use super::{BlobPath, Content, Error, Found, Label, Shelf, Upload};
use crate::artifacts;
use crate::clock::Timestamp;
use crate::limits;

/// What is ours in the folder. Paths have no part that begins with a dot.
const OURS: &str = ".clawhook";
const UNFINISHED: &str = "unfinished";
const ABOUT: &str = "about";
const LINK_KEY: &str = "link-key";

/// A folder.
#[derive(Debug)]
pub(super) struct Folder {
    name: String,
    root: PathBuf,
    door: Arc<OnceLock<String>>,
    /// Held while a file is published, so that two of ours do not meet.
    publishing: Arc<Mutex<()>>,
}

/// What is said of a file, beside it.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    path: String,
    bytes: u64,
    /// The number of the file on its disk: a file that somebody else put there is another one.
    inode: u64,
    content_type: String,
    metadata: BTreeMap<String, String>,
}

impl Folder {
    pub(super) fn new(name: &str, root: PathBuf, door: Arc<OnceLock<String>>) -> Self {
        Self { name: name.to_owned(), root, door, publishing: Arc::default() }
    }

    fn file(&self, path: &BlobPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    async fn found(&self, path: &BlobPath, file: &std::fs::Metadata) -> Found {
        let modified = file.modified().ok().map(|at| Timestamp::from(chrono::DateTime::<chrono::Utc>::from(at)));
        let about = fs::read(about_file(&self.root, path)).await.ok();
        let about = about.and_then(|bytes| serde_json::from_slice::<About>(&bytes).ok());
        let about =
            about.filter(|about| about.path == path.as_str() && about.inode == file.ino() && about.bytes == file.len());
        let label = about.map(|About { content_type, metadata, .. }| Label { content_type, metadata });
        Found { bytes: file.len(), modified, label: label.unwrap_or_default() }
    }

    /// Files that a crash left half-written.
    async fn tidy(&self, now: Timestamp) {
        let Ok(mut files) = fs::read_dir(self.root.join(OURS).join(UNFINISHED)).await else { return };
        while let Ok(Some(file)) = files.next_entry().await {
            // A file that went meanwhile is what is wanted.
            let Ok(written) = file.metadata().await.and_then(|about| about.modified()) else { continue };
            let written = Timestamp::from(chrono::DateTime::<chrono::Utc>::from(written));
            if now.since(written) > limits::PLACE_LEFTOVER_AGE {
                let _ = fs::remove_file(file.path()).await;
            }
        }
    }

    /// The key of the links: made once, kept with the files, so that links outlive the process.
    async fn key(&self) -> io::Result<hmac::Key> {
        let path = self.root.join(OURS).join(LINK_KEY);
        let of = |text: &str| {
            Some(hmac::Key::new(hmac::HMAC_SHA256, &data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?))
        };
        let damaged = || io::Error::other(format!("`{}` holds no key; remove it, and old links end", path.display()));
        match fs::read_to_string(&path).await {
            Ok(text) => return of(&text).ok_or_else(damaged),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let made = data_encoding::HEXLOWER.encode(&rand::random::<[u8; 32]>());
        let under_way = self.root.join(OURS).join(UNFINISHED).join(format!("{:032x}", rand::random::<u128>()));
        let written = async {
            fs::create_dir_all(self.root.join(OURS).join(UNFINISHED)).await?;
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&under_way).await?;
            file.write_all(made.as_bytes()).await?;
            file.sync_all().await?;
            match fs::hard_link(&under_way, &path).await {
                // Another was faster: its key counts.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        };
        let written = written.await;
        let _ = fs::remove_file(&under_way).await;
        written?;
        of(&fs::read_to_string(&path).await?).ok_or_else(damaged)
    }

    /// What a link says, for its signature.
    fn says(&self, path: &BlobPath, until: i64) -> String {
        format!("clawhook link\n{}\n{path}\n{until}", self.name)
    }
}

/// Where it stands what is said of a file.
fn about_file(root: &Path, path: &BlobPath) -> PathBuf {
    let name = data_encoding::HEXLOWER.encode(digest::digest(&digest::SHA256, path.as_str().as_bytes()).as_ref());
    root.join(OURS).join(ABOUT).join(format!("{name}.json"))
}

fn failed(doing: &'static str, path: &BlobPath) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_string();
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full { path, why: error.to_string() },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            let help = "let the user of the gateway write into the folder that `blobs` in clawhook.yaml names";
            Error::Refused { doing, path, why: error.to_string(), help }
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            let help = "a name is a file or a folder: write another path";
            Error::Refused { doing, path, why: error.to_string(), help }
        }
        _ => Error::Failed { doing, path, why: error.to_string() },
    }
}

#[async_trait]
impl Shelf for Folder {
    async fn look(&self, path: &BlobPath) -> Result<Option<Found>, Error> {
        match fs::metadata(self.file(path)).await {
            Ok(file) if file.is_file() => Ok(Some(self.found(path, &file).await)),
            Ok(_) => Err(failed("look for", path)(io::ErrorKind::IsADirectory.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("look for", path)(error)),
        }
    }

    async fn begin(&self, path: &BlobPath, now: Timestamp) -> Result<Box<dyn Upload>, Error> {
        self.tidy(now).await;
        let unfinished = self.root.join(OURS).join(UNFINISHED);
        fs::create_dir_all(&unfinished).await.map_err(failed("write", path))?;
        let under_way = unfinished.join(format!("{:032x}", rand::random::<u128>()));
        let file = File::create_new(&under_way).await.map_err(failed("write", path))?;
        Ok(Box::new(FileUpload {
            file,
            under_way,
            root: self.root.clone(),
            path: path.clone(),
            publishing: Arc::clone(&self.publishing),
            until_look: 0,
        }))
    }

    async fn open(&self, path: &BlobPath) -> Result<Option<(Found, Box<dyn Content>)>, Error> {
        let file = match File::open(self.file(path)).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", path)(error)),
        };
        let about = file.metadata().await.map_err(failed("read", path))?;
        if !about.is_file() {
            return Err(failed("read", path)(io::ErrorKind::IsADirectory.into()));
        }
        let found = self.found(path, &about).await;
        Ok(Some((found, Box::new(FileContent { file, path: path.clone() }))))
    }

    async fn link(&self, path: &BlobPath, _: Timestamp, until: Timestamp) -> Result<String, Error> {
        let Some(door) = self.door.get() else {
            let help = "links to files of a folder lead to the control door of a gateway: run it with `clawhook serve`";
            return Err(Error::NoLink { path: path.to_string(), why: "no door serves this folder".to_owned(), help });
        };
        let (key, until) = (self.key().await.map_err(failed("sign a link to", path))?, until.as_secs());
        let signature = hmac::sign(&key, self.says(path, until).as_bytes());
        let signature = data_encoding::HEXLOWER.encode(signature.as_ref());
        Ok(format!("{door}/v1/blobs/{}?path={}&until={until}&signature={signature}", self.name, path.in_url()))
    }

    async fn signed(&self, path: &BlobPath, until: i64, signature: &str) -> bool {
        let (Ok(signature), Ok(key)) = (data_encoding::HEXLOWER.decode(signature.as_bytes()), self.key().await) else {
            return false;
        };
        // The comparison takes the same time wherever they differ.
        hmac::verify(&key, self.says(path, until).as_bytes(), &signature).is_ok()
    }
}

struct FileUpload {
    file: File,
    under_way: PathBuf,
    root: PathBuf,
    path: BlobPath,
    publishing: Arc<Mutex<()>>,
    /// Bytes that may be written before the next look at the room on the disk.
    until_look: usize,
}

impl FileUpload {
    /// What is said of the file goes first: a crash then leaves words about a file that is not there.
    async fn put(&mut self, label: &Label, replace: bool) -> io::Result<bool> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let written = self.file.metadata().await?;
        let target = self.root.join(self.path.as_str());
        let folder = target.parent().unwrap_or(&self.root).to_owned();
        fs::create_dir_all(&folder).await?;
        let _turn = self.publishing.lock().await;
        if !replace && fs::try_exists(&target).await? {
            return Ok(false);
        }
        let about = About {
            path: self.path.to_string(),
            bytes: written.len(),
            inode: written.ino(),
            content_type: label.content_type.clone(),
            metadata: label.metadata.clone(),
        };
        let about_file = about_file(&self.root, &self.path);
        fs::create_dir_all(about_file.parent().unwrap_or(&self.root)).await?;
        let words = self.under_way.with_extension("json");
        let mut file = File::create(&words).await?;
        file.write_all(&serde_json::to_vec(&about)?).await?;
        file.sync_all().await?;
        fs::rename(&words, &about_file).await?;
        if replace {
            fs::rename(&self.under_way, &target).await?;
        } else {
            // A link is made only where nothing is, and keeps the file's number.
            match fs::hard_link(&self.under_way, &target).await {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                done => done?,
            }
        }
        File::open(&folder).await?.sync_all().await?;
        Ok(true)
    }
}

#[async_trait]
impl Upload for FileUpload {
    async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        if self.until_look < piece.len() {
            let folder = self.under_way.parent().unwrap_or(&self.root);
            artifacts::folder::room(folder)
                .map_err(|error| Error::Full { path: self.path.to_string(), why: error.to_string() })?;
            self.until_look = limits::ARTIFACT_ROOM_LOOK_BYTES.max(piece.len());
        }
        self.until_look -= piece.len();
        self.file.write_all(&piece).await.map_err(failed("write", &self.path))
    }

    async fn publish(mut self: Box<Self>, label: &Label, replace: bool) -> Result<bool, Error> {
        let path = self.path.clone();
        self.put(label, replace).await.map_err(failed("write", &path))
    }
}

impl Drop for FileUpload {
    fn drop(&mut self) {
        // Its own name, if it got one, stays. What stays behind because this fails goes with `tidy`.
        let _ = std::fs::remove_file(&self.under_way);
        let _ = std::fs::remove_file(self.under_way.with_extension("json"));
    }
}

struct FileContent {
    file: File,
    path: BlobPath,
}

#[async_trait]
impl Content for FileContent {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let mut piece = bytes::BytesMut::with_capacity(limits::ARTIFACT_READ_BYTES);
        let read = self.file.read_buf(&mut piece).await.map_err(failed("read", &self.path))?;
        Ok((read > 0).then(|| piece.freeze()))
    }
}
