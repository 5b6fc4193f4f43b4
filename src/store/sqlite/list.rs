//! Lists of runs. A filter names classes (see `class.rs`); the ids of each class are read in order, a few at a time, and
//! merged. So a page costs a seek for each class that matches, and never a walk over runs that do not match, except
//! where two labels are wanted at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::ops::Range;

use rusqlite::{Connection, params};

use super::super::RunQuery;
use super::super::class::{Shape, Standing, Term, Terms, runs_only, shape_in, source_is_term};
use super::read;
use super::trouble::Outcome;
use super::writer::{number, read_shapes, run_id, run_number};
use crate::domain::run::RunHead;
use crate::domain::state::State;
use crate::id::RunId;

/// How far a term's entries are counted to find the rarest.
const TERM_COUNT_MAX: i64 = 1_000;
/// Ids that are read from one class at a time.
const CHUNK_MIN: usize = 4;
const CHUNK_MAX: usize = 256;

/// A page of runs, newest first.
pub(super) fn runs(connection: &Connection, query: &RunQuery) -> Outcome<Vec<RunHead>> {
    let mut candidates = Candidates::new(query.ids(), Direction::Newest, query.limit);
    let terms = add_candidates(connection, query, &mut candidates)?;
    let (mut page, mut last) = (Vec::new(), None);
    while page.len() < query.limit
        && let Some(id) = candidates.next(connection)?
    {
        // A run that runs may come from its class and from its term.
        let seen = last.replace(id) == Some(id);
        if seen || (!terms.is_empty() && !may_match(connection, id, query, &terms)?) {
            continue;
        }
        let head = read::head(connection, id)?;
        // Only a hash that met another by chance, or a source that is a term, can fail here.
        if query.matches(&head) {
            page.push(head);
        }
    }
    Ok(page)
}

/// Adds where the wanted runs are; returns the terms that each of them must have.
fn add_candidates(connection: &Connection, query: &RunQuery, candidates: &mut Candidates) -> Outcome<Vec<Term>> {
    let mut terms: Vec<_> = query.labels.iter().map(|(name, value)| Term::label(name, value)).collect();
    terms.extend(query.cause.as_deref().map(Term::cause));
    let states = if query.states.is_empty() { &State::ALL[..] } else { &query.states };
    let no_shape = query.workflow.is_none() && query.trigger.is_none() && query.source.is_none();
    if terms.is_empty() && no_shape && query.states.is_empty() {
        candidates.add(Source::All);
        return Ok(terms);
    }
    let shapes = Shapes::matching(connection, query)?;
    if let Some(rarest) = rarest(connection, &terms)? {
        let wanted = |shape| shapes.by_shape.contains(&shape) || shapes.by_term.contains(&shape);
        candidates.add_listed(connection, rarest, states, wanted)?;
        return Ok(terms);
    }
    for standing in states.iter().flat_map(|state| Standing::seen_as(*state)) {
        candidates.add_classes(connection, standing, |shape| shapes.by_shape.contains(&shape))?;
    }
    if let Some(source) = query.source.as_deref().filter(|_| !shapes.by_term.is_empty()) {
        candidates.add_listed(connection, Term::source(source), states, |shape| shapes.by_term.contains(&shape))?;
    }
    Ok(terms)
}

/// The shapes that a query can match.
struct Shapes {
    /// All runs of these match, as far as the shape goes.
    by_shape: HashSet<i64>,
    /// Runs of these match when they have the source's term.
    by_term: HashSet<i64>,
}

impl Shapes {
    fn matching(connection: &Connection, query: &RunQuery) -> Outcome<Self> {
        let mut shapes = Self { by_shape: HashSet::new(), by_term: HashSet::new() };
        for (id, Shape { workflow, trigger, source }) in read_shapes(connection)? {
            if query.workflow.as_ref().is_some_and(|wanted| *wanted != workflow)
                || query.trigger.is_some_and(|wanted| wanted != trigger)
            {
                continue;
            }
            match query.source.as_deref() {
                Some(_) if source_is_term(trigger) => shapes.by_term.insert(id),
                Some(wanted) if wanted != source => false,
                _ => shapes.by_shape.insert(id),
            };
        }
        Ok(shapes)
    }
}

/// The term with the fewest entries.
fn rarest(connection: &Connection, terms: &[Term]) -> Outcome<Option<Term>> {
    if terms.len() < 2 {
        return Ok(terms.first().copied());
    }
    let mut statement =
        connection.prepare_cached("SELECT count(*) FROM (SELECT 1 FROM terms WHERE term = ?1 LIMIT ?2)")?;
    let mut rarest = None;
    for term in terms {
        let count: i64 = statement.query_row([term.0, TERM_COUNT_MAX], |row| row.get(0))?;
        rarest = rarest.into_iter().chain([(count, *term)]).min();
    }
    Ok(rarest.map(|(_, term)| term))
}

/// Whether a run has these terms and stands as wanted, as far as its row tells.
fn may_match(connection: &Connection, run: RunId, query: &RunQuery, terms: &[Term]) -> Outcome<bool> {
    let (class, own) = connection
        .prepare_cached("SELECT class, terms FROM runs WHERE id = ?1")?
        .query_row([run_number(run)], |row| Ok((row.get(0)?, Terms::unpack(row.get_ref(1)?.as_blob_or_null()?))))?;
    let stands = || Standing::in_class(class).state().is_some_and(|state| query.states.contains(&state));
    Ok(terms.iter().all(|term| own.all.contains(term)) && (query.states.is_empty() || stands()))
}

/// Which end of the ids comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Newest,
    Oldest,
}

/// Where ids come from.
#[derive(Debug, Clone, Copy)]
enum Source {
    All,
    Class(i64),
    Term(Term, i64),
}

/// Ids from several sources, merged in order.
pub(super) struct Candidates {
    ids: Range<u64>,
    direction: Direction,
    limit: usize,
    cursors: Vec<Cursor>,
    /// The next id of each cursor that has one; newest first means that the greatest comes out.
    heads: BinaryHeap<(Rank, usize)>,
    started: bool,
}

/// An id, ordered so that the one that comes next is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Oldest(Reverse<u64>),
    Newest(u64),
}

struct Cursor {
    source: Source,
    /// Ids that are still to be read.
    rest: Range<u64>,
    read: VecDeque<u64>,
    ended: bool,
}

impl Candidates {
    pub(super) fn new(ids: Range<u64>, direction: Direction, limit: usize) -> Self {
        Self { ids, direction, limit, cursors: Vec::new(), heads: BinaryHeap::new(), started: false }
    }

    /// Adds every run that stands so.
    pub(super) fn add_standing(&mut self, connection: &Connection, standing: Standing) -> Outcome<()> {
        self.add_classes(connection, standing, |_| true)
    }

    fn add_classes(
        &mut self,
        connection: &Connection,
        standing: Standing,
        wanted: impl Fn(i64) -> bool,
    ) -> Outcome<()> {
        let mut statement =
            connection.prepare_cached("SELECT min(class) FROM runs WHERE class >= ?1 AND class < ?2")?;
        let (mut from, to) = standing.classes();
        while let Some(class) = statement.query_row([from, to], |row| row.get::<_, Option<i64>>(0))? {
            if wanted(shape_in(class)) {
                self.add(Source::Class(class));
            }
            from = class + 1;
        }
        Ok(())
    }

    /// Adds the runs with this term: those that are listed under it, and all that run.
    fn add_listed(
        &mut self,
        connection: &Connection,
        term: Term,
        states: &[State],
        wanted: impl Fn(i64) -> bool,
    ) -> Outcome<()> {
        for state in states.iter().filter(|state| runs_only(**state)) {
            self.add_classes(connection, Standing::of(*state), &wanted)?;
        }
        let open = states.iter().any(|state| !state.is_ended()).then_some(Standing::OPEN);
        let ended = states.iter().filter(|state| state.is_ended()).map(|state| Standing::of(*state));
        let mut statement =
            connection.prepare_cached("SELECT min(class) FROM terms WHERE term = ?1 AND class >= ?2 AND class < ?3")?;
        for standing in ended.chain(open) {
            let (mut from, to) = standing.classes();
            while let Some(class) = statement.query_row([term.0, from, to], |row| row.get::<_, Option<i64>>(0))? {
                if wanted(shape_in(class)) {
                    self.add(Source::Term(term, class));
                }
                from = class + 1;
            }
        }
        Ok(())
    }

    fn add(&mut self, source: Source) {
        self.cursors.push(Cursor { source, rest: self.ids.clone(), read: VecDeque::new(), ended: false });
    }

    /// The next id over all sources.
    pub(super) fn next(&mut self, connection: &Connection) -> Outcome<Option<RunId>> {
        if !self.started {
            self.started = true;
            for place in 0..self.cursors.len() {
                self.refill(connection, place)?;
            }
        }
        let Some((rank, place)) = self.heads.pop() else { return Ok(None) };
        self.refill(connection, place)?;
        let (Rank::Oldest(Reverse(id)) | Rank::Newest(id)) = rank;
        Ok(Some(RunId::from_u64(id)))
    }

    fn refill(&mut self, connection: &Connection, place: usize) -> Outcome<()> {
        let chunk = (self.limit / self.cursors.len().max(1) + 1).clamp(CHUNK_MIN, CHUNK_MAX);
        let cursor = &mut self.cursors[place];
        if cursor.read.is_empty() && !cursor.ended {
            cursor.read(connection, self.direction, chunk)?;
        }
        if let Some(id) = cursor.read.pop_front() {
            let rank = match self.direction {
                Direction::Newest => Rank::Newest(id),
                Direction::Oldest => Rank::Oldest(Reverse(id)),
            };
            self.heads.push((rank, place));
        }
        Ok(())
    }
}

impl Cursor {
    /// Reads the next few ids of this source.
    fn read(&mut self, connection: &Connection, direction: Direction, chunk: usize) -> Outcome<()> {
        use Direction::{Newest, Oldest};
        let sql = match (self.source, direction) {
            (Source::All, Newest) => "SELECT id FROM runs WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
            (Source::All, Oldest) => "SELECT id FROM runs WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3",
            (Source::Class(_), Newest) => {
                "SELECT id FROM runs WHERE class = ?4 AND id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3"
            }
            (Source::Class(_), Oldest) => {
                "SELECT id FROM runs WHERE class = ?4 AND id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3"
            }
            (Source::Term(..), Newest) => {
                "SELECT run FROM terms WHERE class = ?4 AND run >= ?1 AND run < ?2 AND term = ?5
                 ORDER BY run DESC LIMIT ?3"
            }
            (Source::Term(..), Oldest) => {
                "SELECT run FROM terms WHERE class = ?4 AND run >= ?1 AND run < ?2 AND term = ?5
                 ORDER BY run LIMIT ?3"
            }
        };
        let (from, to, limit) = (self.rest.start.cast_signed(), self.rest.end.cast_signed(), number(chunk));
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = match self.source {
            Source::All => statement.query(params![from, to, limit]),
            Source::Class(class) => statement.query(params![from, to, limit, class]),
            Source::Term(term, class) => statement.query(params![from, to, limit, class, term.0]),
        }?;
        while let Some(row) = rows.next()? {
            self.read.push_back(run_id(row.get(0)?).as_u64());
        }
        self.ended = self.read.len() < chunk;
        match (self.read.back(), direction) {
            (Some(last), Newest) => self.rest.end = *last,
            (Some(last), Oldest) => self.rest.start = last + 1,
            (None, _) => {}
        }
        Ok(())
    }
}
