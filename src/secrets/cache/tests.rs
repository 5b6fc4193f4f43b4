#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::*;
use crate::domain::secret::Bar;

/// A far vault that plays what it is told, the last answer for ever, and takes its time.
#[derive(Debug)]
struct Played {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<Instant>>,
    takes: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Value(&'static str),
    Down,
    Busy(u64),
    Gone,
    Silent,
}

use Answer::{Busy, Down, Gone, Silent, Value};

#[async_trait]
impl SecretSource for Played {
    fn place(&self) -> &'static str {
        "vault"
    }

    fn remedy(&self, _: &SecretName) -> String {
        String::new()
    }

    async fn read(&self, name: &SecretName, _: Option<&str>) -> Result<Found, Error> {
        lock(&self.asked).push(Instant::now());
        let answer = {
            let mut answers = lock(&self.answers);
            if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() }
        };
        tokio::time::sleep(self.takes).await;
        let failed =
            |retry_after| Error::Source { name: name.clone(), source_name: "vault", why: "no".into(), retry_after };
        match answer.unwrap() {
            Value(value) => Ok(Found::of(value)),
            Down => Err(failed(None)),
            Busy(seconds) => Err(failed(Some(Duration::from_secs(seconds)))),
            Gone => {
                let (name, help) = (name.clone(), String::new());
                Err(Error::Barred { name, source_name: "vault", bar: Bar::Disabled, help })
            }
            Silent => std::future::pending().await,
        }
    }
}

struct Bench {
    source: Arc<Played>,
    cache: Cache,
}

impl Bench {
    fn new(answers: &[Answer]) -> Self {
        Self::slow(answers, Duration::ZERO)
    }

    fn slow(answers: &[Answer], takes: Duration) -> Self {
        let answers = Mutex::new(answers.iter().copied().collect());
        let source = Arc::new(Played { answers, asked: Mutex::default(), takes });
        Self { cache: Cache::remote(Arc::clone(&source) as Arc<dyn SecretSource>), source }
    }

    fn now_plays(&self, answers: &[Answer]) {
        *lock(&self.source.answers) = answers.iter().copied().collect();
    }

    fn asked(&self) -> usize {
        lock(&self.source.asked).len()
    }

    async fn get(&self) -> Result<String, Error> {
        let found = self.cache.get((SecretName::new("erp").unwrap(), None)).await?;
        Ok(String::from_utf8(found.value.expose().to_vec()).unwrap())
    }

    /// What a use gives now: the value, or `-`; and how often the source was asked so far.
    #[track_caller]
    fn check(&self, value: &'static str, asked: usize) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let got = self.get().await.unwrap_or_else(|_| "-".to_owned());
            assert_eq!((got.as_str(), self.asked()), (value, asked), "{caller}");
        }
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn many_at_once_are_one_reading() {
    let bench = Bench::slow(&[Value("a")], SECOND);
    let got = join_all((0..100).map(|_| bench.get())).await;
    assert!(got.iter().all(|value| value.as_ref().unwrap() == "a"));
    assert_eq!(bench.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reading_goes_on_when_who_asked_first_went_away() {
    let bench = Bench::slow(&[Value("a")], SECOND);
    assert!(tokio::time::timeout(SECOND / 2, bench.get()).await.is_err());
    bench.check("a", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_value_is_read_ahead_of_its_time_and_the_next_use_has_it() {
    let bench = Bench::slow(&[Value("a"), Value("b")], SECOND);
    bench.check("a", 1).await;
    pass(limits::SECRET_REFRESH_FROM / 2).await;
    bench.check("a", 1).await;
    pass(limits::SECRET_REFRESH_FROM / 2 + limits::SECRET_REFRESH_SPREAD).await;
    // Nobody waits for the reading.
    let before = Instant::now();
    bench.check("a", 1).await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    pass(2 * SECOND).await;
    bench.check("b", 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_value_past_its_time_is_waited_for() {
    let bench = Bench::slow(&[Value("a"), Value("b")], SECOND);
    bench.check("a", 1).await;
    pass(limits::SECRET_TTL).await;
    bench.check("b", 2).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_value_serves_while_the_source_is_down_and_not_for_ever() {
    let bench = Bench::new(&[Value("a"), Down]);
    bench.check("a", 1).await;
    pass(limits::SECRET_TTL).await;
    // One reading of several tries; then the source rests.
    let tries = limits::SECRET_TRIES_MAX as usize;
    bench.check("a", 1 + tries).await;
    bench.check("a", 1 + tries).await;
    // Then it is asked beside: nobody waits for a source that is known to be in trouble.
    pass(limits::SECRET_REST_FIRST).await;
    bench.check("a", 1 + tries).await;
    pass(5 * SECOND).await;
    bench.now_plays(&[Value("b")]);
    bench.check("a", 1 + 2 * tries).await;
    pass(SECOND).await;
    bench.check("b", 2 + 2 * tries).await;
    bench.now_plays(&[Down]);
    pass(limits::SECRET_STALE_MAX).await;
    bench.check("-", 2 + 3 * tries).await;
}

#[tokio::test(start_paused = true)]
async fn trouble_long_ago_is_no_reason_to_serve_an_old_value() {
    let bench = Bench::new(&[Value("a"), Down, Down, Down, Value("b")]);
    bench.check("a", 1).await;
    pass(limits::SECRET_TTL).await;
    bench.check("a", 4).await;
    pass(limits::SECRET_REST_FIRST + limits::SECRET_REST_MAX).await;
    bench.check("b", 5).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_away_is_not_served() {
    let bench = Bench::new(&[Value("a"), Gone]);
    bench.check("a", 1).await;
    pass(limits::SECRET_TTL).await;
    bench.check("-", 2).await;
    // For a moment that is believed.
    bench.check("-", 2).await;
    bench.now_plays(&[Value("b")]);
    pass(limits::SECRET_MISSING_TTL).await;
    bench.check("b", 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_busy_is_left_alone_as_long_as_it_asks_within_bounds() {
    let check = async |asks: u64, rests: Duration| {
        let bench = Bench::new(&[Busy(asks), Value("a")]);
        bench.check("-", 1).await;
        pass(rests / 2).await;
        bench.check("-", 1).await;
        pass(rests / 2).await;
        bench.check("a", 2).await;
    };
    check(20, Duration::from_secs(20)).await;
    check(1_000_000, limits::SECRET_RETRY_AFTER_MAX).await;
    // What is short is waited for in the same reading.
    Bench::new(&[Busy(1), Value("a")]).check("a", 2).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_told_in_time() {
    let bench = Bench::new(&[Value("a"), Silent]);
    bench.check("a", 1).await;
    pass(limits::SECRET_TTL).await;
    let before = Instant::now();
    bench.check("a", 2).await;
    assert_eq!(before.elapsed(), limits::SECRET_WAIT_MAX);
    let silent = Bench::new(&[Silent]);
    let before = Instant::now();
    silent.check("-", 1).await;
    assert_eq!(before.elapsed(), limits::SECRET_WAIT_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_asks_at_the_next_use_and_keeps_the_last_resort() {
    let bench = Bench::new(&[Value("a"), Value("b"), Down]);
    bench.check("a", 1).await;
    bench.cache.age();
    bench.check("b", 2).await;
    bench.cache.age();
    bench.check("b", 2 + limits::SECRET_TRIES_MAX as usize).await;
}

#[tokio::test(start_paused = true)]
async fn readings_ahead_are_spread_within_the_time_to_live() {
    let now = Instant::now();
    let check = |share: f64, age: Duration| {
        let held = Held::new(Found::of("a"), now, share);
        assert_eq!(held.refresh_at - now, age);
        assert!(held.refresh_at < held.fresh_until && held.fresh_until < held.stale_until);
    };
    check(0.0, Duration::from_secs(210));
    check(0.5, Duration::from_mins(4));
    check(1.0, Duration::from_secs(270));
}

#[test]
fn pauses_grow_to_a_bound() {
    let error = |retry_after| Error::Source {
        name: SecretName::new("erp").unwrap(),
        source_name: "vault",
        why: String::new(),
        retry_after,
    };
    let check = |failures: u32, asked: Option<u64>, share: f64, expected: Duration| {
        assert_eq!(rest(&error(asked.map(Duration::from_secs)), failures, share), expected, "{failures} {asked:?}");
    };
    check(1, None, 1.0, SECOND);
    check(1, None, 0.0, SECOND / 2);
    check(3, None, 1.0, 4 * SECOND);
    check(u32::MAX, None, 1.0, limits::SECRET_REST_MAX);
    check(1, Some(7), 1.0, 7 * SECOND);
    check(1, Some(0), 1.0, SECOND);
    check(9, Some(u64::MAX), 0.0, limits::SECRET_RETRY_AFTER_MAX);
}
