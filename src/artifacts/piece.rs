//! Writing and reading in pieces, counted and hashed on the way.

use aws_lc_rs::digest::{self, Context};
use bytes::{Bytes, BytesMut};

use super::{ArtifactId, Error, Handle, Label, Sink, Source};
use crate::limits;

/// An artifact being written: holds at most one piece in memory.
pub struct Writer {
    sink: Box<dyn Sink>,
    id: ArtifactId,
    pending: BytesMut,
    hash: Context,
    bytes: u64,
    bytes_max: u64,
}

impl Writer {
    pub(super) fn new(sink: Box<dyn Sink>, id: ArtifactId, bytes_max: u64) -> Self {
        let hash = Context::new(&digest::SHA256);
        Self { sink, id, pending: BytesMut::new(), hash, bytes: 0, bytes_max }
    }

    /// Adds bytes.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.bytes_max {
            return Err(Error::TooLarge { bytes_max: self.bytes_max });
        }
        self.hash.update(bytes);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(limits::ARTIFACT_PIECE_BYTES - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == limits::ARTIFACT_PIECE_BYTES {
                self.sink.write(self.pending.split().freeze()).await?;
            }
        }
        Ok(())
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it durable and there.
    pub async fn publish(mut self, label: Label) -> Result<Handle, Error> {
        if !self.pending.is_empty() {
            self.sink.write(self.pending.split().freeze()).await?;
        }
        self.sink.publish().await?;
        let Label { media_type, rows, columns, charset, name } = label;
        let sha256 = data_encoding::HEXLOWER.encode(self.hash.finish().as_ref());
        Ok(Handle { artifact: self.id, media_type, bytes: self.bytes, sha256, rows, columns, charset, name })
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({}, {} bytes)", self.id, self.bytes)
    }
}

/// An artifact being read. Its last bytes are given only when size and hash are those of the handle.
pub struct Reader {
    source: Box<dyn Source>,
    handle: Handle,
    hash: Option<Context>,
    bytes: u64,
}

impl Reader {
    pub(super) fn new(source: Box<dyn Source>, handle: Handle) -> Self {
        Self { source, handle, hash: Some(Context::new(&digest::SHA256)), bytes: 0 }
    }

    /// The next bytes; none at the end. The last ones are given only when all of them are what was written.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let piece = self.source.next().await?;
        let damaged = |why: &str| Error::Damaged { id: self.handle.artifact.clone(), why: why.to_owned() };
        match (&piece, &mut self.hash) {
            (Some(piece), Some(hash)) => {
                self.bytes += piece.len() as u64;
                hash.update(piece);
            }
            (Some(piece), None) if !piece.is_empty() => return Err(damaged("it is longer than what was written")),
            (None, Some(_)) if self.bytes < self.handle.bytes => {
                return Err(damaged("it is shorter than what was written"));
            }
            _ => {}
        }
        if self.bytes > self.handle.bytes {
            return Err(damaged("it is longer than what was written"));
        }
        if self.bytes == self.handle.bytes
            && let Some(hash) = self.hash.take()
            && data_encoding::HEXLOWER.encode(hash.finish().as_ref()) != self.handle.sha256
        {
            return Err(damaged("its bytes are not those that were written"));
        }
        Ok(piece)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({}, {} bytes)", self.handle.artifact, self.bytes)
    }
}
