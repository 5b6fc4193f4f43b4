//! The real engine over a store that fails on purpose, on paused time, from one seed: several gateways, killed at any
//! await or frozen past their leases, while deliveries, slots and cancels pour in. Then the faults stop, the work runs
//! dry, and the record is held against what senders and far ends saw.
//!
//! Each invariant names the line whose loss it catches; the tests at the end take such lines away one by one.
//!
//! `SIMULATION_SEEDS=1000` runs more, `SIMULATION_SEED=17` one alone.

mod gate;
mod sabotage;
mod script;
mod shelf;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clawhook::clock::{Clock, TestClock, Timestamp};
use clawhook::domain::attempt::AttemptResult;
use clawhook::domain::event::Event;
use clawhook::domain::run::Run;
use clawhook::domain::trigger::Trigger;
use clawhook::id::{RunId, Seq};
use clawhook::store::faulty::{Faults, Faulty};
use clawhook::store::memory::Memory;
use clawhook::store::{RunQuery, Store};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use sabotage::{Sabotage, Sabotaged};
use shelf::Shelf;
use world::{EVERY, World};

/// Seeds of an ordinary run.
const SEEDS: u64 = 300;
/// Deliveries of one simulation.
const DELIVERIES: u64 = 14;
/// Gateways on the store.
const NODES: usize = 3;
/// When the trouble stops, in simulated time.
const TROUBLE: Duration = Duration::from_secs(90);
/// Until when the work must have run dry after that.
const QUIET: Duration = Duration::from_mins(20);

#[test]
fn nothing_is_lost_and_nothing_is_doubled() {
    let one = std::env::var("SIMULATION_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = std::env::var("SIMULATION_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let range = one.map_or(0..seeds, |seed: u64| seed..seed + 1);
    for seed in range {
        let broken = simulate(seed, Sabotage::None);
        assert!(broken.is_empty(), "seed {seed} broke:\n{}", broken.join("\n"));
    }
}

/// Deletes a line and shows that the simulation notices, within a few seeds.
#[track_caller]
fn check_that_it_bites(sabotage: Sabotage, caught_by: &str) {
    let caught = (0..SEEDS).any(|seed| simulate(seed, sabotage).iter().any(|broken| broken.starts_with(caught_by)));
    assert!(caught, "{sabotage:?} went unnoticed by `{caught_by}` in {SEEDS} seeds");
}

#[test]
fn without_the_sequence_check_it_turns_red() {
    check_that_it_bites(Sabotage::NoSequenceCheck, "every log folds");
}

#[test]
fn without_the_dedupe_it_turns_red() {
    check_that_it_bites(Sabotage::NoDedupe, "one delivery, one run");
}

#[test]
fn without_the_durable_accept_it_turns_red() {
    check_that_it_bites(Sabotage::NotDurable, "every receipt has its run");
}

#[test]
fn without_the_start_on_record_it_turns_red() {
    check_that_it_bites(Sabotage::StartNotDurable, "what cannot be told from a repeat is done once");
}

#[test]
fn without_the_artifacts_it_turns_red() {
    check_that_it_bites(Sabotage::ArtifactsForgotten, "what was kept is there");
}

/// One simulation; answers what it broke.
fn simulate(seed: u64, sabotage: Sabotage) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let memory = Memory::new();
        let faulty = Faulty::new(Sabotaged::new(memory, sabotage, seed), seed, Faults::BAD_DAY);
        let clock = TestClock::at(Timestamp::from_secs(1_795_338_000));
        let shelf = Shelf::new(seed, sabotage == Sabotage::ArtifactsForgotten);
        let world = World::new(Arc::new(faulty), clock, shelf, seed);
        trouble(&world, seed).await;
        world.calm();
        run_dry(&world).await;
        broken(&world).await
    })
}

/// Deliveries and cancels, kills and freezes, until the trouble stops.
async fn trouble(world: &World, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed ^ 0x7ab1e);
    let mut nodes: Vec<_> = (0..NODES).map(|_| world.start_node()).collect();
    let senders: Vec<_> = (0..DELIVERIES).map(|number| world.send(number, random.random_range(0..60_000))).collect();
    let end = tokio::time::Instant::now() + TROUBLE;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..6_000))).await;
        let place = random.random_range(0..NODES);
        match random.random_range(0..6) {
            // Killed at whatever await it stands; another process comes in its place.
            0 | 1 => nodes[place] = world.start_node(),
            // A zombie: it stands still past its leases, then wakes and goes on as if nothing had been.
            2 => nodes[place].freeze(Duration::from_millis(random.random_range(1_000..30_000))),
            3 => world.cancel_one(&mut random).await,
            _ => {}
        }
    }
    for sender in senders {
        sender.await.unwrap();
    }
    drop(nodes);
}

/// One healthy gateway, until nothing is left to do.
async fn run_dry(world: &World) {
    let node = world.start_node();
    let end = tokio::time::Instant::now() + QUIET;
    world.stop_schedules();
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(5)).await;
        if world.store.inner().open_counts().await.unwrap().iter().all(|(_, count)| *count == 0) {
            break;
        }
    }
    drop(node);
}

/// Holds the record against what was seen outside.
async fn broken(world: &World) -> Vec<String> {
    let store = world.store.inner();
    let mut broken = Vec::new();
    let mut runs = BTreeMap::new();
    for head in store.runs(&RunQuery { limit: 10_000, ..RunQuery::default() }).await.unwrap() {
        let log = store.log(head.id).await.unwrap();
        match Run::fold(head.id, log.iter().cloned()) {
            // `append` without its sequence check lets two workers write into one log.
            Err(error) => broken.push(format!("every log folds: {error}")),
            Ok(run) if !run.state.is_ended() => broken.push(format!("every run ends: {} is {}", run.id, run.state)),
            Ok(run) => {
                if run.head().failure.is_some_and(|failure| failure.code == "store.failed") {
                    broken.push(format!("no run fails for the store's sake: {}", run.id));
                }
                if let Some(failure) = run.failure.as_ref().filter(|failure| failure.code.starts_with("artifact.")) {
                    broken.push(format!("what was kept is there: {} failed, {}", run.id, failure.message));
                }
                broken.extend(finished_steps_run_once(run.id, &log));
                runs.insert(run.id, run);
            }
        }
    }
    broken.extend(receipts(world, &runs));
    broken.extend(slots(world, &runs));
    broken.extend(effects(world));
    // The log names artifacts only that were there before.
    broken.extend(world.wrongs().into_iter().map(|wrong| format!("later tasks see what earlier ones gave: {wrong}")));
    broken
}

/// `accept` must be durable before it answers, and must dedupe in the same write.
fn receipts(world: &World, runs: &BTreeMap<RunId, Run>) -> Vec<String> {
    let mut broken = Vec::new();
    let mut delivered: BTreeMap<String, BTreeSet<RunId>> = BTreeMap::new();
    for run in runs.values() {
        if let Trigger::Delivery { delivery, .. } = &run.accepted.trigger {
            delivered.entry(delivery.id.clone().unwrap()).or_default().insert(run.id);
        }
    }
    for (delivery, answered) in world.receipts() {
        for run in &answered {
            if !runs.contains_key(run) {
                broken.push(format!("every receipt has its run: delivery {delivery} was promised {run}"));
            }
        }
        let made = delivered.get(&delivery).cloned().unwrap_or_default();
        if answered.len() > 1 || made.len() > 1 {
            broken.push(format!("one delivery, one run: {delivery} was promised {answered:?} and made {made:?}"));
        }
    }
    broken
}

/// The driver must not start what the log says is done.
fn finished_steps_run_once(id: RunId, log: &[clawhook::domain::event::Entry]) -> Vec<String> {
    let mut done = BTreeSet::new();
    let mut broken = Vec::new();
    for entry in log {
        match &entry.event {
            Event::AttemptStarted { task, .. } if done.contains(task) => {
                broken.push(format!("finished steps do not run again: {task} of {id} at {:?}", entry.seq));
            }
            Event::AttemptEnded(ended) if matches!(ended.result, AttemptResult::Succeeded { .. }) => {
                done.insert(ended.task.clone());
            }
            _ => {}
        }
    }
    debug_assert!(log.first().is_none_or(|entry| entry.seq == Seq(0)));
    broken
}

/// Slots enter by the same `accept`, keyed by schedule and due time; the watermark moves after it, never before.
fn slots(world: &World, runs: &BTreeMap<RunId, Run>) -> Vec<String> {
    let mut dues: Vec<_> = runs
        .values()
        .filter_map(|run| match &run.accepted.trigger {
            Trigger::Slot { due, .. } => Some(*due),
            _ => None,
        })
        .collect();
    dues.sort_unstable();
    let mut broken = Vec::new();
    for pair in dues.windows(2) {
        if pair[0] == pair[1] {
            broken.push(format!("a slot fires once: {} fired twice", pair[0]));
        } else if pair[1].since(pair[0]) != EVERY {
            broken.push(format!("no slot is left out: nothing between {} and {}", pair[0], pair[1]));
        }
    }
    if dues.is_empty() {
        broken.push(format!("no slot is left out: none fired until {}", world.clock.now()));
    }
    broken
}

/// An attempt is on record before it happens, under a key that stays the same.
fn effects(world: &World) -> Vec<String> {
    let mut broken = Vec::new();
    let mut keys: BTreeMap<(RunId, String), BTreeSet<String>> = BTreeMap::new();
    let mut refunds: BTreeMap<RunId, u32> = BTreeMap::new();
    for effect in world.effects() {
        keys.entry((effect.run, effect.task.clone())).or_default().insert(effect.key);
        if effect.task == script::REFUND {
            *refunds.entry(effect.run).or_default() += 1;
        }
    }
    for ((run, task), keys) in keys {
        if keys.len() > 1 {
            broken.push(format!("the idempotency key stays the same: {task} of {run} used {keys:?}"));
        }
    }
    for (run, times) in refunds.into_iter().filter(|(_, times)| *times > 1) {
        broken.push(format!("what cannot be told from a repeat is done once: {run} did it {times} times"));
    }
    broken
}

/// The simulation must meet what it is for: leases that run out, attempts that are cut off, cancels, retries.
#[test]
fn the_trouble_is_real() {
    let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
    // Cancels are rare, and ids and jitter differ from one test run to the next.
    for seed in 0..40 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let faulty = Faulty::new(Sabotaged::new(Memory::new(), Sabotage::None, seed), seed, Faults::BAD_DAY);
            let clock = TestClock::at(Timestamp::from_secs(1_795_338_000));
            let world = World::new(Arc::new(faulty), clock, Shelf::new(seed, false), seed);
            trouble(&world, seed).await;
            world.calm();
            run_dry(&world).await;
            *seen.entry("read back").or_default() += world.shelf.read();
            let store = world.store.inner();
            for head in store.runs(&RunQuery { limit: 10_000, ..RunQuery::default() }).await.unwrap() {
                *seen.entry(head.state.as_str()).or_default() += 1;
                for entry in store.log(head.id).await.unwrap() {
                    if let Event::AttemptEnded(ended) = &entry.event
                        && matches!(ended.result, AttemptResult::Succeeded { .. })
                    {
                        *seen.entry(if ended.kept.is_empty() { "stayed" } else { "kept" }).or_default() += 1;
                    }
                    *seen.entry(entry.event.name()).or_default() += 1;
                }
            }
        });
    }
    for event in [
        "lease_expired",
        "lease_renewed",
        "suspended",
        "woken",
        "cancel_requested",
        "succeeded",
        "failed",
        "cancelled",
        "kept",
        "stayed",
        "read back",
    ] {
        assert!(seen.get(event).is_some_and(|times| *times >= 5), "`{event}` hardly ever happened: {seen:?}");
    }
}
