//! Partitions: the runs of one week, their logs and their terms. They are made ahead of their week, or when a run turns
//! up that has none, and dropped whole once everything in them may go. A log from which most was deleted or stripped is
//! rewritten, because PostgreSQL gives the space of single rows only to new rows of the same partition, and an old one
//! gets no new rows.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::run_number;
use super::session::{Connector, Purpose, Session};
use super::trouble::{Outcome, Trouble};
use crate::clock::Timestamp;
use crate::id::RunId;
use crate::limits;

/// The lock under which partitions are made, dropped and rewritten.
const LOCK: i64 = 0x436c_6177_7061_7274;
/// How far ahead partitions are made: a clock that is a little fast finds its own.
const AHEAD: std::time::Duration = std::time::Duration::from_hours(2 * 24);
/// The table of `runs` keeps room for the versions of a row that its life leaves behind.
const TABLES: [(&str, &str); 3] =
    [("runs", " WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05)"), ("log", ""), ("terms", "")];

/// The partitions that are known to be there.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    known: Mutex<BTreeSet<i64>>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    /// The smallest id that belongs into it.
    pub(super) first: i64,
    /// The smallest id behind it.
    pub(super) past: i64,
    /// What its tables are called, after `runs_`, `log_` and `terms_`.
    pub(super) name: String,
}

impl Partition {
    /// The partition of runs made at this moment.
    pub(super) fn of(at: Timestamp) -> Self {
        let span = millis(limits::POSTGRES_PARTITION);
        let start = at.as_millis().max(0).div_euclid(span) * span;
        let id = |millis| run_number(RunId::floor(Timestamp::from_millis(millis)));
        let name = Timestamp::from_millis(start).to_utc().format("%Y%m%d").to_string();
        Self { first: id(start), past: id(start + span), name }
    }
}

fn millis(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl Partitions {
    /// Sees to it that runs made at these moments have a partition, and those after them too.
    pub(super) async fn ensure(&self, session: &Session, moments: impl IntoIterator<Item = Timestamp>) -> Outcome<()> {
        let wanted = moments.into_iter().flat_map(|at| [at, at.plus(AHEAD)]).map(Partition::of);
        let missing: Vec<_> = {
            let known = self.known();
            wanted.filter(|partition| !known.contains(&partition.first)).collect()
        };
        for partition in missing {
            make(session, &partition).await?;
            self.known().insert(partition.first);
        }
        Ok(())
    }

    /// Something that was known is not there any more: asks again.
    pub(super) fn forget(&self) {
        self.known().clear();
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<i64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a partition unless it is there. Attaching waits for nobody who reads or writes, unlike `PARTITION OF`.
async fn make(session: &Session, partition: &Partition) -> Outcome<()> {
    let done = async {
        session.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
        let sql = "INSERT INTO clawhook.partitions (first, past, name) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        if session.execute(sql, &[&partition.first, &partition.past, &partition.name]).await? == 0 {
            return Ok(());
        }
        let Partition { first, past, name } = partition;
        for (table, with) in TABLES {
            session
                .batch(&format!(
                    "CREATE TABLE clawhook.{table}_{name} (LIKE clawhook.{table} INCLUDING ALL){with};
                     ALTER TABLE clawhook.{table} ATTACH PARTITION clawhook.{table}_{name} \
                     FOR VALUES FROM ({first}) TO ({past})"
                ))
                .await?;
        }
        Ok(())
    };
    session.in_transaction(done).await
}

/// The partitions whose ids are all below `past`, oldest first.
pub(super) async fn below(session: &Session, past: RunId) -> Outcome<Vec<Partition>> {
    let sql = "SELECT first, past, name FROM clawhook.partitions WHERE past <= $1 ORDER BY first";
    let rows = session.query(sql, &[&run_number(past)]).await?;
    Ok(rows.iter().map(|row| Partition { first: row.get(0), past: row.get(1), name: row.get(2) }).collect())
}

/// Notes that runs of these ids were deleted or stripped.
pub(super) async fn touched(session: &Session, runs: &[i64]) -> Outcome<()> {
    let sql = "UPDATE clawhook.partitions p SET touched = touched + n FROM \
               (SELECT first, count(*) AS n FROM unnest($1::bigint[]) AS v(id) \
                JOIN clawhook.partitions ON id >= first AND id < past GROUP BY first) t WHERE p.first = t.first";
    session.execute(sql, &[&runs]).await.map(drop)
}

/// Drops a partition if `may_go` of its rows is all of them, and returns how many there were; nothing when it has to
/// stay, or when somebody has hold of it just now.
pub(super) async fn drop_whole(
    session: &Session,
    partition: &Partition,
    runs_before: Timestamp,
    failed_before: Timestamp,
) -> Outcome<Option<usize>> {
    let name = &partition.name;
    // Ended long enough ago, by how it ended; `5` and `9` are the standings of failed runs.
    let count = format!(
        "SELECT count(*), count(*) FILTER (WHERE ended IS NOT NULL AND \
         ended < CASE WHEN class >> 32 IN (5, 9) THEN $1::bigint ELSE $2::bigint END) FROM clawhook.runs_{name}"
    );
    let (failed_before, runs_before) = (failed_before.as_millis(), runs_before.as_millis());
    let look = async || -> Outcome<Option<usize>> {
        let row = &session.query_once(&count, &[&failed_before, &runs_before]).await?[0];
        let (all, may_go): (i64, i64) = (row.get(0), row.get(1));
        Ok((all == may_go).then(|| usize::try_from(all).unwrap_or(usize::MAX)))
    };
    if look().await?.is_none() {
        return Ok(None);
    }
    session.begin().await?;
    let done = async {
        session.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
        let sql = "DELETE FROM clawhook.partitions WHERE first = $1";
        if session.execute(sql, &[&partition.first]).await? == 0 {
            return Ok(None);
        }
        session.batch(&format!("LOCK TABLE clawhook.runs_{name} IN ACCESS EXCLUSIVE MODE")).await?;
        // Somebody may have resumed one of them before the lock was had.
        let Some(runs) = look().await? else { return Err(Trouble::Broken("one of its runs was resumed".into())) };
        session.batch(&format!("DROP TABLE clawhook.runs_{name}, clawhook.log_{name}, clawhook.terms_{name}")).await?;
        session.commit().await?;
        Ok(Some(runs))
    };
    match done.await {
        Ok(Some(runs)) => Ok(Some(runs)),
        Ok(None) => session.commit().await.map(|()| None),
        Err(Trouble::Broken(_)) => {
            session.undo().await;
            Ok(None)
        }
        Err(trouble) => {
            session.undo().await;
            if trouble.is_locked() { Ok(None) } else { Err(trouble) }
        }
    }
}

/// Rewrites the log of one old partition from which at least as many runs were deleted or stripped as are left. While it
/// is copied it can be read; a run in it that somebody resumes just then has to wait. False when there is none.
pub(super) async fn rewrite_one(connector: &Connector, now: Timestamp) -> Outcome<bool> {
    let purpose = Purpose { name: "upkeep", statement_max: limits::POSTGRES_UPKEEP_MAX, writes: false, listener: None };
    let session = connector.connect(&purpose).await?;
    let sql =
        "SELECT first, past, name FROM clawhook.partitions WHERE past <= $1 AND touched > 0 ORDER BY touched DESC";
    let rows = session.query(sql, &[&run_number(RunId::floor(now))]).await?;
    for row in rows {
        let partition = Partition { first: row.get(0), past: row.get(1), name: row.get(2) };
        let left = format!("SELECT count(*) FROM clawhook.runs_{}", partition.name);
        let left: i64 = session.query_once(&left, &[]).await?[0].get(0);
        let sql = "SELECT 1 FROM clawhook.partitions WHERE first = $1 AND touched >= $2";
        if session.query(sql, &[&partition.first, &left]).await?.is_empty() {
            continue;
        }
        return match session.in_transaction(rewrite(&session, &partition)).await {
            Ok(()) => Ok(true),
            Err(trouble) if trouble.is_locked() => Ok(false),
            Err(trouble) => Err(trouble),
        };
    }
    Ok(false)
}

async fn rewrite(session: &Session, partition: &Partition) -> Outcome<()> {
    let Partition { first, past, name } = partition;
    let reset = "UPDATE clawhook.partitions SET touched = 0 WHERE first = $1";
    session.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    session.execute(reset, &[first]).await?;
    session
        .batch(&format!(
            "LOCK TABLE clawhook.log_{name} IN SHARE MODE;
             CREATE TABLE clawhook.log_{name}_new (LIKE clawhook.log INCLUDING ALL,
                 CONSTRAINT span CHECK (run >= {first} AND run < {past}));
             INSERT INTO clawhook.log_{name}_new SELECT * FROM clawhook.log_{name};
             ALTER TABLE clawhook.log DETACH PARTITION clawhook.log_{name};
             DROP TABLE clawhook.log_{name};
             ALTER TABLE clawhook.log_{name}_new RENAME TO log_{name};
             ALTER TABLE clawhook.log ATTACH PARTITION clawhook.log_{name} FOR VALUES FROM ({first}) TO ({past});
             ALTER TABLE clawhook.log_{name} DROP CONSTRAINT span"
        ))
        .await
}

/// Bytes that our tables and their indexes have on disk.
pub(super) async fn disk_bytes(session: &Session) -> Outcome<u64> {
    let sql = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'clawhook' AND c.relkind = 'r'";
    let bytes: i64 = session.query(sql, &[]).await?[0].get(0);
    Ok(u64::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_a_week_of_ids() {
        let at = Timestamp::from_secs(1_795_338_000);
        let partition = Partition::of(at);
        assert_eq!(partition.name, "20261119");
        let id = run_number(RunId::floor(at));
        assert!(partition.first <= id && id < partition.past);
        let next = Partition::of(at.plus(limits::POSTGRES_PARTITION));
        assert_eq!(next.first, partition.past);
        assert_eq!(Partition::of(Timestamp::from_millis(-1)).first, 0);
    }
}
