//! What other gateways did, and after a lost disk what we did. The list of markers says what is open: it is read every
//! [`limits::BLOB_POLL`], and only what is new in it costs a read. Logs of the last minutes are listed less often, to show
//! what others began and finished in between; everything is listed at start, and once a day.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::super::Error;
use super::container::{Item, Trouble};
use super::logs::Read;
use super::rows::{self, Place};
use super::{Core, names, small};
use crate::clock::Timestamp;
use crate::id::{RunId, Seq};
use crate::limits;

const LOOKING: &str = "looking for what other gateways did";

/// A run as the list of markers shows it.
struct Marked {
    run: RunId,
    /// The newest of its markers: the event since which it is open, and what the list says of the blob.
    since: Seq,
    key: Option<String>,
    modified: Option<Timestamp>,
    names: Vec<String>,
}

impl Core {
    /// Looks for what is open and recent, again and again, until it is stopped.
    pub(super) async fn keep_up(&self, stop: CancellationToken) {
        let mut looks: u32 = 0;
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => return,
                done = self.keep_up_once(looks) => done,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "looking for what other gateways did failed; trying again");
            }
            looks = looks.wrapping_add(1);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(limits::BLOB_POLL) => {}
            }
        }
    }

    async fn keep_up_once(&self, looks: u32) -> Result<(), Error> {
        self.pay_states().await?;
        self.send_refusals().await?;
        self.look_at_open(false).await?;
        if looks.is_multiple_of(limits::BLOB_POLLS_PER_HISTORY) {
            self.look_at_recent().await?;
            self.read_journals().await?;
        }
        Ok(())
    }

    /// Looks at everything, once at start and once a day, beside the rest: after a lost disk it may take long.
    pub(super) async fn keep_everything(&self, stop: CancellationToken) {
        loop {
            let done = tokio::select! {
                () = stop.cancelled() => return,
                done = self.look_at_everything() => done,
            };
            let pause = match done {
                Ok(()) => limits::BLOB_EVERYTHING_POLL,
                Err(error) => {
                    tracing::warn!(%error, "reading what ever was in Blob Storage stopped; trying again");
                    limits::BLOB_POLL
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Reads the markers, and the runs that are new there or gone from there. At start nothing is left to others.
    pub(super) async fn look_at_open(&self, start: bool) -> Result<(), Error> {
        let before: HashSet<_> = self.index.call(LOOKING, rows::open_ids).await?.into_iter().collect();
        let items = self.container.list(LOOKING, names::OPEN, true).await.map_err(failed)?;
        let marked = marked(items);
        let listed: HashSet<_> = marked.iter().map(|marked| marked.run).collect();
        let new: Vec<_> = marked.into_iter().filter(|marked| !before.contains(&marked.run)).collect();
        let looks = stream::iter(new).map(|marked| self.look_at_marked(marked, start));
        looks.buffer_unordered(limits::BLOB_UPKEEP_CALLS_MAX).try_collect::<Vec<()>>().await?;
        let gone = before.into_iter().filter(|run| !listed.contains(run));
        let looks = stream::iter(gone).map(|run| self.look_at_gone(run));
        looks.buffer_unordered(limits::BLOB_UPKEEP_CALLS_MAX).try_collect::<Vec<()>>().await.map(drop)
    }

    async fn look_at_marked(&self, marked: Marked, start: bool) -> Result<(), Error> {
        let run = marked.run;
        let known = self.index.call(LOOKING, move |index| rows::get(index, run)).await?;
        if known.is_some_and(|row| row.is_open()) {
            return Ok(());
        }
        let Some(read) = self.read_with(run, marked.key.clone()).await? else {
            return self.unmark_if_old(&marked).await;
        };
        let Some(row) = self.index_read(&read, Some(names::marker(run, marked.since)), start).await? else {
            return Ok(());
        };
        // A resume that is under way has its marker before its event.
        if !row.is_open() && row.next > marked.since {
            self.pay_states_of(&read).await?;
            self.unmark(&marked).await?;
        } else if !row.is_open() {
            self.unmark_if_old(&marked).await?;
        }
        Ok(())
    }

    /// A run of the index that no marker shows: somebody ended it, or its marker was lost.
    async fn look_at_gone(&self, run: RunId) -> Result<(), Error> {
        let known = self.index.call(LOOKING, move |index| rows::get(index, run)).await?;
        let Some(known) = known.filter(rows::Row::is_open) else { return Ok(()) };
        let Some(read) = self.read_with(run, known.key.clone()).await? else {
            return self.index.call(LOOKING, move |index| rows::remove(index, run)).await;
        };
        let Some(row) = self.index_read(&read, known.marker.clone(), false).await? else { return Ok(()) };
        if row.is_open() {
            let name = row.marker.unwrap_or_else(|| names::marker(run, Seq(0)));
            let metadata = super::logs::marker_metadata(row.key.as_ref());
            let only = super::container::Only::Always;
            self.container.put(LOOKING, &name, bytes::Bytes::new(), only, metadata).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Reads the logs of runs that were accepted in the last minutes and changed since.
    async fn look_at_recent(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let earlier = now.minus(limits::BLOB_POLL * (limits::BLOB_POLLS_PER_HISTORY + 2));
        let mut prefixes = vec![names::logs_around(earlier), names::logs_around(now)];
        prefixes.dedup();
        for prefix in prefixes {
            let items = self.container.list(LOOKING, &prefix, false).await.map_err(failed)?;
            self.look_at_logs(&items, Place::Log).await?;
        }
        Ok(())
    }

    /// Reads whatever the index does not know: all of it after a lost disk.
    pub(super) async fn look_at_everything(&self) -> Result<(), Error> {
        for (prefix, place) in [(names::LOGS, Place::Log), (names::COLD, Place::Cold)] {
            let (mut from, mut marker) = (MIN, None);
            loop {
                let (items, next) = self.container.list_page(LOOKING, prefix, false, marker).await.map_err(failed)?;
                let last = items.iter().filter_map(run_of).max().unwrap_or(from);
                self.look_at_logs(&items, place).await?;
                self.look_for_lost(&items, place, from, if next.is_some() { last } else { MAX }).await?;
                if next.is_none() {
                    break;
                }
                (from, marker) = (last, next);
            }
        }
        self.look_at_keys().await?;
        self.read_journals().await
    }

    /// Runs that the index has in this place and the list has not: another gateway let them go, or moved them.
    async fn look_for_lost(&self, items: &[Item], place: Place, from: RunId, to: RunId) -> Result<(), Error> {
        let listed: HashSet<_> = items.iter().filter_map(run_of).collect();
        let known = self.index.call(LOOKING, move |index| rows::tags(index, from, to)).await?;
        let lost = known.into_iter().filter(|(run, at, _)| *at == place && *run != from && !listed.contains(run));
        for (run, ..) in lost.collect::<Vec<_>>() {
            match self.read(run).await? {
                Some(read) => drop(self.index_read(&read, None, false).await?),
                None => self.index.call(LOOKING, move |index| rows::remove(index, run)).await?,
            }
        }
        Ok(())
    }

    async fn look_at_logs(&self, items: &[Item], place: Place) -> Result<(), Error> {
        let runs: Vec<_> = items.iter().filter(|item| item.length > 0).filter_map(run_of).collect();
        let (Some(first), Some(last)) = (runs.iter().min().copied(), runs.iter().max().copied()) else { return Ok(()) };
        let known = self.index.call(LOOKING, move |index| rows::tags(index, first, last)).await?;
        let known: HashMap<_, _> = known.into_iter().map(|(run, place, etag)| (run, (place, etag))).collect();
        let mut changed = Vec::new();
        for item in items.iter().filter(|item| item.length > 0) {
            let Some(run) = run_of(item) else { continue };
            if known.get(&run).is_none_or(|(at, etag)| *at != place || !same_tag(etag, &item.etag)) {
                changed.push(run);
            }
        }
        let looks = stream::iter(changed).map(|run| async move {
            let Some(read) = self.read_with(run, None).await? else { return Ok(()) };
            self.index_read(&read, None, false).await.map(drop)
        });
        looks.buffer_unordered(limits::BLOB_UPKEEP_CALLS_MAX).try_collect::<Vec<()>>().await.map(drop)
    }

    /// Learns which keys there are, so that whichever gateway is left lets them go.
    async fn look_at_keys(&self) -> Result<(), Error> {
        let mut rest = vec![(names::DELIVERIES, None), (names::GUARDS, None)];
        while let Some((prefix, marker)) = rest.pop() {
            let (items, next) = self.container.list_page(LOOKING, prefix, true, marker).await.map_err(failed)?;
            if next.is_some() {
                rest.push((prefix, next));
            }
            let keys: Vec<_> = items.iter().map(|item| small::key_of(&item.name, &item.etag, &item.metadata)).collect();
            let note = move |index: &rusqlite::Connection| {
                keys.iter().try_for_each(|key| match small::key(index, &key.name)? {
                    // A guard's own runs are known here, and not by its blob.
                    Some(known) if same_tag(&known.etag, &key.etag) => Ok(()),
                    _ => small::put_key(index, key),
                })
            };
            self.index.call(LOOKING, note).await?;
        }
        Ok(())
    }

    /// Puts what was read into the index. A log that cannot be folded is told and left as it is.
    async fn index_read(&self, read: &Read, marker: Option<String>, start: bool) -> Result<Option<rows::Row>, Error> {
        let row = match read.row(marker) {
            Ok(row) => row,
            Err(error) => {
                tracing::error!(run.id = %read.run, %error, "run {} cannot be read; it stays as it is", read.run);
                return Ok(None);
            }
        };
        let theirs = (!start).then(|| self.clock.now());
        let kept = row.clone();
        self.index.call(LOOKING, move |index| rows::put(index, &kept, theirs)).await?;
        Ok(Some(row))
    }

    async fn unmark(&self, marked: &Marked) -> Result<(), Error> {
        for name in &marked.names {
            self.container.delete(LOOKING, name, None).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Takes markers away whose run or resume never came to be; one under way has its own just now.
    async fn unmark_if_old(&self, marked: &Marked) -> Result<(), Error> {
        let old = self.clock.now().minus(limits::BLOB_MARKER_AGE);
        if marked.modified.is_some_and(|modified| modified < old) { self.unmark(marked).await } else { Ok(()) }
    }
}

const MIN: RunId = RunId::from_u64(0);
const MAX: RunId = RunId::from_u64(u64::MAX >> 1);

fn failed(trouble: Trouble) -> Error {
    trouble.into_error(LOOKING)
}

/// The runs of markers. A run that was resumed may have several.
fn marked(items: Vec<Item>) -> Vec<Marked> {
    let mut runs: HashMap<RunId, Marked> = HashMap::new();
    for item in items {
        let Some((run, since)) = names::of_marker(&item.name) else { continue };
        let known = runs.entry(run).or_insert(Marked { run, since, key: None, modified: None, names: Vec::new() });
        known.since = known.since.max(since);
        known.modified = known.modified.max(item.modified);
        known.key = known.key.take().or_else(|| item.metadata.get(names::KEY).cloned());
        known.names.push(item.name);
    }
    runs.into_values().collect()
}

fn run_of(item: &Item) -> Option<RunId> {
    item.name.rsplit('/').next()?.parse().ok()
}

/// Lists give tags without the quotes that headers have.
fn same_tag(one: &str, other: &str) -> bool {
    !one.is_empty() && one.trim_matches('"') == other.trim_matches('"')
}
