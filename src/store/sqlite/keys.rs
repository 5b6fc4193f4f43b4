//! Delivery keys and replay guards: which are known, and which runs they made. Only the writer asks.
//!
//! Keys are random, so a tree of them on disk would cost every accept a page of its own, and more pages the longer it
//! runs. Instead, new keys go to the end of a log, one row for a whole batch, and are known by heart. When they are many
//! they are written once more, sorted, as a segment that never changes; a filter of its keys stays in memory, so that a
//! key that was never seen costs no read. A segment goes when the windows of its keys are over.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::trouble::Outcome;
use super::writer::{number, run_id, run_number};
use crate::clock::Timestamp;
use crate::domain::delivery::DeliveryKey;
use crate::id::RunId;

/// Keys known by heart before they become a segment: about 3 MiB, and a few milliseconds to write.
pub(super) const KEYS_PER_SEGMENT: usize = 32 * 1024;
/// Keys in one row of a segment: a row fits a quarter of a page, beyond which SQLite chains pages.
const KEYS_PER_BLOCK: usize = 25;
/// Segments that one call of `forget` deletes.
const SEGMENTS_FORGOTTEN_MAX: usize = 16;
/// Bytes of a key as it is kept: hash, first run, number of runs, end of the window.
const RECORD_BYTES: usize = 36;

/// The keys that this store knows.
#[derive(Debug)]
pub(super) struct Keys {
    /// Keys since the last segment.
    recent: HashMap<[u8; 16], Known>,
    /// Oldest first.
    segments: Vec<Segment>,
    /// Recent keys that make a segment.
    sealed_at: usize,
    open: OpenChanges,
}

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) first: RunId,
    /// Runs that it made; their ids follow each other.
    pub(super) runs: u32,
    pub(super) expires: Timestamp,
}

/// What the open transaction has changed: kept when it commits, undone when it does not.
#[derive(Debug, Default)]
struct OpenChanges {
    /// Keys that were added, with what they stood for before.
    added: Vec<([u8; 16], Known, Option<Known>)>,
    sealed: Option<Segment>,
    dropped: Vec<i64>,
    newest: Timestamp,
}

/// Keys that were sorted and written once more.
#[derive(Debug)]
struct Segment {
    id: i64,
    filter: Filter,
    keys: i64,
    last_expires: Timestamp,
    /// Not worth a look for expired keys before this.
    look_after: Timestamp,
}

impl Keys {
    /// Learns what the file holds.
    pub(super) fn read(connection: &Connection, sealed_at: usize) -> Outcome<Self> {
        let mut keys = Self { recent: HashMap::new(), segments: Vec::new(), sealed_at, open: OpenChanges::default() };
        let mut statement =
            connection.prepare("SELECT id, keys, first_expires, last_expires, filter FROM key_segments ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            keys.segments.push(Segment {
                id: row.get(0)?,
                filter: Filter::unpack(row.get_ref(4)?.as_blob()?),
                keys: row.get(1)?,
                last_expires: Timestamp::from_millis(row.get(3)?),
                look_after: Timestamp::from_millis(row.get(2)?),
            });
        }
        let mut statement = connection.prepare("SELECT keys FROM key_log ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            keys.recent.extend(records(row.get_ref(0)?.as_blob()?));
        }
        Ok(keys)
    }

    /// What a key stands for, if its window is not over at `at`.
    pub(super) fn find(
        &self,
        connection: &Connection,
        key: DeliveryKey,
        at: Timestamp,
    ) -> rusqlite::Result<Option<Known>> {
        let hash = key.as_bytes();
        if let Some(known) = self.recent.get(hash).filter(|known| known.expires > at) {
            return Ok(Some(*known));
        }
        let print = Print::of(hash);
        for segment in self.segments.iter().rev() {
            if segment.last_expires > at
                && segment.filter.may_hold(&print)
                && let Some(known) = segment.find(connection, hash)?
                && known.expires > at
            {
                return Ok(Some(known));
            }
        }
        Ok(None)
    }

    /// Knows a key from now on. `flush` writes it, in the same transaction.
    pub(super) fn add(&mut self, key: DeliveryKey, known: Known, at: Timestamp) {
        let before = self.recent.insert(*key.as_bytes(), known);
        self.open.added.push((*key.as_bytes(), known, before));
        self.open.newest = self.open.newest.max(at);
    }

    /// Writes what was added since the transaction began; the last thing before its commit.
    pub(super) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if !self.open.added.is_empty() {
            let keys = pack(self.open.added.iter().map(|(hash, known, _)| (hash, known)));
            log(connection, &keys)?;
        }
        if self.recent.len() >= self.sealed_at {
            self.seal(connection)?;
        }
        Ok(())
    }

    /// The transaction was committed.
    pub(super) fn committed(&mut self) {
        let open = std::mem::take(&mut self.open);
        self.segments.retain(|segment| !open.dropped.contains(&segment.id));
        if let Some(segment) = open.sealed {
            self.segments.push(segment);
            self.recent.clear();
        }
    }

    /// The transaction was undone.
    pub(super) fn undone(&mut self) {
        for (hash, _, before) in std::mem::take(&mut self.open).added.into_iter().rev() {
            match before {
                Some(known) => self.recent.insert(hash, known),
                None => self.recent.remove(&hash),
            };
        }
    }

    /// Lets keys go whose windows are over; returns how many, and whether there are more to look at.
    pub(super) fn forget(&mut self, connection: &Connection, now: Timestamp) -> Outcome<(usize, bool)> {
        let over: Vec<_> = self.segments.iter().filter(|segment| segment.last_expires <= now).collect();
        let more = over.len() > SEGMENTS_FORGOTTEN_MAX;
        let mut forgotten = 0;
        for segment in over.into_iter().take(SEGMENTS_FORGOTTEN_MAX) {
            segment.delete(connection)?;
            self.open.dropped.push(segment.id);
            forgotten += usize::try_from(segment.keys).unwrap_or(0);
        }
        let known = self.recent.len();
        self.recent.retain(|_, known| known.expires > now);
        if self.recent.len() < known {
            forgotten += known - self.recent.len();
            connection.execute("DELETE FROM key_log", [])?;
            log(connection, &pack(self.recent.iter()))?;
        }
        forgotten += self.repack(connection, now)?;
        Ok((forgotten, more || self.to_repack(now).is_some()))
    }

    /// Writes all keys since the last segment as a segment.
    fn seal(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let now = self.open.newest;
        let mut keys: Vec<_> = self.recent.iter().filter(|(_, known)| known.expires > now).collect();
        keys.sort_unstable_by_key(|(hash, _)| **hash);
        let expires = || keys.iter().map(|(_, known)| known.expires);
        let (first_expires, last_expires) = (expires().min().unwrap_or(now), expires().max().unwrap_or(now));
        let filter = Filter::of(keys.iter().map(|(hash, _)| *hash), keys.len());
        connection
            .prepare_cached(
                "INSERT INTO key_segments (keys, first_expires, last_expires, filter) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![number(keys.len()), first_expires.as_millis(), last_expires.as_millis(), filter.pack()])?;
        let id = connection.last_insert_rowid();
        let mut statement =
            connection.prepare_cached("INSERT INTO key_blocks (segment, first, keys) VALUES (?1, ?2, ?3)")?;
        for block in keys.chunks(KEYS_PER_BLOCK) {
            statement.execute(params![id, block[0].0, pack(block.iter().copied())])?;
        }
        connection.prepare_cached("DELETE FROM key_log")?.execute([])?;
        let keys = number(keys.len());
        self.open.sealed = Some(Segment { id, filter, keys, last_expires, look_after: first_expires });
        Ok(())
    }

    /// The place of a segment in which some keys have expired and some have not.
    fn to_repack(&self, now: Timestamp) -> Option<usize> {
        self.segments.iter().position(|segment| {
            segment.look_after <= now && segment.last_expires > now && !self.open.dropped.contains(&segment.id)
        })
    }

    /// Takes apart one segment of which most keys have expired; the others become recent again.
    fn repack(&mut self, connection: &Connection, now: Timestamp) -> Outcome<usize> {
        let Some(segment) = self.to_repack(now).and_then(|place| self.segments.get_mut(place)) else { return Ok(0) };
        let all = segment.all(connection)?;
        let live: Vec<_> = all.iter().filter(|(_, known)| known.expires > now).collect();
        if live.len() * 2 > all.len() {
            segment.look_after = now.plus(segment.last_expires.since(now) / 4);
            return Ok(0);
        }
        segment.delete(connection)?;
        self.open.dropped.push(segment.id);
        let forgotten = all.len() - live.len();
        for (hash, known) in live {
            let before = self.recent.insert(*hash, *known);
            self.open.added.push((*hash, *known, before));
        }
        self.open.newest = self.open.newest.max(now);
        Ok(forgotten)
    }
}

/// Every key that the file holds, until `each` has seen enough.
pub(super) fn each(connection: &Connection, mut each: impl FnMut([u8; 16], Known) -> bool) -> Outcome<()> {
    for table in ["SELECT keys FROM key_blocks ORDER BY segment, first", "SELECT keys FROM key_log ORDER BY id"] {
        let mut statement = connection.prepare(table)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if !records(row.get_ref(0)?.as_blob()?).all(|(hash, known)| each(hash, known)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl Segment {
    fn find(&self, connection: &Connection, hash: &[u8; 16]) -> rusqlite::Result<Option<Known>> {
        let mut statement = connection.prepare_cached(
            "SELECT keys FROM key_blocks WHERE segment = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1",
        )?;
        let mut rows = statement.query(params![self.id, hash])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let found = records(row.get_ref(0)?.as_blob()?).find(|(found, _)| found == hash);
        Ok(found.map(|(_, known)| known))
    }

    fn all(&self, connection: &Connection) -> rusqlite::Result<Vec<([u8; 16], Known)>> {
        let mut statement = connection.prepare_cached("SELECT keys FROM key_blocks WHERE segment = ?1")?;
        let mut rows = statement.query([self.id])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.extend(records(row.get_ref(0)?.as_blob()?));
        }
        Ok(all)
    }

    fn delete(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.prepare_cached("DELETE FROM key_blocks WHERE segment = ?1")?.execute([self.id])?;
        connection.prepare_cached("DELETE FROM key_segments WHERE id = ?1")?.execute([self.id])?;
        Ok(())
    }
}

fn log(connection: &Connection, keys: &[u8]) -> rusqlite::Result<()> {
    connection.prepare_cached("INSERT INTO key_log (keys) VALUES (?1)")?.execute([keys]).map(drop)
}

fn pack<'a>(keys: impl Iterator<Item = (&'a [u8; 16], &'a Known)>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(keys.size_hint().0 * RECORD_BYTES);
    for (hash, known) in keys {
        bytes.extend_from_slice(hash);
        bytes.extend_from_slice(&run_number(known.first).to_le_bytes());
        bytes.extend_from_slice(&known.runs.to_le_bytes());
        bytes.extend_from_slice(&known.expires.as_millis().to_le_bytes());
    }
    bytes
}

fn records(bytes: &[u8]) -> impl Iterator<Item = ([u8; 16], Known)> {
    fn part<const N: usize>(record: &[u8; RECORD_BYTES], from: usize) -> [u8; N] {
        let mut part = [0; N];
        part.copy_from_slice(&record[from..from + N]);
        part
    }
    bytes.as_chunks::<RECORD_BYTES>().0.iter().map(|record| {
        let known = Known {
            first: run_id(i64::from_le_bytes(part(record, 16))),
            runs: u32::from_le_bytes(part(record, 24)),
            expires: Timestamp::from_millis(i64::from_le_bytes(part(record, 28))),
        };
        (part(record, 0), known)
    })
}

/// A Bloom filter in blocks of one cache line: it may say that it holds a key that it does not, about once in two
/// hundred, and never the other way round. Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom
/// Filters" (2007).
#[derive(Debug, PartialEq, Eq)]
struct Filter {
    blocks: Vec<[u64; 8]>,
}

/// A key as filters see it: keys are hashes already, so their bits are taken as they are.
struct Print {
    block: u64,
    bits: [u64; 8],
}

impl Print {
    fn of(hash: &[u8; 16]) -> Self {
        let hash = u128::from_le_bytes(*hash);
        let part = |from: u32, bits: u32| u64::try_from((hash >> from) & ((1 << bits) - 1)).unwrap_or(0);
        // Eight places of nine bits each, from above the bits that choose the block.
        let mut bits = [0; 8];
        for place in (0..8).map(|which| part(32 + 9 * which, 9)) {
            bits[usize::try_from(place / 64).unwrap_or(0)] |= 1 << (place % 64);
        }
        Self { block: part(0, 32), bits }
    }
}

impl Filter {
    /// Twelve bits a key.
    fn of<'a>(keys: impl Iterator<Item = &'a [u8; 16]>, count: usize) -> Self {
        let mut filter = Self { blocks: vec![[0; 8]; (count * 12).div_ceil(512).max(1)] };
        for key in keys {
            let print = Print::of(key);
            let block = filter.block(&print);
            filter.blocks[block].iter_mut().zip(print.bits).for_each(|(word, bits)| *word |= bits);
        }
        filter
    }

    fn may_hold(&self, print: &Print) -> bool {
        self.blocks[self.block(print)].iter().zip(print.bits).all(|(word, bits)| word & bits == bits)
    }

    fn block(&self, print: &Print) -> usize {
        // Scales 32 random bits to the number of blocks.
        usize::try_from((print.block * self.blocks.len() as u64) >> 32).unwrap_or(0)
    }

    fn pack(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn unpack(bytes: &[u8]) -> Self {
        let words: Vec<_> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let blocks = words.as_chunks::<8>().0.to_vec();
        // A filter that is lost holds everything: slow, and right.
        Self { blocks: if blocks.is_empty() { vec![[u64::MAX; 8]] } else { blocks } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_holds_its_keys_and_few_others() {
        let key = |number: u32| *DeliveryKey::of_body("/", &number.to_le_bytes()).as_bytes();
        let keys: Vec<_> = (0..10_000).map(key).collect();
        let filter = Filter::of(keys.iter(), keys.len());
        let filter = Filter::unpack(&filter.pack());
        assert!(keys.iter().all(|key| filter.may_hold(&Print::of(key))));
        let wrong = (10_000..110_000).filter(|number| filter.may_hold(&Print::of(&key(*number)))).count();
        assert!(wrong < 1_000, "{wrong} of 100000");
        assert!(Filter::unpack(&[]).may_hold(&Print::of(&keys[0])));
    }

    #[test]
    fn records_pack_and_unpack() {
        let known = Known { first: RunId::from_u64(7 << 40), runs: 3, expires: Timestamp::from_millis(-5) };
        let hash = [9; 16];
        assert_eq!(records(&pack([(&hash, &known)].into_iter())).collect::<Vec<_>>(), [(hash, known)]);
    }
}
