//! Lists of runs. A filter names classes (see `class.rs`): the newest of each class are read by index and merged. A
//! label or a cause names a term, and the classes under it. So a page costs a few seeks for each class that matches, and
//! never a walk over runs that do not match, except where two labels are wanted at once.

use std::collections::BTreeSet;

use super::super::RunQuery;
use super::super::class::{Shape, Standing, Term, runs_only, source_is_term};
use super::session::Session;
use super::shapes::Shapes;
use super::trouble::Outcome;
use super::{number, read};
use crate::domain::run::RunHead;
use crate::domain::state::State;

/// How far a term's entries are counted to find the rarest.
const TERM_COUNT_MAX: i64 = 1_000;
/// Ids that are read at a time.
const CHUNK_MIN: usize = 16;
const CHUNK_MAX: usize = 1_000;

/// A page of runs, newest first.
pub(super) async fn runs(session: &Session, shapes: &Shapes, query: &RunQuery) -> Outcome<Vec<RunHead>> {
    let places = Places::of(session, shapes, query).await?;
    let ids = query.ids();
    let (first, mut past) = (ids.start.cast_signed(), ids.end.cast_signed());
    let mut chunk = query.limit.clamp(CHUNK_MIN, CHUNK_MAX);
    let mut page = Vec::new();
    loop {
        let found = places.newest(session, first, past, chunk).await?;
        // A head may be newer than the index row that was found, and hashes may meet: only the head decides.
        let heads = if found.is_empty() { Vec::new() } else { read::heads(session, &found).await? };
        page.extend(heads.into_iter().filter(|head| query.matches(head)));
        page.truncate(query.limit);
        match found.last() {
            Some(last) if page.len() < query.limit && found.len() == chunk => past = *last,
            _ => return Ok(page),
        }
        chunk = (chunk * 2).min(CHUNK_MAX);
    }
}

/// Where the wanted runs are.
#[derive(Debug, Default)]
struct Places {
    everywhere: bool,
    classes: Vec<i64>,
    /// A term, the classes under it, and the other terms that each run must have.
    listed: Option<(Term, Vec<i64>, Vec<i64>)>,
}

impl Places {
    async fn of(session: &Session, shapes: &Shapes, query: &RunQuery) -> Outcome<Self> {
        let mut terms: Vec<_> = query.labels.iter().map(|(name, value)| Term::label(name, value)).collect();
        terms.extend(query.cause.as_deref().map(Term::cause));
        let no_shape = query.workflow.is_none() && query.trigger.is_none() && query.source.is_none();
        if terms.is_empty() && no_shape && query.states.is_empty() {
            return Ok(Self { everywhere: true, ..Self::default() });
        }
        let states = if query.states.is_empty() { &State::ALL[..] } else { &query.states };
        let (by_shape, by_term) = matching(&shapes.all(session).await?, query);
        if let Some(rarest) = rarest(session, &terms).await? {
            let wanted: Vec<i64> = by_shape.into_iter().chain(by_term).collect();
            let others = terms.iter().filter(|term| **term != rarest).map(|term| term.0).collect();
            // What runs may not be listed yet.
            let running = states.iter().copied().filter(|state| runs_only(*state)).map(Standing::of);
            let classes = running.flat_map(|standing| classes(standing, &wanted)).collect();
            return Ok(Self {
                classes,
                listed: Some((rarest, term_classes(states, &wanted), others)),
                ..Self::default()
            });
        }
        let standings = || states.iter().flat_map(|state| Standing::seen_as(*state));
        let listed = query.source.as_deref().filter(|_| !by_term.is_empty());
        let listed = listed.map(|source| (Term::source(source), term_classes(states, &by_term), Vec::new()));
        let classes = standings().flat_map(|standing| classes(standing, &by_shape)).collect();
        Ok(Self { classes, listed, ..Self::default() })
    }

    /// The newest runs with ids from `first` and below `past`, newest first; fewer than `count` when there are no more.
    async fn newest(&self, session: &Session, first: i64, past: i64, count: usize) -> Outcome<Vec<i64>> {
        let limit = number(count);
        if self.everywhere {
            let rows = session.query(EVERYWHERE, &[&first, &past, &limit]).await?;
            return Ok(rows.iter().map(|row| row.get(0)).collect());
        }
        let mut ids = BTreeSet::new();
        if !self.classes.is_empty() {
            let rows = session.query(BY_CLASS, &[&self.classes, &first, &past, &limit]).await?;
            ids.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        }
        if let Some((term, classes, others)) = &self.listed {
            let rows = session.query(BY_TERM, &[classes, &first, &past, &limit, &term.0, others]).await?;
            ids.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        }
        Ok(ids.into_iter().rev().take(count).collect())
    }
}

/// The shapes that a query can match: those of which all runs do, and those of which runs with the source's term do.
fn matching(shapes: &[(Shape, i64)], query: &RunQuery) -> (Vec<i64>, Vec<i64>) {
    let (mut by_shape, mut by_term) = (Vec::new(), Vec::new());
    for (Shape { workflow, trigger, source }, number) in shapes {
        if query.workflow.as_ref().is_some_and(|wanted| wanted != workflow)
            || query.trigger.is_some_and(|wanted| wanted != *trigger)
        {
            continue;
        }
        match query.source.as_deref() {
            Some(_) if source_is_term(*trigger) => by_term.push(*number),
            Some(wanted) if wanted != source => {}
            _ => by_shape.push(*number),
        }
    }
    (by_shape, by_term)
}

fn classes(standing: Standing, shapes: &[i64]) -> impl Iterator<Item = i64> {
    shapes.iter().map(move |shape| standing.class(*shape))
}

/// The classes under which a term lists runs in these states.
fn term_classes(states: &[State], shapes: &[i64]) -> Vec<i64> {
    let open = states.iter().any(|state| !state.is_ended()).then_some(Standing::OPEN);
    let ended = states.iter().filter(|state| state.is_ended()).map(|state| Standing::of(*state));
    ended.chain(open).flat_map(|standing| classes(standing, shapes)).collect()
}

/// The term with the fewest entries.
async fn rarest(session: &Session, terms: &[Term]) -> Outcome<Option<Term>> {
    if terms.len() < 2 {
        return Ok(terms.first().copied());
    }
    let hashes: Vec<i64> = terms.iter().map(|term| term.0).collect();
    let sql = "SELECT v.term FROM unnest($1::bigint[]) AS v (term) CROSS JOIN LATERAL (SELECT count(*) AS n FROM \
               (SELECT 1 FROM clawhook.terms t WHERE t.term = v.term LIMIT $2) s) c ORDER BY c.n LIMIT 1";
    let rows = session.query(sql, &[&hashes, &TERM_COUNT_MAX]).await?;
    Ok(rows.first().map(|row| Term(row.get(0))))
}

const EVERYWHERE: &str = "SELECT id FROM clawhook.runs WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3";
const BY_CLASS: &str = "SELECT r.id FROM unnest($1::bigint[]) AS c (class) CROSS JOIN LATERAL \
    (SELECT id FROM clawhook.runs WHERE class = c.class AND id >= $2 AND id < $3 ORDER BY id DESC LIMIT $4) r \
    ORDER BY r.id DESC LIMIT $4";
const BY_TERM: &str = "SELECT r.run FROM unnest($1::bigint[]) AS c (class) CROSS JOIN LATERAL \
    (SELECT t.run FROM clawhook.terms t WHERE t.term = $5 AND t.class = c.class AND t.run >= $2 AND t.run < $3 \
     AND NOT EXISTS (SELECT FROM unnest($6::bigint[]) AS o (term) WHERE NOT EXISTS \
     (SELECT FROM clawhook.terms u WHERE u.term = o.term AND u.class = t.class AND u.run = t.run)) \
     ORDER BY t.run DESC LIMIT $4) r \
    ORDER BY r.run DESC LIMIT $4";
