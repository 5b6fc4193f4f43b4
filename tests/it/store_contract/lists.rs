//! Lists of runs against a plain model, on random data from a fixed seed.

use clawhook::domain::event::{Event, WaitReason};
use clawhook::domain::run::{Run, RunHead};
use clawhook::domain::state::State;
use clawhook::domain::trigger::{Trigger, TriggerKind};
use clawhook::id::{Revision, RunId, ScheduleName, WorkflowName};
use clawhook::store::{RunQuery, Store};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::sync::Arc;

use super::fixture::{
    Place, acceptance, add, at, claimed, delivery, failed, finished, held, new_run, only, prepared, run_of,
};

const RUNS: i64 = 250;
const QUERIES: usize = 500;
const WORKFLOWS: [&str; 4] = ["orders", "stock", "refunds", "rare"];
const SOURCES: [&str; 6] = ["orders-hook", "stock-hook", "nightly", "ann", "bob", "nobody"];
const ORDERS: [&str; 4] = ["#1", "#2", "#3", "#4"];

fn trigger(random: &mut StdRng, earlier: &[RunId]) -> Trigger {
    match random.random_range(0..6) {
        0..3 => delivery(["orders", "stock"].choose(random).unwrap()),
        3 => Trigger::Slot {
            schedule: ScheduleName::new("nightly").unwrap(),
            revision: Revision::of(b"schedule"),
            due: at(0),
            backfill: false,
        },
        4 => Trigger::Manual { by: (*["ann", "bob", "nightly"].choose(random).unwrap()).into() },
        _ => match earlier.choose(random) {
            Some(of) => Trigger::Replay { of: *of, by: "ann".into() },
            None => Trigger::Manual { by: "ann".into() },
        },
    }
}

/// Moves a run on by some way that the table of states allows.
async fn drive(store: &Arc<dyn Store>, random: &mut StdRng, run: &mut Run, minute: i64) {
    let lease = claimed("w", at(minute + 1));
    let labels = prepared(&[("order", ORDERS.choose(random).unwrap()), ("team", ["a", "b"].choose(random).unwrap())]);
    let wait = Event::Suspended { until: at(minute + 9), reason: WaitReason::Drained };
    let cancel = Event::CancelRequested { by: "ann".into(), reason: "why not".into() };
    let resumed = Event::Resumed { by: "ann".into(), again: vec![], reopened: vec![], repin: None };
    let state = run.state;
    let steps: Vec<Event> = match (state, random.random_range(0..4)) {
        (State::Queued, 0) => return store.park(run.id, "lane").await.unwrap(),
        (State::Queued, 1) => vec![lease],
        (State::Queued, _) if run.prepared.is_none() => vec![lease, labels],
        (State::Queued, _) => vec![lease],
        (State::Running, 0) => vec![wait],
        (State::Running, 1) => vec![failed(*[500, 503].choose(random).unwrap())],
        (State::Running, 2) => vec![Event::LeaseRenewed { lease_until: at(minute + 2) }],
        (State::Running, _) => vec![finished()],
        (State::Waiting, _) => vec![Event::Woken],
        (State::Cancelling, _) => vec![Event::Stopped],
        (State::Failed | State::Cancelled, 0) => vec![resumed],
        (State::Succeeded | State::Failed | State::Cancelled, _) => return,
    };
    let steps = if !state.is_ended() && random.random_range(0..8) == 0 { vec![cancel] } else { steps };
    if state == State::Cancelling && steps[0].name() == "cancel_requested" {
        return;
    }
    add(store, run, at(minute), steps).await.unwrap();
}

fn query(random: &mut StdRng, heads: &[RunHead]) -> RunQuery {
    let mut some = |chance: f64| random.random_bool(chance);
    let [workflow, states, trigger, source, since, until, cause, before] =
        [0.3, 0.5, 0.2, 0.3, 0.2, 0.2, 0.15, 0.3].map(&mut some);
    let labels = if some(0.4) { 1 + usize::from(some(0.3)) } else { 0 };
    let replayed = heads.iter().find(|head| head.trigger == TriggerKind::Replay).map(|head| head.source.clone());
    let names = [("order", *ORDERS.choose(random).unwrap()), ("team", "a")];
    let states_wanted = random.random_range(1..4);
    RunQuery {
        workflow: workflow.then(|| WorkflowName::new(WORKFLOWS.choose(random).unwrap()).unwrap()),
        states: if states { State::ALL.choose_multiple(random, states_wanted).copied().collect() } else { Vec::new() },
        trigger: trigger.then(|| *TriggerKind::ALL.choose(random).unwrap()),
        source: source.then(|| match random.random_range(0..7) {
            6 => replayed.unwrap_or_default(),
            place => SOURCES[place].to_owned(),
        }),
        since: since.then(|| at(random.random_range(0..RUNS))),
        until: until.then(|| at(random.random_range(0..RUNS))),
        labels: names[..labels].iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        cause: cause.then(|| "http.status/erp/503".into()),
        before: before.then(|| heads.choose(random).unwrap().id),
        limit: random.random_range(1..60),
    }
}

pub(super) async fn every_filter_agrees_with_a_plain_one(place: Place) {
    let store = &place.store;
    let random = &mut StdRng::seed_from_u64(20_261_122);
    let (mut runs, mut ids) = (Vec::new(), Vec::new());
    for number in 0..RUNS {
        let mut asked = acceptance(&number.to_string(), at(number));
        let workflow = if number == 77 { "rare" } else { WORKFLOWS[random.random_range(0..3)] };
        asked.runs = vec![new_run(workflow, trigger(random, &ids))];
        if random.random_bool(0.1) {
            asked.runs[0].accepted = held(asked.runs[0].accepted.clone());
        }
        ids.push(only(store.accept(asked).await));
        runs.push(run_of(store, ids[ids.len() - 1]).await);
        for _ in 0..random.random_range(0..6) {
            let place = random.random_range(0..runs.len());
            drive(store, random, &mut runs[place], number).await;
        }
    }
    let heads: Vec<_> = runs.iter().rev().map(Run::head).collect();
    let mut shown = 0;
    for _ in 0..QUERIES {
        let query = query(random, &heads);
        let plain: Vec<_> = heads.iter().filter(|head| query.matches(head)).take(query.limit).cloned().collect();
        shown += plain.len();
        assert_eq!(store.runs(&query).await.unwrap(), plain, "{query:?}");
    }
    assert!(shown > QUERIES, "the queries find next to nothing: {shown}");
    let counts = store.open_counts().await.unwrap();
    let plain =
        State::ALL[..4].iter().map(|state| (*state, heads.iter().filter(|head| head.state == *state).count() as u64));
    assert_eq!(counts, plain.collect::<Vec<_>>());
}

pub(super) async fn pages_follow_each_other(place: Place) {
    let store = &place.store;
    let mut ids = Vec::new();
    for number in 0..30 {
        let mut asked = acceptance(&number.to_string(), at(0));
        asked.runs = vec![new_run(WORKFLOWS[number % 2], delivery("orders"))];
        ids.push(only(store.accept(asked).await));
    }
    ids.reverse();
    for states in [vec![], vec![State::Queued, State::Failed]] {
        let mut query = RunQuery { states, limit: 7, ..RunQuery::default() };
        let mut seen = Vec::new();
        loop {
            let page = store.runs(&query).await.unwrap();
            seen.extend(page.iter().map(|head| head.id));
            match page.last() {
                Some(last) => query.before = Some(last.id),
                None => break,
            }
        }
        assert_eq!(seen, ids);
    }
}
