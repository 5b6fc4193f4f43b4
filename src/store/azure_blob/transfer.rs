//! Everything that a container holds, read once, and pieces of another store, taken. What is there already stays as it is.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::super::transfer::{DUMPING, Dump, LOADING, Piece};
use super::super::{Error, JournalQuery, Parts};
use super::container::{Item, Only, Trouble};
use super::logs::{Committed, marker_metadata};
use super::{AzureBlob, Core, Options, frames, names, rows, small};
use crate::clock::Timestamp;
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::Entry;
use crate::domain::journal::{JournalEntry, JournalKind};
use crate::domain::run::Run;
use crate::id::{Revision, RunId, Seq, WorkflowName};
use crate::limits;

/// Begins to read the container, by an index of its own: that of a gateway that works is its own.
pub(super) async fn dump(parts: Parts) -> Result<Dump, Error> {
    let mut parts = parts;
    let folder = Temporary(parts.settings.path.join(format!("dump-{:08x}", rand::random::<u32>())));
    parts.settings.path.clone_from(&folder.0);
    let store = AzureBlob::open(parts, Options { by_hand: true, ..Options::default() }).await?;
    store.look(true).await?;
    let core = Arc::clone(&store.core);
    let ids = core
        .index
        .call(DUMPING, |index| Ok(rows::tags(index, MIN, MAX)?.into_iter().map(|(id, ..)| id).collect::<Vec<_>>()));
    let ids = ids.await?;
    let count = ids.len() as u64;
    let first = small_pieces(&core).await?;
    let keys = keys(&core).await?;
    let reading = Arc::clone(&core);
    let runs = stream::iter(ids)
        .map(move |id| {
            let core = Arc::clone(&reading);
            async move { run_piece(&core, id).await }
        })
        .buffered(limits::BLOB_UPKEEP_CALLS_MAX)
        .try_filter_map(|piece| async { Ok(piece) });
    let pieces = stream::iter(first.into_iter().map(Ok)).chain(runs).chain(stream::iter(keys.into_iter().map(Ok)));
    // The index is there for as long as anybody reads.
    let pieces = stream::unfold((pieces.boxed(), (store, folder)), |(mut pieces, held)| async {
        pieces.next().await.map(|piece| (piece, (pieces, held)))
    });
    Ok(Dump { runs: count, pieces: pieces.boxed() })
}

/// A folder that goes with this.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What stays is an index that nobody opens.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const MIN: RunId = RunId::from_u64(0);
const MAX: RunId = RunId::from_u64(u64::MAX);

async fn run_piece(core: &Core, id: RunId) -> Result<Option<Piece>, Error> {
    // It may be gone since it was listed.
    let Some(read) = core.read(id).await? else { return Ok(None) };
    let head = read.row(None)?.head;
    Ok(Some(Piece::Run { id, log: read.entries, head: Box::new(head) }))
}

async fn small_pieces(core: &Core) -> Result<Vec<Piece>, Error> {
    let mut pieces = Vec::new();
    for name in listed(core, "documents/").await? {
        let revision = Revision::from(name.as_str());
        if let Some(text) = core.document(&revision).await? {
            pieces.push(Piece::Document { revision, text });
        }
    }
    pieces.extend(core.marks("").await?.into_iter().map(|(name, value)| Piece::Mark { name, value }));
    for name in listed(core, "states/").await? {
        let Ok(workflow) = WorkflowName::new(name.trim_end_matches(".json")) else { continue };
        let values = core.state(&workflow).await?;
        pieces.push(Piece::State { workflow, values });
    }
    for kind in JournalKind::ALL {
        let rows = journal(core, kind).await?;
        pieces.extend(rows.into_iter().rev().map(Piece::Journal));
    }
    Ok(pieces)
}

async fn journal(core: &Core, kind: JournalKind) -> Result<Vec<crate::domain::journal::JournalRow>, Error> {
    let all = JournalQuery::all(kind, usize::MAX);
    core.index.show(DUMPING, move |index| small::journal(index, &all)).await
}

/// What is behind a prefix, by its names without it.
async fn listed(core: &Core, prefix: &'static str) -> Result<Vec<String>, Error> {
    let items = core.container.list(DUMPING, prefix, false).await.map_err(|trouble| trouble.into_error(DUMPING))?;
    Ok(items.into_iter().filter_map(|item| Some(item.name.strip_prefix(prefix)?.to_owned())).collect())
}

/// Deliveries and guards, each with the runs that it stands for.
async fn keys(core: &Core) -> Result<Vec<Piece>, Error> {
    let list =
        async |prefix| core.container.list(DUMPING, prefix, true).await.map_err(|trouble| trouble.into_error(DUMPING));
    let (deliveries, guards): (Vec<Item>, Vec<Item>) = (list(names::DELIVERIES).await?, list(names::GUARDS).await?);
    let known: HashMap<_, _> = deliveries
        .iter()
        .map(|item| (item.name.clone(), small::key_of(&item.name, &item.etag, &item.metadata)))
        .collect();
    let mut pieces = Vec::new();
    for (item, prefix) in
        deliveries.iter().map(|item| (item, names::DELIVERIES)).chain(guards.iter().map(|item| (item, names::GUARDS)))
    {
        let own = small::key_of(&item.name, &item.etag, &item.metadata);
        let of = item.metadata.get(names::KEY).and_then(|delivery| known.get(delivery));
        let runs = of.map_or(own.runs, |of| of.runs.clone());
        let hash = item.name.strip_prefix(prefix).and_then(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes()).ok());
        if let Some(hash) = hash.and_then(|hash| hash.try_into().ok())
            && !runs.is_empty()
        {
            pieces.push(Piece::Key { key: DeliveryKey::from_bytes(hash), runs, expires: own.expires });
        }
    }
    Ok(pieces)
}

impl Core {
    /// Takes pieces, many at a time.
    pub(super) async fn load(&self, pieces: Vec<Piece>) -> Result<(), Error> {
        let mut entries: Vec<JournalEntry> = Vec::new();
        let mut others = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Journal(row) => entries.push(row.entry),
                other => others.push(other),
            }
        }
        self.load_journals(entries).await?;
        stream::iter(others)
            .map(|piece| self.load_one(piece))
            .buffered(limits::BLOB_UPKEEP_CALLS_MAX)
            .try_collect::<()>()
            .await
    }

    /// Entries get numbers of this store; those that are there already are known by what they say.
    async fn load_journals(&self, entries: Vec<JournalEntry>) -> Result<(), Error> {
        let mut fresh = Vec::new();
        for kind in JournalKind::ALL {
            let own: Vec<_> = entries.iter().filter(|entry| entry.kind == kind).collect();
            if own.is_empty() {
                continue;
            }
            let known = journal(self, kind).await?;
            fresh.extend(own.into_iter().filter(|entry| known.iter().all(|row| row.entry != **entry)).cloned());
        }
        self.journal_append(fresh).await
    }

    async fn load_one(&self, piece: Piece) -> Result<(), Error> {
        match piece {
            Piece::Document { revision, text } => self.put_document(&revision, &text).await,
            Piece::Mark { name, value } => self.set_mark(&name, Some(&value)).await,
            Piece::State { workflow, values } => {
                let beginning = Timestamp::from_millis(0);
                self.pay_state(&Committed { run: MIN, seq: Seq(0), at: beginning, workflow, changes: values }).await
            }
            Piece::Journal(_) => Ok(()),
            Piece::Run { id, log, .. } => self.load_run(id, &log).await,
            Piece::Key { key, runs, expires } => self.load_key(key, &runs, expires).await,
        }
    }

    async fn load_run(&self, id: RunId, log: &[Entry]) -> Result<(), Error> {
        let failed = |trouble: Trouble| trouble.into_error(LOADING);
        let broken = |why: String| Error::Failed { doing: LOADING, why };
        let run = Run::fold(id, log.iter().cloned()).map_err(|error| broken(error.to_string()))?;
        let marker = (!run.head().state.is_ended()).then(|| names::marker(id, Seq(0)));
        if let Some(marker) = &marker {
            let put = self.container.put(LOADING, marker, Bytes::new(), Only::New, marker_metadata(None)).await;
            match put {
                Ok(_) | Err(Trouble::Exists) => {}
                Err(trouble) => return Err(failed(trouble)),
            }
        }
        let bytes: Bytes = frames::of_entries(id, None, log).map_err(broken)?.into();
        let stripped = log.iter().all(|entry| *entry == entry.clone().without_payloads());
        // What was stripped stands where stripped logs stand, so that it is not stripped again.
        let put = if stripped && marker.is_none() {
            self.container.put(LOADING, &names::cold(id), bytes, Only::New, marker_metadata(None)).await.map(drop)
        } else {
            self.begin_once(id, bytes).await
        };
        match put {
            Ok(()) | Err(Trouble::Exists) => {}
            Err(trouble) => return Err(failed(trouble)),
        }
        self.ids.skip_to(id);
        let read = self.read_with(id, None).await?.ok_or(Error::NoRun(id))?;
        let row = read.row(marker)?;
        self.index.call(LOADING, move |index| rows::put(index, &row, None)).await
    }

    /// A key may be that of a delivery or of a body, and a piece does not tell: it is remembered as both.
    async fn load_key(&self, key: DeliveryKey, runs: &[RunId], expires: Timestamp) -> Result<(), Error> {
        let (delivery, guard) = (names::delivery(key), names::guard(key));
        let until = (names::EXPIRES.to_owned(), expires.as_millis().to_string());
        let of_delivery = HashMap::from([until.clone(), (names::RUNS.to_owned(), small::join_ids(runs))]);
        let of_guard = HashMap::from([until, (names::KEY.to_owned(), delivery.clone())]);
        for (name, metadata) in [(delivery, of_delivery), (guard, of_guard)] {
            match self.container.put(LOADING, &name, Bytes::new(), Only::New, metadata).await {
                Ok(_) | Err(Trouble::Exists) => {}
                Err(trouble) => return Err(trouble.into_error(LOADING)),
            }
        }
        Ok(())
    }
}
