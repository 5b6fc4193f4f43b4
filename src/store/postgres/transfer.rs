//! Everything that the database holds, read in one snapshot, and pieces of another store, taken. What is there already
//! stays as it is.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio_util::task::TaskTracker;

use super::super::class::term_class;
use super::super::ready::{ReadyLog, first_of};
use super::super::transfer::{DUMPING, Dump, Piece};
use super::super::{Error, Parts};
use super::partitions::Partitions;
use super::session::{Connector, Purpose, Session, cannot_open, trust};
use super::shapes::Shapes;
use super::trouble::{Outcome, Trouble};
use super::{beside, number, read, run_id, run_number, schema};
use crate::clock::Timestamp;
use crate::domain::delivery::DeliveryKey;
use crate::domain::event::Entry;
use crate::domain::journal::JournalRow;
use crate::domain::run::RunHead;
use crate::id::{Revision, RunId, WorkflowName};
use crate::limits;

/// Runs, or keys, that are read at once.
const PAGE: usize = 100;

/// Begins to read the database.
pub(super) async fn dump(parts: Parts) -> Result<Dump, Error> {
    let Parts { settings, azure, secrets, .. } = parts;
    let place = settings.postgres.ok_or_else(|| Error::Open {
        place: "postgres".to_owned(),
        why: "the settings do not say where it is".to_owned(),
    })?;
    let tls = trust(place.authorities.as_deref()).await;
    let tls = tls.map_err(|why| Error::Open { place: place.host.clone(), why })?;
    let connector = Connector::new(place, azure, secrets, tls, TaskTracker::new());
    schema::prepare(&connector).await?;
    let purpose = Purpose { name: "dump", statement_max: limits::POSTGRES_SHOW_MAX, writes: false, listener: None };
    let session = connector.connect(&purpose).await.map_err(|trouble| cannot_open(&connector, &trouble))?;
    let begun = async {
        session.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let row = &session.query("SELECT count(*) FROM clawhook.runs", &[]).await?[0];
        Ok(row.get::<_, i64>(0).unsigned_abs())
    };
    let runs = begun.await.map_err(|trouble: Trouble| trouble.to_error(DUMPING))?;
    let reading = Reading { session, stage: Stage::Small };
    let batches =
        stream::try_unfold(reading, |reading| async { reading.next().await.map_err(|t| t.to_error(DUMPING)) });
    let pieces = batches.map_ok(|batch| stream::iter(batch.into_iter().map(Ok))).try_flatten();
    Ok(Dump { runs, pieces: pieces.boxed() })
}

/// How far the reading has come.
struct Reading {
    session: Session,
    stage: Stage,
}

enum Stage {
    Small,
    Runs { after: i64 },
    Keys { after: Vec<u8> },
    Done,
}

impl Reading {
    async fn next(mut self) -> Outcome<Option<(Vec<Piece>, Self)>> {
        let pieces = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Done => return Ok(None),
            Stage::Small => {
                self.stage = Stage::Runs { after: -1 };
                small(&self.session).await?
            }
            Stage::Runs { after } => {
                let (pieces, last) = runs(&self.session, after).await?;
                self.stage = last.map_or(Stage::Keys { after: Vec::new() }, |after| Stage::Runs { after });
                pieces
            }
            Stage::Keys { after } => {
                let (pieces, last) = keys(&self.session, &after).await?;
                self.stage = last.map_or(Stage::Done, |after| Stage::Keys { after });
                pieces
            }
        };
        Ok(Some((pieces, self)))
    }
}

async fn small(session: &Session) -> Outcome<Vec<Piece>> {
    let mut pieces = Vec::new();
    for row in session.query("SELECT revision, content FROM clawhook.documents ORDER BY revision", &[]).await? {
        pieces
            .push(Piece::Document { revision: Revision::from(row.get::<_, &str>(0)), text: beside::text(row.get(1))? });
    }
    for (name, value) in beside::marks(session, "").await? {
        pieces.push(Piece::Mark { name, value });
    }
    for row in session.query("SELECT DISTINCT workflow FROM clawhook.states ORDER BY workflow", &[]).await? {
        let name: &str = row.get(0);
        let workflow = WorkflowName::new(name).map_err(|error| Trouble::Broken(error.to_string()))?;
        pieces.push(Piece::State { workflow, values: beside::state(session, name).await? });
    }
    pieces.extend(beside::journals(session).await?.into_iter().map(Piece::Journal));
    Ok(pieces)
}

/// A page of runs, and the last of them when there may be more.
async fn runs(session: &Session, after: i64) -> Outcome<(Vec<Piece>, Option<i64>)> {
    let sql = "SELECT id FROM clawhook.runs WHERE id > $1 ORDER BY id LIMIT $2";
    let ids: Vec<i64> = session.query(sql, &[&after, &number(PAGE)]).await?.iter().map(|row| row.get(0)).collect();
    let mut pieces = Vec::with_capacity(ids.len());
    for head in read::heads(session, &ids).await? {
        let log = read::log(session, head.id).await?;
        pieces.push(Piece::Run { id: head.id, log, head: Box::new(head) });
    }
    Ok((pieces, ids.last().copied().filter(|_| ids.len() == PAGE)))
}

/// A page of keys, and the last of them when there may be more.
async fn keys(session: &Session, after: &[u8]) -> Outcome<(Vec<Piece>, Option<Vec<u8>>)> {
    let sql = "SELECT key, first, runs, expires FROM clawhook.keys WHERE key > $1 ORDER BY key LIMIT $2";
    let rows = session.query(sql, &[&after, &number(PAGE)]).await?;
    let mut pieces = Vec::with_capacity(rows.len());
    for row in &rows {
        let hash: [u8; 16] = row
            .get::<_, &[u8]>(0)
            .try_into()
            .map_err(|_| Trouble::Broken("a stored delivery key is not 16 bytes long".into()))?;
        let (first, runs) = (run_id(row.get(1)).as_u64(), row.get::<_, i64>(2).unsigned_abs());
        pieces.push(Piece::Key {
            key: DeliveryKey::from_bytes(hash),
            runs: (first..first + runs).map(RunId::from_u64).collect(),
            expires: Timestamp::from_millis(row.get(3)),
        });
    }
    let last = rows.last().map(|row| row.get::<_, Vec<u8>>(0)).filter(|_| rows.len() == PAGE);
    Ok((pieces, last))
}

/// Takes pieces in one transaction.
pub(super) async fn load(session: &Session, shapes: &Shapes, partitions: &Partitions, pieces: &[Piece]) -> Outcome<()> {
    let mut taken = Vec::new();
    for piece in pieces {
        if let Piece::Run { id, log, .. } = piece {
            taken.push(ReadyLog::new(*id, log).map_err(Trouble::Broken)?);
        }
    }
    partitions.ensure(session, taken.iter().map(|run| run.head.id.made_at())).await?;
    let wanted: Vec<_> = taken.iter().map(|run| &run.shape).collect();
    let numbers = shapes.numbers(session, &wanted).await?;
    let done = async {
        for (run, shape) in taken.iter().zip(numbers) {
            write_run(session, run, shape).await?;
        }
        for piece in pieces {
            one(session, piece).await?;
        }
        Ok(())
    };
    session.in_transaction(done).await
}

/// Takes a piece that is not a run.
async fn one(session: &Session, piece: &Piece) -> Outcome<()> {
    match piece {
        Piece::Document { revision, text } => beside::put_document(session, revision.as_str(), text).await,
        Piece::Mark { name, value } => beside::set_mark(session, name, Some(value)).await,
        Piece::State { workflow, values } => {
            let sql = "INSERT INTO clawhook.states (workflow, name, value) VALUES ($1, $2, $3) \
                       ON CONFLICT (workflow, name) DO UPDATE SET value = excluded.value";
            for (name, value) in values {
                let (name, value) = (name.as_bytes(), value.to_string());
                session.execute(sql, &[&workflow.as_str(), &name, &value]).await?;
            }
            Ok(())
        }
        Piece::Journal(row) => journal(session, row).await,
        Piece::Run { .. } => Ok(()),
        Piece::Key { key, runs, expires } => {
            let Some(first) = first_of(runs).map_err(Trouble::Broken)? else { return Ok(()) };
            let sql = "INSERT INTO clawhook.keys (key, first, runs, at, expires) VALUES ($1, $2, $3, $4, $5) \
                       ON CONFLICT DO NOTHING";
            let (first_number, at) = (run_number(first), first.made_at().as_millis());
            let key: &[u8] = key.as_bytes();
            session.execute(sql, &[&key, &first_number, &number(runs.len()), &at, &expires.as_millis()]).await.map(drop)
        }
    }
}

async fn journal(session: &Session, JournalRow { id, entry }: &JournalRow) -> Outcome<()> {
    let kind = beside::code(entry.kind);
    let detail = serde_json::to_string(&entry.detail)?;
    let (at, body): (i64, &[u8]) = (entry.at.as_millis(), &entry.body);
    let texts = [&entry.what, &entry.subject, &entry.cause].map(|text| beside::plain(text));
    let sql = "INSERT INTO clawhook.journal (kind, id, at, what, subject, cause, detail, body) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
    session.execute(sql, &[&kind, id, &at, &texts[0], &texts[1], &texts[2], &detail, &body]).await?;
    let sql = "UPDATE clawhook.journals SET last = greatest(last, $2) WHERE kind = $1";
    session.execute(sql, &[&kind, id]).await.map(drop)
}

async fn write_run(session: &Session, ready: &ReadyLog<'_>, shape: i64) -> Outcome<()> {
    let ReadyLog { head, standing, terms, due, ended, .. } = ready;
    let (id, class, next) = (run_number(head.id), standing.class(shape), i64::from(ready.next().0));
    let last = ready.writes().last().and_then(<[Entry]>::first).map_or(0, |entry| i64::from(entry.seq.0));
    let sql = "INSERT INTO clawhook.runs (id, class, next, last, due, ended, terms) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    if session.execute(sql, &[&id, &class, &next, &last, due, ended, &terms.pack()]).await? == 0 {
        return Ok(());
    }
    for entries in ready.writes() {
        write_entries(session, head, entries, last).await?;
    }
    for term in terms.all.iter().filter(|_| terms.listed) {
        let sql = "INSERT INTO clawhook.terms (term, class, run) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        session.execute(sql, &[&term.0, &term_class(class), &id]).await?;
    }
    Ok(())
}

async fn write_entries(session: &Session, head: &RunHead, entries: &[Entry], last: i64) -> Outcome<()> {
    let Some(first) = entries.first() else { return Ok(()) };
    let events: Vec<_> = entries.iter().map(|entry| &entry.event).collect();
    let (id, seq, at) = (run_number(head.id), i64::from(first.seq.0), first.at.as_millis());
    let events = serde_json::to_string(&events)?;
    let body = (seq == 0).then_some(&first.body[..]);
    // The first row alone is folded when it is listed, as after an acceptance.
    let head = (seq == last && seq > 0).then(|| serde_json::to_string(head)).transpose()?;
    let sql = "INSERT INTO clawhook.log (run, seq, at, events, body, head) VALUES ($1, $2, $3, $4, $5, $6)";
    session.execute(sql, &[&id, &seq, &at, &events, &body, &head]).await.map(drop)
}
