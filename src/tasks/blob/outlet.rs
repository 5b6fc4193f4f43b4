//! Bytes on their way into a place, counted and hashed.

use std::io::{self, Write};

use aws_lc_rs::digest::{self, Context};
use bytes::Bytes;

use super::{Error, Label, SHA256, Upload};
use crate::artifacts;
use crate::domain::failure::{Failure, Fault};
use crate::tasks::table::aside::Aside;

/// A file being written.
pub(in crate::tasks) struct Outlet {
    upload: Box<dyn Upload>,
    hash: Context,
    bytes: u64,
}

impl Outlet {
    pub(in crate::tasks) fn new(upload: Box<dyn Upload>) -> Self {
        Self { upload, hash: Context::new(&digest::SHA256), bytes: 0 }
    }

    pub(in crate::tasks) async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.hash.update(&piece);
        self.bytes += piece.len() as u64;
        self.upload.write(piece).await
    }

    /// Makes it durable and there: its size and SHA-256, and whether it was written, as [`Upload::publish`] says.
    pub(in crate::tasks) async fn publish(self, mut label: Label, replace: bool) -> Result<(u64, String, bool), Error> {
        let sha256 = data_encoding::HEXLOWER.encode(self.hash.finish().as_ref());
        label.metadata.insert(SHA256.to_owned(), sha256.clone());
        let written = self.upload.publish(&label, replace).await?;
        Ok((self.bytes, sha256, written))
    }
}

/// The same as a plain writer, for a thread of its own.
pub(in crate::tasks) struct Blocking {
    aside: Aside,
    outlet: Outlet,
}

impl Blocking {
    pub(in crate::tasks) fn new(aside: &Aside, outlet: Outlet) -> Self {
        Self { aside: aside.clone(), outlet }
    }

    pub(in crate::tasks) fn into_outlet(self) -> Outlet {
        self.outlet
    }
}

impl Write for Blocking {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.aside.is_over() {
            return Err(io::Error::other(Error::Over));
        }
        let Self { aside, outlet } = self;
        aside.wait(outlet.write(Bytes::copy_from_slice(buf))).map_err(io::Error::other)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The failure behind an error of a [`Blocking`], or of an artifact that is read into it.
pub(in crate::tasks) fn write_failure(error: &io::Error) -> Failure {
    let inner = error.get_ref();
    if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<Error>()) {
        return error.failure();
    }
    if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<artifacts::Error>()) {
        return error.failure();
    }
    Failure::new("blob.content", Fault::Config, format!("the file could not be written: {error}"))
}
