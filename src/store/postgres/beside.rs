//! What is kept beside the runs: journals, documents, marks, and the states of workflows.

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio_postgres::Row;

use super::super::ready::to_json;
use super::super::{Error, JournalQuery};
use super::number;
use super::session::Session;
use super::trouble::{Outcome, Trouble};
use crate::clock::Timestamp;
use crate::domain::journal::{JournalEntry, JournalKind, JournalRow};

/// What callers are told they were doing.
pub(super) const JOURNAL_DOING: &str = "writing a journal";

/// The number of a journal.
pub(super) fn code(kind: JournalKind) -> i64 {
    match kind {
        JournalKind::Audit => 0,
        JournalKind::Refusal => 1,
        JournalKind::Gateway => 2,
    }
}

/// Text as PostgreSQL takes it: it cannot hold a zero byte, which requests of strangers may carry.
pub(super) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Adds entries to their journals; the oldest beyond the bound go.
pub(super) async fn journal_append(session: &Session, entries: &[JournalEntry]) -> Outcome<()> {
    for kind in JournalKind::ALL {
        let entries: Vec<_> = entries.iter().filter(|entry| entry.kind == kind).collect();
        if !entries.is_empty() {
            append_to(session, kind, &entries).await?;
        }
    }
    Ok(())
}

/// The row of the journal is locked while its numbers are taken, so that they come in commit order.
async fn append_to(session: &Session, kind: JournalKind, entries: &[&JournalEntry]) -> Outcome<()> {
    let (kind, kept) = (code(kind), kind.kept_max());
    let all = number(entries.len());
    let entries = &entries[entries.len().saturating_sub(kept)..];
    let texts = |text: fn(&JournalEntry) -> &str| entries.iter().map(|entry| plain(text(entry))).collect::<Vec<_>>();
    let (whats, subjects) = (texts(|entry| &entry.what), texts(|entry| &entry.subject));
    let causes = texts(|entry| &entry.cause);
    let details = entries.iter().map(|entry| to_json(JOURNAL_DOING, &entry.detail));
    let details = details.collect::<Result<Vec<_>, Error>>()?;
    let bodies: Vec<&[u8]> = entries.iter().map(|entry| &entry.body[..]).collect();
    let at: Vec<i64> = entries.iter().map(|entry| entry.at.as_millis()).collect();
    let (written, kept) = (number(entries.len()), number(kept));
    let sql = "WITH taken AS (UPDATE clawhook.journals SET last = last + $2 WHERE kind = $1 RETURNING last), \
               added AS (INSERT INTO clawhook.journal (kind, id, at, what, subject, cause, detail, body) \
               SELECT $1, last - $3 + place, at, what, subject, cause, detail, body FROM taken, \
               unnest($4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[]) WITH ORDINALITY \
               AS v (at, what, subject, cause, detail, body, place)) \
               DELETE FROM clawhook.journal USING taken WHERE kind = $1 AND id <= taken.last - $10";
    session
        .execute(sql, &[&kind, &all, &written, &at, &whats, &subjects, &causes, &details, &bodies, &kept])
        .await
        .map(drop)
}

/// A page of a journal, newest first.
pub(super) async fn journal(session: &Session, query: &JournalQuery) -> Outcome<Vec<JournalRow>> {
    let kind = code(query.kind);
    // Two texts, so that each is planned for the index it can use.
    let by_subject = "SELECT id, at, what, subject, cause, detail, body FROM clawhook.journal \
        WHERE kind = $1 AND subject = $2 AND id < $3 AND ($4::text IS NULL OR cause = $4) \
        AND ($5::text IS NULL OR what = $5) ORDER BY id DESC LIMIT $6";
    let by_time = "SELECT id, at, what, subject, cause, detail, body FROM clawhook.journal \
        WHERE kind = $1 AND $2::text IS NULL AND id < $3 AND ($4::text IS NULL OR cause = $4) \
        AND ($5::text IS NULL OR what = $5) ORDER BY id DESC LIMIT $6";
    let sql = if query.subject.is_some() { by_subject } else { by_time };
    let [subject, cause, what] = [&query.subject, &query.cause, &query.what].map(|text| text.as_deref().map(plain));
    let before = query.before.unwrap_or(i64::MAX);
    let rows = session.query(sql, &[&kind, &subject, &before, &cause, &what, &number(query.limit)]).await?;
    rows.iter().map(|row| journal_row(query.kind, row)).collect()
}

/// All journals, each from its first entry on.
pub(super) async fn journals(session: &Session) -> Outcome<Vec<JournalRow>> {
    let mut rows = Vec::new();
    for kind in JournalKind::ALL {
        let sql = "SELECT id, at, what, subject, cause, detail, body FROM clawhook.journal WHERE kind = $1 ORDER BY id";
        for row in session.query(sql, &[&code(kind)]).await? {
            rows.push(journal_row(kind, &row)?);
        }
    }
    Ok(rows)
}

fn journal_row(kind: JournalKind, row: &Row) -> Outcome<JournalRow> {
    let entry = JournalEntry {
        kind,
        at: Timestamp::from_millis(row.get(1)),
        what: row.get(2),
        subject: row.get(3),
        cause: row.get(4),
        detail: serde_json::from_str(row.get(5))?,
        body: Bytes::from(row.get::<_, Vec<u8>>(6)),
    };
    Ok(JournalRow { id: row.get(0), entry })
}

/// Keeps a text under its hash.
pub(super) async fn put_document(session: &Session, revision: &str, text: &str) -> Outcome<()> {
    let sql = "INSERT INTO clawhook.documents (revision, content) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    session.execute(sql, &[&revision, &text.as_bytes()]).await.map(drop)
}

/// The text behind a content hash.
pub(super) async fn document(session: &Session, revision: &str) -> Outcome<Option<String>> {
    let rows = session.query("SELECT content FROM clawhook.documents WHERE revision = $1", &[&revision]).await?;
    rows.first().map(|row| text(row.get(0))).transpose()
}

pub(super) fn text(bytes: Vec<u8>) -> Outcome<String> {
    String::from_utf8(bytes).map_err(|_| Trouble::Broken("a stored text is not UTF-8".into()))
}

/// The marks whose names start with `prefix`.
pub(super) async fn marks(session: &Session, prefix: &str) -> Outcome<Vec<(String, String)>> {
    let sql = "SELECT name, value FROM clawhook.marks WHERE name >= $1 AND starts_with(name, $1) ORDER BY name";
    let rows = session.query(sql, &[&plain(prefix)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Sets a mark, or removes it.
pub(super) async fn set_mark(session: &Session, name: &str, value: Option<&str>) -> Outcome<()> {
    match value {
        Some(value) => {
            let sql = "INSERT INTO clawhook.marks (name, value) VALUES ($1, $2) \
                       ON CONFLICT (name) DO UPDATE SET value = excluded.value";
            session.execute(sql, &[&plain(name), &plain(value)]).await.map(drop)
        }
        None => session.execute("DELETE FROM clawhook.marks WHERE name = $1", &[&plain(name)]).await.map(drop),
    }
}

/// The state of a workflow.
pub(super) async fn state(session: &Session, workflow: &str) -> Outcome<Map<String, Value>> {
    let sql = "SELECT name, value FROM clawhook.states WHERE workflow = $1 ORDER BY name";
    let rows = session.query(sql, &[&workflow]).await?;
    rows.iter().map(|row| Ok((text(row.get(0))?, serde_json::from_str(row.get(1))?))).collect()
}
