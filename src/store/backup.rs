//! A backup file: gzip over lines of JSON. The first says what it is, each further one is a piece, the last counts them,
//! so that a file that was cut off is known as such. It is the same for every backend.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::transfer::Piece;
use crate::clock::Timestamp;

/// The form of the file; a newer one is refused.
const FORMAT: u32 = 1;

/// Why a backup was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error("cannot {doing} `{}`: {cause}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    /// It is not what it should be.
    #[error("`{}` is no backup that can be read, at line {line}: {why}", path.display())]
    Content { path: PathBuf, line: u64, why: String },
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// The form of the file.
    clawhook_backup: u32,
    /// Runs in it, for progress.
    runs: u64,
    at: Timestamp,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
struct End {
    pieces: u64,
}

/// A backup that is being written. The file has its name only once it is whole.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    temporary: PathBuf,
    lines: GzEncoder<BufWriter<File>>,
    pieces: u64,
}

impl Writer {
    /// Begins a file that only its owner can read; one that is there is not overwritten.
    pub fn create(path: &Path, runs: u64, at: Timestamp) -> Result<Self, Error> {
        if path.exists() {
            let cause =
                std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it is there already; choose another name");
            return Err(Error::Io { doing: "write", path: path.to_owned(), cause });
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let temporary = path.with_file_name(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&temporary).map_err(|cause| io("write", &temporary, cause))?;
        let lines = GzEncoder::new(BufWriter::new(file), Compression::fast());
        let mut writer = Self { path: path.to_owned(), temporary, lines, pieces: 0 };
        writer.line(&json(&Head { clawhook_backup: FORMAT, runs, at })?)?;
        Ok(writer)
    }

    /// Adds a piece.
    pub fn add(&mut self, piece: &Piece) -> Result<(), Error> {
        let line = piece.to_line().map_err(|error| io("write", &self.path, error.into()))?;
        self.pieces += 1;
        self.line(&line)
    }

    /// Ends the file, makes it durable and gives it its name. Says how many pieces are in it.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.line(&json(&End { pieces: self.pieces })?)?;
        let failed = |cause| io("write", &self.path, cause);
        let file = self.lines.finish().and_then(|buffer| buffer.into_inner().map_err(Into::into)).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&self.temporary, &self.path).map_err(failed)?;
        Ok(self.pieces)
    }

    fn line(&mut self, text: &str) -> Result<(), Error> {
        let written = self.lines.write_all(text.as_bytes()).and_then(|()| self.lines.write_all(b"\n"));
        written.map_err(|cause| io("write", &self.path, cause))
    }
}

/// A backup that is being read.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    lines: BufReader<MultiGzDecoder<BufReader<File>>>,
    line: u64,
    pieces: u64,
    /// Runs in it.
    pub runs: u64,
}

impl Reader {
    /// Opens a file and reads what it is.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|cause| io("read", path, cause))?;
        let lines = BufReader::new(MultiGzDecoder::new(BufReader::new(file)));
        let mut reader = Self { path: path.to_owned(), lines, line: 0, pieces: 0, runs: 0 };
        let first = reader.next_line()?.unwrap_or_default();
        let head: Head =
            serde_json::from_str(&first).map_err(|_| reader.wrong("it was not written by `clawhook store backup`"))?;
        if head.clawhook_backup > FORMAT {
            return Err(reader.wrong("it was written by a newer Clawhook; install that version"));
        }
        reader.runs = head.runs;
        Ok(reader)
    }

    /// The next piece; none after the last. A file without its end is an error.
    pub fn piece(&mut self) -> Result<Option<Piece>, Error> {
        let Some(line) = self.next_line()? else {
            return Err(self.wrong("its end is missing: the file was cut off"));
        };
        if let Ok(End { pieces }) = serde_json::from_str(&line) {
            let why = format!("{} pieces were expected and {} are there", pieces, self.pieces);
            return if pieces == self.pieces { Ok(None) } else { Err(self.wrong(&why)) };
        }
        self.pieces += 1;
        Piece::from_line(&line).map(Some).map_err(|why| self.wrong(&why))
    }

    fn next_line(&mut self) -> Result<Option<String>, Error> {
        self.line += 1;
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(line.trim_end().to_owned())),
            Err(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(cause) => Err(self.wrong(&cause.to_string())),
        }
    }

    fn wrong(&self, why: &str) -> Error {
        Error::Content { path: self.path.clone(), line: self.line, why: why.to_owned() }
    }
}

fn io(doing: &'static str, path: &Path, cause: std::io::Error) -> Error {
    Error::Io { doing, path: path.to_owned(), cause }
}

fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| io("write", Path::new("-"), error.into()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn written(path: &Path, pieces: u64) {
        let mut writer = Writer::create(path, 0, Timestamp::from_millis(1)).unwrap();
        for number in 0..pieces {
            writer.add(&Piece::Mark { name: number.to_string(), value: "x".into() }).unwrap();
        }
        assert_eq!(writer.finish().unwrap(), pieces);
    }

    #[test]
    fn what_was_written_is_read_back_and_what_was_cut_off_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl.gz");
        written(&path, 1000);
        let mut reader = Reader::open(&path).unwrap();
        let mut pieces = 0;
        while reader.piece().unwrap().is_some() {
            pieces += 1;
        }
        assert_eq!(pieces, 1000);
        assert!(Writer::create(&path, 0, Timestamp::from_millis(1)).unwrap_err().to_string().contains("there already"));

        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        let end = loop {
            match reader.piece() {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        assert!(end.is_err(), "{end:?}");
        std::fs::write(&path, b"no gzip").unwrap();
        assert!(Reader::open(&path).is_err());
    }
}
