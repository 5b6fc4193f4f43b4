//! Retention: old runs go for good, payloads go from what stays. Each step leaves a log that reads right: what is older
//! goes first, so that a crash half-way never brings back what had ended.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::super::{Error, Prune, Pruned};
use super::accept::{key_of_blob, without_run};
use super::container::{Only, Trouble};
use super::logs::marker_metadata;
use super::rows::{self, Place, Row};
use super::small::{self, Key};
use super::{Core, frames, names};
use crate::clock::Timestamp;
use crate::domain::event::Entry;
use crate::id::RunId;
use crate::limits;

pub(super) const DOING: &str = "pruning";

/// What became of one run.
enum Done {
    Deleted,
    Stripped,
    /// Somebody moved it on meanwhile.
    Left,
}

impl Core {
    /// Lets old runs, payloads and keys go, one bounded batch.
    pub(super) async fn prune(&self, prune: Prune) -> Result<Pruned, Error> {
        let limit = prune.batch_max;
        let mut old = self.index.call(DOING, move |index| rows::ended(index, &prune, limit + 1)).await?;
        let mut more = old.len() > limit;
        old.truncate(limit);
        let work = stream::iter(old).map(|(row, for_good)| async move {
            if for_good { self.delete(row).await } else { self.strip(row).await }
        });
        let done: Vec<_> = work.buffer_unordered(limits::BLOB_UPKEEP_CALLS_MAX).try_collect().await?;
        let count = |wanted: fn(&Done) -> bool| done.iter().filter(|done| wanted(done)).count();
        let keys_forgotten = self.forget_keys(prune.now, limit, &mut more).await?;
        self.prune_journals().await?;
        Ok(Pruned {
            runs_deleted: count(|done| matches!(done, Done::Deleted)),
            runs_stripped: count(|done| matches!(done, Done::Stripped)),
            keys_forgotten,
            more,
        })
    }

    async fn delete(&self, row: Row) -> Result<Done, Error> {
        let run = row.head.id;
        if !row.stripped {
            self.take_from_delivery(run, row.key.as_ref()).await?;
        }
        // A run that was rewritten may have been resumed by another gateway since.
        let resumed =
            row.place == Place::Cold && self.container.head(DOING, &names::log(run)).await.map_err(failed)?.is_some();
        if resumed {
            return self.learn_again(run).await;
        }
        self.container.delete(DOING, &names::cold(run), None).await.map_err(failed)?;
        if row.place == Place::Log {
            match self.container.delete(DOING, &names::log(run), Some(&row.etag)).await {
                Ok(()) => {}
                Err(Trouble::Unmet) => return self.learn_again(run).await,
                Err(trouble) => return Err(failed(trouble)),
            }
        }
        self.index.call(DOING, move |index| rows::remove(index, run)).await?;
        Ok(Done::Deleted)
    }

    async fn strip(&self, row: Row) -> Result<Done, Error> {
        let run = row.head.id;
        let Some(read) = self.read_with(run, row.key.clone()).await? else {
            // Another gateway let it go.
            self.index.call(DOING, move |index| rows::remove(index, run)).await?;
            return Ok(Done::Left);
        };
        let known = read.row(row.marker.clone())?;
        if known.is_open() || known.next != row.next || known.stripped {
            return self.learn_again(run).await;
        }
        // First, so that what is stripped is stripped everywhere.
        self.take_from_delivery(run, read.key.as_ref()).await?;
        let entries: Vec<Entry> = read.entries.iter().cloned().map(Entry::without_payloads).collect();
        let bytes = frames::of_entries(run, read.key.as_ref(), &entries);
        let bytes = bytes.map_err(|why| Error::Failed { doing: DOING, why })?;
        let metadata = marker_metadata(read.key.as_ref());
        let put = self.container.put(DOING, &names::cold(run), bytes.into(), Only::Always, metadata).await;
        let etag = put.map_err(failed)?;
        if read.place == Place::Log {
            match self.container.delete(DOING, &names::log(run), Some(&read.etag)).await {
                Ok(()) => {}
                Err(Trouble::Unmet) => return self.learn_again(run).await,
                Err(trouble) => return Err(failed(trouble)),
            }
        }
        let row =
            Row { place: Place::Cold, length: 0, etag, blocks: 0, stripped: true, key: read.key, log: None, ..known };
        self.index.call(DOING, move |index| rows::put(index, &row, None)).await?;
        Ok(Done::Stripped)
    }

    /// Takes the first events of a run out of its delivery, which goes on remembering the key.
    async fn take_from_delivery(&self, run: RunId, delivery: Option<&String>) -> Result<(), Error> {
        let Some(name) = delivery else { return Ok(()) };
        for _ in 0..limits::BLOB_CONFLICTS_MAX {
            let Some(blob) = self.container.get(DOING, name, 0).await.map_err(failed)? else { return Ok(()) };
            let rest = without_run(&blob, run).map_err(|why| Error::Failed { doing: DOING, why })?;
            let Some(rest) = rest else { return Ok(()) };
            let key = key_of_blob(name, &blob);
            let only = Only::Same(blob.etag);
            match self.container.put(DOING, name, rest.into(), only, blob.metadata).await {
                Ok(etag) => {
                    let key = Key { etag, ..key };
                    return self.index.call(DOING, move |index| small::put_key(index, &key)).await;
                }
                Err(Trouble::Unmet) => {}
                Err(trouble) => return Err(failed(trouble)),
            }
        }
        Err(Trouble::Unmet.into_error(DOING))
    }

    async fn learn_again(&self, run: RunId) -> Result<Done, Error> {
        if let Some(read) = self.read(run).await? {
            let (row, now) = (read.row(None)?, self.clock.now());
            self.index.call(DOING, move |index| rows::put(index, &row, Some(now))).await?;
        }
        Ok(Done::Left)
    }

    async fn forget_keys(&self, now: Timestamp, limit: usize, more: &mut bool) -> Result<usize, Error> {
        let mut old = self.index.call(DOING, move |index| small::expired_keys(index, now, limit + 1)).await?;
        *more |= old.len() > limit;
        old.truncate(limit);
        let work = stream::iter(old).map(|key| self.forget_key(key, now));
        let done: Vec<bool> = work.buffer_unordered(limits::BLOB_UPKEEP_CALLS_MAX).try_collect().await?;
        Ok(done.into_iter().filter(|forgotten| *forgotten).count())
    }

    async fn forget_key(&self, key: Key, now: Timestamp) -> Result<bool, Error> {
        let runs = key.runs.clone();
        let begun = self.index.call(DOING, move |index| rows::all_begun(index, &runs)).await?;
        if !begun && key.name.starts_with(names::DELIVERIES) {
            self.move_out_of(&key.name).await?;
        }
        let etag = Some(key.etag.as_str()).filter(|etag| !etag.is_empty());
        let gone = match self.container.delete(DOING, &key.name, etag).await {
            Ok(()) => true,
            // It was rewritten, or replaced by a newer delivery: what is there now decides.
            Err(Trouble::Unmet) => {
                let found = self.container.head(DOING, &key.name).await.map_err(failed)?;
                let Some(found) = found else { return Ok(true) };
                let found = key_of_blob(&key.name, &found);
                let again = found.expires <= now;
                self.index.call(DOING, move |index| small::put_key(index, &found)).await?;
                if again {
                    return Ok(false);
                }
                false
            }
            Err(trouble) => return Err(failed(trouble)),
        };
        if gone {
            let name = key.name;
            self.index.call(DOING, move |index| small::forget_key(index, &name)).await?;
        }
        Ok(gone)
    }
}

fn failed(trouble: Trouble) -> Error {
    trouble.into_error(DOING)
}
