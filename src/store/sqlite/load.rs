//! Takes pieces of another store, or of a backup. What is there already stays as it is, so a load that was broken off
//! can be begun again.

use rusqlite::{OptionalExtension as _, params};

use super::super::class::term_class;
use super::super::ready::{ReadyLog, first_of};
use super::super::transfer::Piece;
use super::commands::{list_under, put_document, set_mark, write_events, write_journal_row, write_state};
use super::dump::BEGINNING;
use super::keys::Known;
use super::trouble::{Outcome, Trouble};
use super::writer::{Tx, run_number};
use crate::domain::event::Entry;
use crate::domain::journal::JournalRow;
use crate::domain::state::State;
use crate::id::RunId;

/// Takes a piece.
pub(super) fn load(tx: &mut Tx<'_>, piece: &Piece) -> Outcome<()> {
    match piece {
        Piece::Document { revision, text } => put_document(tx, revision.as_str(), text),
        Piece::Mark { name, value } => set_mark(tx, name, Some(value)),
        Piece::State { workflow, values } => {
            let changes =
                values.iter().map(|(name, value)| (name.clone(), Some(value.to_string()))).collect::<Vec<_>>();
            Ok(write_state(tx, workflow, &changes)?)
        }
        Piece::Journal(JournalRow { id, entry }) => {
            Ok(write_journal_row(tx, *id, entry, &serde_json::to_string(&entry.detail)?)?)
        }
        Piece::Run { id, log, .. } => run(tx, *id, log),
        Piece::Key { key, runs, expires } => {
            let Some(first) = first_of(runs).map_err(Trouble::Broken)? else { return Ok(()) };
            let known = Known { first, runs: u32::try_from(runs.len()).unwrap_or(u32::MAX), expires: *expires };
            if tx.memo.keys.find(tx.connection, *key, BEGINNING)?.is_none() {
                tx.memo.keys.add(*key, known, BEGINNING);
            }
            Ok(())
        }
    }
}

fn run(tx: &mut Tx<'_>, id: RunId, log: &[Entry]) -> Outcome<()> {
    let number = run_number(id);
    let known =
        tx.connection.prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?.query_row([number], |_| Ok(())).optional()?;
    if known.is_some() {
        return Ok(());
    }
    let ready = ReadyLog::new(id, log).map_err(Trouble::Broken)?;
    tx.memo.ids.skip_to(id);
    for (place, entries) in ready.writes().enumerate() {
        write_entries(tx, number, place == 0, entries)?;
    }
    let class = ready.standing.class(tx.shape(&ready.shape)?);
    let ReadyLog { head, terms, due, ended, .. } = &ready;
    let next = ready.next().0;
    tx.connection
        .prepare_cached("INSERT INTO runs (id, class, next, due, ended, terms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![number, class, next, due, ended, terms.pack()])?;
    if head.state != State::Queued {
        tx.connection.prepare_cached("INSERT INTO heads (run, next, head) VALUES (?1, ?2, ?3)")?.execute(params![
            number,
            next,
            serde_json::to_string(head)?
        ])?;
    }
    for term in terms.all.iter().filter(|_| terms.listed) {
        list_under(tx, *term, term_class(class), number)?;
    }
    Ok(())
}

/// What was written at one moment. The first event of the first write has a row of its own, with the raw body.
fn write_entries(tx: &Tx<'_>, run: i64, first_write: bool, entries: &[Entry]) -> Outcome<()> {
    let Some((first, others)) = entries.split_first() else { return Ok(()) };
    let rest = if first_write {
        tx.connection
            .prepare_cached("INSERT INTO arrivals (run, at, event, body) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![run, first.at.as_millis(), serde_json::to_string(&first.event)?, &first.body[..]])?;
        others
    } else {
        entries
    };
    let Some(first) = rest.first() else { return Ok(()) };
    let events: Vec<_> = rest.iter().map(|entry| &entry.event).collect();
    Ok(write_events(tx, run, first.seq, first.at, &serde_json::to_string(&events)?)?)
}
