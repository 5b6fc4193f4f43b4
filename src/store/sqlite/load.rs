//! Takes pieces of another store, or of a backup. What is there already stays as it is, so a load that was broken off
//! can be begun again.

use rusqlite::{OptionalExtension as _, params};

use super::super::class::{Shape, Standing, Term, Terms, runs_only, term_class};
use super::super::transfer::Piece;
use super::commands::{list_under, put_document, set_mark, write_events, write_journal_row, write_state};
use super::dump::BEGINNING;
use super::keys::Known;
use super::trouble::{Outcome, Trouble};
use super::writer::{Tx, run_number};
use crate::clock::Timestamp;
use crate::domain::event::{Entry, Event};
use crate::domain::journal::JournalRow;
use crate::domain::run::Run;
use crate::domain::state::State;
use crate::id::{RunId, Seq};

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
            let Some(first) = runs.first() else { return Ok(()) };
            let following = runs.iter().zip(first.as_u64()..).all(|(run, number)| run.as_u64() == number);
            if !following {
                let why =
                    format!("the runs of one delivery, from {first} on, do not follow each other, as they must here");
                return Err(Trouble::Broken(why));
            }
            let known = Known { first: *first, runs: u32::try_from(runs.len()).unwrap_or(u32::MAX), expires: *expires };
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
    let head = Run::fold(id, log.iter().cloned()).map_err(|error| Trouble::Broken(error.to_string()))?.head();
    let Some((first, rest)) = log.split_first() else { return Ok(()) };
    let Event::Accepted(accepted) = &first.event else {
        return Err(Trouble::Broken(format!("the log of {id} does not begin with its acceptance")));
    };
    tx.memo.ids.skip_to(id);
    tx.connection
        .prepare_cached("INSERT INTO arrivals (run, at, event, body) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![number, first.at.as_millis(), serde_json::to_string(&first.event)?, &first.body[..]])?;
    // One row for what was written at one moment, as it was when it was written.
    for group in rest.chunk_by(|one, next| one.at == next.at) {
        let events: Vec<_> = group.iter().map(|entry| &entry.event).collect();
        write_events(tx, number, group[0].seq, group[0].at, &serde_json::to_string(&events)?)?;
    }
    let standing = if accepted.stripped { Standing::of(head.state).stripped() } else { Standing::of(head.state) };
    let class = standing.class(tx.shape(&Shape::of(&accepted.workflow, &accepted.trigger))?);
    let next = Seq(0).plus(log.len());
    let terms = Terms { all: Term::all_of(&head), listed: !runs_only(head.state) };
    tx.connection
        .prepare_cached("INSERT INTO runs (id, class, next, due, ended, terms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            number,
            class,
            next.0,
            moment(head.due),
            head.ended_at.map(Timestamp::as_millis),
            terms.pack()
        ])?;
    if head.state != State::Queued {
        tx.connection.prepare_cached("INSERT INTO heads (run, next, head) VALUES (?1, ?2, ?3)")?.execute(params![
            number,
            next.0,
            serde_json::to_string(&head)?
        ])?;
    }
    for term in terms.all.iter().filter(|_| terms.listed) {
        list_under(tx, *term, term_class(class), number)?;
    }
    Ok(())
}

/// A moment as the index keeps it; a run that is held has none.
pub(super) fn moment(due: Option<Timestamp>) -> Option<i64> {
    due.map(Timestamp::as_millis).filter(|due| *due != i64::MAX)
}
