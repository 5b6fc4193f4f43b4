#![expect(clippy::unwrap_used, reason = "tests")]
use std::collections::{BinaryHeap, VecDeque};

use super::told::Points;
use super::*;

const START: Timestamp = Timestamp::from_secs(1_795_338_000);

fn limit(rate: &str, burst: u32) -> Limit {
    Limit { rate: rate.parse().unwrap(), burst: NonZeroU32::new(burst).unwrap() }
}

fn run(number: i64) -> RunId {
    RunId::floor(START.plus(Duration::from_secs(u64::try_from(number).unwrap())))
}

/// A budget with the time that a test says it is.
struct Desk {
    budget: Budget,
    limit: Option<Limit>,
    now: Timestamp,
}

impl Desk {
    fn new(limit: Option<Limit>) -> Self {
        let mut budget = Budget::default();
        budget.relimit(limit, START);
        Self { budget, limit, now: START }
    }

    fn take(&mut self, run_number: i64, key: &str) -> Option<Duration> {
        let at = self.budget.take(Ticket { run: run(run_number), key }, self.now);
        at.map(|at| at.since(self.now))
    }

    /// Takes as many as go at once.
    fn drain(&mut self) -> usize {
        let taken = (0..10_000).take_while(|_| self.take(0, "drain").is_none()).count();
        self.budget.queue = Queue::default();
        self.budget.in_flight = 0;
        taken
    }

    fn follow(&mut self, told: &Told) -> Option<Duration> {
        self.budget.follow(told, self.limit, self.now).map(|at| at.since(self.now))
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }
}

const SEC: Duration = Duration::from_secs(1);

fn refused(after: Option<Duration>) -> Told {
    Told { throttled: Some(Throttled { retry_after: after }), ..Told::default() }
}

#[test]
fn a_burst_goes_out_and_then_the_rate_rules() {
    let mut desk = Desk::new(Some(limit("2/s", 10)));
    assert_eq!(desk.drain(), 9, "what comes back in half a second is kept back");
    assert_eq!(desk.take(1, "a"), Some(Duration::from_millis(501)));
    assert_eq!(desk.take(2, "b"), Some(Duration::from_millis(1001)));
    desk.pass(Duration::from_millis(501));
    assert!(desk.take(2, "b").is_some(), "the token is for whoever came first");
    assert_eq!(desk.take(1, "a"), None);
    desk.pass(SEC);
    assert_eq!(desk.take(2, "b"), None);
    desk.pass(Duration::from_hours(1));
    assert_eq!(desk.drain(), 9);
    assert_eq!(Desk::new(None).drain(), 10_000, "without a limit nobody waits");
}

#[test]
fn a_run_with_a_thousand_calls_does_not_hold_up_another() {
    let mut desk = Desk::new(Some(limit("1/s", 1)));
    assert_eq!(desk.take(1, "first"), None);
    for item in 0..1000 {
        assert!(desk.take(1, &format!("item-{item}")).is_some());
    }
    desk.pass(Duration::from_millis(1001));
    assert_eq!(desk.take(1, "item-0"), None);
    // The other run comes now, behind 999 calls of the first, and is next or the one after.
    assert!(desk.take(2, "single").unwrap() <= Duration::from_millis(2002));
    let mut order = Vec::new();
    for _ in 0..4 {
        desk.pass(Duration::from_millis(1001));
        let next = ["single", "item-1", "item-2", "item-3"]
            .into_iter()
            .find(|key| !order.contains(key) && desk.take(if *key == "single" { 2 } else { 1 }, key).is_none());
        order.extend(next);
    }
    assert!(order.iter().position(|key| *key == "single").unwrap() <= 1, "{order:?}");
    assert_eq!(order.len(), 4, "and nobody loses a turn by it: {order:?}");
}

#[test]
fn fresh_runs_do_not_starve_an_old_one() {
    let mut desk = Desk::new(Some(limit("1/s", 1)));
    desk.drain();
    for item in 0..5 {
        desk.take(0, &format!("old-{item}"));
    }
    // Each second two new runs want one call each, twice of what goes.
    let (mut served, mut waiting, mut fresh_served) = (0, VecDeque::new(), 0);
    for second in 1..60 {
        for fresh in [second * 2, second * 2 + 1] {
            desk.take(fresh, &fresh.to_string());
            waiting.push_back(fresh);
        }
        desk.pass(Duration::from_millis(1001));
        if served < 5 && desk.take(0, &format!("old-{served}")).is_none() {
            served += 1;
        } else if let Some(place) = waiting.iter().position(|fresh| desk.take(*fresh, &fresh.to_string()).is_none()) {
            waiting.remove(place);
            fresh_served += 1;
        }
    }
    assert_eq!(served + fresh_served, 59, "no turn is lost");
    // Sixty runs are waiting in the end, and each turn is shared by all: the old one gets the sum of 1/2, 1/3 … 1/60.
    assert!(served >= 3, "only {served} of the old ones went out");
}

#[test]
fn a_place_is_kept_for_who_comes_back_and_lapses_for_who_does_not() {
    let mut desk = Desk::new(Some(limit("1/m", 1)));
    desk.drain();
    let at = desk.take(1, "parked").unwrap();
    assert!(desk.take(2, "behind").unwrap() > at);
    desk.pass(at + Duration::from_secs(20));
    assert!(desk.take(2, "behind").is_some(), "the token waits for its owner");
    assert_eq!(desk.take(1, "parked"), None);
    let at = desk.take(2, "behind").unwrap();
    desk.take(3, "patient");
    desk.pass(at + limits::QUOTA_TICKET_KEPT);
    assert_eq!(desk.take(3, "patient"), None, "whoever did not come has lost the place");
}

#[test]
fn the_memory_of_a_queue_is_bounded_and_stays_fair() {
    let mut desk = Desk::new(Some(limit("1/h", 1)));
    desk.drain();
    for item in 0..limits::QUOTA_TICKETS_MAX + 10 {
        desk.take(1, &item.to_string());
    }
    assert_eq!(desk.budget.queue.len(), limits::QUOTA_TICKETS_MAX);
    assert!(desk.take(2, "single").unwrap() <= Duration::from_hours(2) + SEC);
    assert_eq!(desk.budget.queue.len(), limits::QUOTA_TICKETS_MAX);
}

#[test]
fn nobody_goes_before_a_pause_is_over() {
    for limit in [None, Some(limit("10/s", 20))] {
        let mut desk = Desk::new(limit);
        assert_eq!(desk.take(1, "a"), None);
        let known = desk.follow(&refused(Some(2 * SEC)));
        assert_eq!(known, limit.map(|_| 2 * SEC), "only a connection with a budget pauses instead of failing");
        for key in ["a", "b", "c"] {
            assert!(desk.take(1, key).unwrap() >= 2 * SEC);
        }
        desk.pass(2 * SEC + Duration::from_millis(300));
        assert_eq!(desk.take(1, "a"), None);
    }
}

#[test]
fn a_refusal_without_a_moment_backs_off_by_one_turn_and_doubles() {
    let mut desk = Desk::new(Some(limit("1/m", 15)));
    let mut pauses = Vec::new();
    for _ in 0..3 {
        pauses.push(desk.follow(&refused(None)).unwrap().as_secs());
        // Those that were under way with it are refused too, and change nothing.
        desk.follow(&refused(None));
        desk.pass(Duration::from_mins(10));
    }
    assert_eq!(pauses, [60, 120, 240]);
    desk.follow(&Told::default());
    assert_eq!(desk.follow(&refused(None)).unwrap().as_secs(), 60);
    for _ in 0..limits::QUOTA_REFUSALS_MAX {
        desk.pass(Duration::from_mins(10));
        desk.follow(&refused(None));
    }
    desk.pass(Duration::from_mins(10));
    assert_eq!(desk.follow(&refused(None)), None, "a far end that never lets anybody in is a failure");
}

#[test]
fn the_far_end_is_followed_and_what_is_written_is_never_exceeded() {
    let slower = Told { per_second: Some(0.5), ..Told::default() };
    let mut desk = Desk::new(Some(limit("2/s", 1)));
    desk.follow(&slower);
    desk.drain();
    assert_eq!(desk.take(1, "a"), Some(Duration::from_millis(2001)));
    let faster = Told { per_second: Some(100.0), ..Told::default() };
    desk.follow(&faster);
    assert_eq!(desk.take(1, "a"), Some(Duration::from_millis(501)));

    let shopify = |used, total| Told { used: Some((used, total)), ..Told::default() };
    let mut desk = Desk::new(None);
    desk.follow(&shopify(38.0, 40.0));
    assert_eq!(desk.drain(), 2);
    assert_eq!(desk.take(1, "a"), Some(Duration::from_millis(501)), "40 requests come back at 2 a second");
    let mut desk = Desk::new(Some(limit("1/s", 5)));
    desk.follow(&shopify(1.0, 40.0));
    assert_eq!(desk.drain(), 4);
    desk.pass(Duration::from_mins(1));
    desk.follow(&shopify(39.0, 40.0));
    assert_eq!(desk.drain(), 1);
}

#[test]
fn points_of_queries_are_counted() {
    let told = |requested, available, throttled| Told {
        points: Some(Points { requested, available, max: 2000.0, per_second: 100.0 }),
        throttled,
        ..Told::default()
    };
    let mut desk = Desk::new(None);
    desk.follow(&told(500.0, 1200.0, None));
    assert_eq!(desk.drain(), 2);
    assert_eq!(desk.take(1, "a"), Some(Duration::from_millis(3001)));
    let mut desk = Desk::new(None);
    let at = desk.follow(&told(752.0, 120.0, Some(Throttled { retry_after: None }))).unwrap();
    assert_eq!(at, Duration::from_millis(6320) + limits::QUOTA_SPACING);
    assert!(desk.take(1, "a").unwrap() >= at);
}

#[test]
fn walmarts_window_is_kept_to() {
    let mut desk = Desk::new(None);
    desk.follow(&Told { window: Some((2.0, START.plus(Duration::from_mins(1)))), ..Told::default() });
    assert_eq!(desk.drain(), 2);
    assert_eq!(desk.take(1, "a"), Some(Duration::from_mins(1)));
    desk.pass(Duration::from_mins(1));
    assert_eq!(desk.drain(), 10_000);
}

/// A far end that counts by the documented burst and restore, and refuses what is too much.
struct FarBucket {
    level: f64,
    at: Timestamp,
    burst: f64,
    per_second: f64,
}

impl FarBucket {
    fn takes(&mut self, at: Timestamp) -> bool {
        let came_back = at.since(self.at).as_secs_f64() * self.per_second;
        self.level = (self.level + came_back).min(self.burst);
        self.at = at;
        let takes = self.level >= 1.0;
        self.level -= if takes { 1.0 } else { 0.0 };
        takes
    }
}

/// A day of report pulls: requests for reports at 0.0167/s and burst 15, looks at them at 2/s and burst 15, all of
/// them in a rush at full hours, and each request takes another time to arrive. Not one is refused.
#[test]
fn no_refusal_in_a_day_of_report_pulls() {
    for (rate, burst, calls) in [("1/m", 15, 1_400), ("2/s", 15, 40_000)] {
        let mut desk = Desk::new(Some(limit(rate, burst)));
        let per_second = limit(rate, burst).per_second();
        let mut far = FarBucket { level: f64::from(burst), at: START, burst: f64::from(burst), per_second };
        // What wants to go: the moment, then the run and its call.
        let mut wanting: BinaryHeap<_> = (0..calls)
            .map(|call: i64| {
                let hour = START.plus(Duration::from_hours(u64::try_from(call % 24).unwrap()));
                (std::cmp::Reverse(hour), call % 60, call)
            })
            .collect();
        let mut arrivals = Vec::new();
        let mut seed = 17_u64;
        while let Some((std::cmp::Reverse(at), run_number, call)) = wanting.pop() {
            desk.now = desk.now.max(at);
            let ticket = Ticket { run: run(run_number), key: &call.to_string() };
            if let Some(later) = desk.budget.take(ticket, desk.now) {
                wanting.push((std::cmp::Reverse(later), run_number, call));
                continue;
            }
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            arrivals.push(desk.now.plus(Duration::from_millis(20 + (seed >> 33) % 480)));
        }
        arrivals.sort();
        let refused = arrivals.iter().filter(|at| !far.takes(**at)).count();
        assert_eq!((refused, i64::try_from(arrivals.len()).unwrap()), (0, calls), "{rate}");
        let took = arrivals[arrivals.len() - 1].since(START);
        assert!(took <= Duration::from_hours(24) + Duration::from_mins(10), "{rate} took {took:?}");
    }
}
