//! Sweeps: a shop that drops webhooks, asked what it holds. Afterwards every order has run once, whatever came late, came
//! again, or was killed in the middle.

mod shop;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clawhook::clock::{Clock, SystemClock, TestClock};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

use self::shop::{ORDERS, Shop, TOKEN};
use crate::app::{Answer, App, Control, Folder, KEY, OPEN, PUSH, shopify};
use crate::kit::START;
use crate::numbered::all_runs;
use crate::process::Process;
use crate::standin::{self, Fault, Standin};

/// Orders of a day, and how many of a hundred webhooks are lost.
const DAY: u32 = 400;
const LOST_PERCENT: u32 = 5;
const HOUR: Duration = Duration::from_hours(1);

/// Everything around one gateway with one shop.
struct Scene {
    erp: Standin,
    shop: Shop,
    folder: Folder,
}

impl Scene {
    /// A route whose orders are swept as `sweep` says, beside the list.
    fn new(clock: Arc<dyn Clock>, sweep: &str) -> Self {
        let erp = Standin::start(&standin::Settings::default()).unwrap();
        let shop = Shop::start(clock);
        let folder = Folder::new(OPEN, None);
        folder.secret("shop-token", TOKEN);
        folder.write(
            "clawhook.yaml",
            &format!(
                "{OPEN}\negress: {{ allow: [\"127.0.0.0/8\"] }}\nconnections:\n  erp: {{ base_url: \"{}\" }}\n  \
                 shop: {{ base_url: \"{}\", headers: {{ X-Shopify-Access-Token: {{ secret_ref: shop-token }} }} }}\n",
                erp.url(),
                shop.url()
            ),
        );
        folder.write("workflows/push.yaml", PUSH);
        let scene = Self { erp, shop, folder };
        scene.write_route("body.id ~ '/' ~ body.updated_at", sweep, "");
        scene
    }

    fn write_route(&self, key: &str, sweep: &str, more: &str) {
        let route = format!(
            r#"
version: 1
routes:
  - name: orders
    path: /hooks/orders
    verify: {{ preset: shopify, secret_ref: shop-key }}
    filter: ${{{{ headers["x-shopify-topic"] == "orders/create" }}}}
    dedupe: {{ key: "${{{{ {key} }}}}" }}
    redact: [ "$.customer" ]
    workflow: push
    inputs: {{ order: "${{{{ body }}}}" }}
    sweep:
      {sweep}
      list:
        connection: shop
        path: {ORDERS}
        query: {{ status: any, limit: 50, updated_at_min: "${{{{ sweep.since }}}}" }}
        paginate: {{ style: link, items: "${{{{ response.body.orders }}}}" }}
      time: ${{{{ item.updated_at }}}}
      headers: {{ x-shopify-topic: orders/create }}
{more}"#
        );
        self.folder.write("routes/orders.yaml", &route);
    }

    /// The webhooks of these orders, all at once as far as the doors let them.
    async fn deliver(&self, control: &Control, hooks: &str, numbers: &[u32]) -> Vec<Option<Answer>> {
        let mut answers = Vec::new();
        for some in numbers.chunks(32) {
            answers.extend(join_all(some.iter().map(|number| deliver(control, hooks, &self.shop, *number))).await);
        }
        answers
    }

    /// Every order has exactly one run, which booked it once.
    async fn check(&self, control: &Control, orders: u32) {
        let open = "/v1/runs?status=queued,running,waiting,cancelling&workflow=push&limit=1";
        control.until(open, |page| page["items"] == json!([])).await;
        let runs = all_runs(control, "&workflow=push").await;
        assert_eq!(runs.len(), usize::try_from(orders).unwrap(), "a run too many or too few");
        assert!(runs.values().all(|status| status == "succeeded"), "{runs:?}");
        let mut booked = BTreeMap::new();
        for request in self.erp.requests_to("/orders") {
            let (order, key) = (request.json().unwrap()["id"].as_u64().unwrap(), request.header("idempotency-key"));
            booked.entry(order).or_insert_with(BTreeSet::new).insert(key.unwrap().to_owned());
        }
        let expected: BTreeSet<_> = (1..=u64::from(orders)).collect();
        assert_eq!(booked.keys().copied().collect::<BTreeSet<_>>(), expected, "an order was lost");
        let twice: Vec<_> = booked.iter().filter(|(_, keys)| keys.len() > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        assert_eq!(self.erp.wrongs(), Vec::<String>::new());
        assert_eq!(self.shop.wrongs(), Vec::<String>::new());
    }
}

/// A webhook; nothing when the gateway is not there.
async fn deliver(control: &Control, hooks: &str, shop: &Shop, number: u32) -> Option<Answer> {
    let body = shop.body(number);
    let mut request = control.http.post(format!("{hooks}/hooks/orders")).body(body.clone());
    for (name, value) in shopify(KEY, &format!("d-{number}-{:x}", rand::random::<u32>()), &body) {
        request = request.header(name, value);
    }
    let response = request.send().await.ok()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Some(Answer { status, headers, text: response.text().await.ok()? })
}

/// The orders of the day: those whose webhooks come, and those whose webhooks are lost.
fn lottery(seed: u64) -> (Vec<u32>, Vec<u32>) {
    let mut random = StdRng::seed_from_u64(seed);
    (1..=DAY).partition(|_| random.random_range(0..100) >= LOST_PERCENT)
}

/// The next slot of the sweep is entered, and its run has ended.
async fn next_sweep(app: &App, clock: &TestClock, count: usize) -> Value {
    clock.advance(HOUR);
    app.control.post("/v1/reload", &json!({})).await.expect(200);
    let of_sweep = "/v1/runs?trigger=slot&source=orders.sweep";
    let runs = app.control.until(of_sweep, |page| page["items"].as_array().unwrap().len() == count).await;
    app.control.ended(runs["items"][0]["id"].as_str().unwrap()).await
}

/// A gateway that has seen its schedule, so that the sweep knows since when it can tell.
async fn seen(scene: &Scene, clock: &TestClock) -> App {
    let app = scene.folder.start_at(Arc::new(clock.clone())).await;
    app.control.until("/v1/schedules", |page| page["items"][0]["dealt_with"].is_string()).await;
    app
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sweep_closes_the_gap_and_runs_nothing_twice() {
    let clock = TestClock::at(START);
    let scene = Scene::new(Arc::new(clock.clone()), "every: 1h\n      settle: 5m");
    let app = seen(&scene, &clock).await;
    scene.shop.order(1..=DAY);
    let (came, lost) = lottery(20_261_124);
    assert!(lost.len() > 10, "the lottery lost nothing: this test shows nothing");
    scene.deliver(&app.control, &app.hooks, &came).await;

    let sweep = next_sweep(&app, &clock, 1).await;
    assert_eq!(sweep["status"], "succeeded", "{sweep}");
    let told = &sweep["outputs"]["sweep"];
    let counts = (&told["listed"], &told["missing"], &told["known"]);
    assert_eq!(counts, (&json!(DAY), &json!(lost.len()), &json!(came.len())), "{told}");
    scene.check(&app.control, DAY).await;

    let swept = app.control.get("/v1/runs?trigger=sweep&source=orders&limit=100").await;
    assert_eq!(swept["items"].as_array().unwrap().len(), lost.len());
    let run = app.control.get(&format!("/v1/runs/{}", swept["items"][0]["id"].as_str().unwrap())).await;
    assert_eq!(run["delivery"]["swept_by"], sweep["id"], "{run}");
    assert_eq!(run["delivery"]["verified_by"], "sweep");
    let events = app.control.get("/v1/events").await;
    let found = events["items"].as_array().unwrap().iter().find(|event| event["what"] == "sweep.found").unwrap();
    assert_eq!((&found["detail"]["missing"], &found["detail"]["run"]), (&json!(lost.len()), &sweep["id"]));

    // What comes late, and what comes again, is a duplicate.
    let all: Vec<u32> = (1..=DAY).collect();
    for answer in scene.deliver(&app.control, &app.hooks, &all).await {
        assert_eq!(answer.unwrap().header("clawhook-duplicate"), Some("true"));
    }
    let again = next_sweep(&app, &clock, 2).await;
    let told = &again["outputs"]["sweep"];
    assert_eq!((&told["missing"], &told["known"]), (&json!(0), &json!(DAY)), "{told}");
    scene.check(&app.control, DAY).await;
    let kept = scene.folder.stored_bytes();
    let personal = kept.windows(shop::MAIL.len()).any(|window| window == shop::MAIL.as_bytes());
    assert!(!personal, "`redact` holds for what a sweep found, and for the pages it read");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_that_come_while_the_sweep_runs_do_not_run_twice() {
    let clock = TestClock::at(START);
    let scene = Scene::new(Arc::new(clock.clone()), "every: 1h\n      settle: 5m");
    let app = seen(&scene, &clock).await;
    scene.shop.order(1..=DAY);
    let (came, lost) = lottery(7);
    scene.deliver(&app.control, &app.hooks, &came).await;
    scene.shop.fail(Fault { delay_ms: 40, times: 4, ..Fault::default() });
    scene.shop.fail(Fault { status: Some(503), times: 1, ..Fault::default() });
    // Both race for the same keys: whoever comes second finds the run of the first.
    let late = async {
        let mut answers = Vec::new();
        for number in lost.iter().rev() {
            answers.extend(deliver(&app.control, &app.hooks, &scene.shop, *number).await);
        }
        answers
    };
    let sweep = async {
        clock.advance(HOUR);
        app.control.post("/v1/reload", &json!({})).await.expect(200);
    };
    let (late, ()) = tokio::join!(late, sweep);
    let runs = app.control.until("/v1/runs?source=orders.sweep", |page| page["items"][0].is_object()).await;
    let id = runs["items"][0]["id"].as_str().unwrap();
    // A page that was answered 503 is asked for again, on the clock of the test.
    app.control
        .until(&format!("/v1/runs/{id}"), |run| {
            clock.advance(Duration::from_secs(1));
            run["status"] == "succeeded"
        })
        .await;
    assert!(late.iter().all(|answer| answer.status == 202), "{late:?}");
    scene.check(&app.control, DAY).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_is_killed_goes_on_where_it_was() {
    let scene = Scene::new(Arc::new(SystemClock), "every: 2s\n      settle: 0s");
    let process = Process::start(&scene.folder, "warn").await;
    process.control.until("/v1/schedules", |page| page["items"][0]["dealt_with"].is_string()).await;
    // The mark lies in the second of the first look; orders come after it.
    scene.shop.order(1..=DAY);
    let (came, lost) = lottery(99);
    scene.deliver(&process.control, &process.hooks, &came).await;
    scene.shop.fail(Fault { delay_ms: 150, times: 40, ..Fault::default() });
    let before = scene.shop.pages();
    scene.shop.until_pages(before + 3).await;
    process.kill();
    let asked = scene.shop.pages();

    let process = Process::start(&scene.folder, "warn").await;
    let (late, never) = lost.split_at(lost.len() / 2);
    scene.deliver(&process.control, &process.hooks, late).await;
    assert!(!never.is_empty());
    // One whole sweep that began after the kill.
    let whole = |page: &Value| {
        let ended = page["items"].as_array().unwrap().iter().filter(|run| run["status"] == "succeeded");
        ended.count() > 0 && scene.shop.pages() > asked + usize::try_from(DAY / 50).unwrap()
    };
    process.control.until("/v1/runs?trigger=slot&source=orders.sweep", whole).await;
    process.control.until("/v1/runs?workflow=push&limit=200", |_| scene.erp.requests_to("/orders").len() >= 400).await;
    scene.check(&process.control, DAY).await;
    let again: Vec<u32> = (1..=DAY).collect();
    for answer in scene.deliver(&process.control, &process.hooks, &again).await {
        assert_eq!(answer.unwrap().header("clawhook-duplicate"), Some("true"));
    }
    scene.check(&process.control, DAY).await;
    process.stop();
}

#[tokio::test]
async fn what_is_young_or_older_than_the_sweep_is_left_alone() {
    let clock = TestClock::at(START);
    let scene = Scene::new(Arc::new(clock.clone()), "every: 1h\n      settle: 5m");
    // These were there before the route had a sweep: who knows who took them.
    scene.shop.order(1..=3);
    clock.advance(Duration::from_secs(1));
    let app = seen(&scene, &clock).await;
    scene.shop.order(4..=5);
    clock.advance(Duration::from_mins(58));
    scene.shop.order(6..=6);
    clock.advance(Duration::from_mins(2));
    let sweep = {
        app.control.post("/v1/reload", &json!({})).await.expect(200);
        let runs = app.control.until("/v1/runs?source=orders.sweep", |page| page["items"][0].is_object()).await;
        app.control.ended(runs["items"][0]["id"].as_str().unwrap()).await
    };
    let told = &sweep["outputs"]["sweep"];
    assert_eq!((&told["missing"], &told["young"]), (&json!(2), &json!(1)), "{told}");
    let told = next_sweep(&app, &clock, 2).await["outputs"]["sweep"].clone();
    assert_eq!((&told["missing"], &told["known"]), (&json!(1), &json!(2)), "{told}");
    // With another key nobody can tell what was accepted under the old one.
    scene.write_route("body.id", "every: 1h\n      settle: 5m", "");
    app.control.post("/v1/reload", &json!({})).await.expect(200);
    let told = next_sweep(&app, &clock, 3).await["outputs"]["sweep"].clone();
    assert_eq!(told["missing"], 0, "{told}");
    assert_eq!(scene.erp.requests_to("/orders").len(), 3);
    app.stop().await;
}

#[tokio::test]
async fn what_cannot_be_compared_fails_the_sweep_and_holds_nothing_up() {
    let clock = TestClock::at(START);
    let scene = Scene::new(Arc::new(clock.clone()), "every: 1h");
    scene.write_route("body.token", "every: 1h", "");
    let app = seen(&scene, &clock).await;
    scene.shop.order(1..=4);
    scene.shop.spoil(2, "token", Value::Null);
    let sweep = next_sweep(&app, &clock, 1).await;
    assert_eq!((&sweep["status"], &sweep["failure"]["code"]), (&json!("failed"), &json!("sweep.item")), "{sweep}");
    assert!(sweep["failure"]["message"].as_str().unwrap().contains("`dedupe.key` gives nothing"), "{sweep}");
    app.control.until("/v1/runs?workflow=push&status=succeeded", |page| page["items"][2].is_object()).await;
    assert_eq!(scene.erp.requests_to("/orders").len(), 3);
    let events = app.control.get("/v1/events").await;
    let found = events["items"].as_array().unwrap().iter().find(|event| event["what"] == "sweep.found").unwrap();
    assert_eq!(found["detail"]["whole"], false, "{events}");
    // The mark stood still: mended, the next sweep begins where this one did.
    scene.shop.spoil(2, "token", json!("t-2"));
    let told = next_sweep(&app, &clock, 2).await["outputs"]["sweep"].clone();
    assert_eq!((&told["missing"], &told["known"]), (&json!(1), &json!(3)), "{told}");
    app.stop().await;
}

#[tokio::test]
async fn two_ways_to_make_a_key_are_told_before_anything_runs() {
    let clock = TestClock::at(START);
    let scene = Scene::new(Arc::new(clock.clone()), "every: 1h");
    scene.write_route("body.id ~ '/' ~ body.updated_at", "every: 1h", "      key: ${{ item.id }}\n");
    let app = seen(&scene, &clock).await;
    scene.shop.order(1..=4);
    let sweep = next_sweep(&app, &clock, 1).await;
    assert_eq!((&sweep["status"], &sweep["failure"]["code"]), (&json!("failed"), &json!("sweep.key")), "{sweep}");
    assert_eq!(scene.erp.requests_to("/orders").len(), 0);
    app.stop().await;
}

#[tokio::test]
async fn limits_are_told() {
    for (more, code, entered) in
        [("max_items: 60", "sweep.too_many", 100), ("max_items: 1000\n      alert: ops", "http.pages", 100)]
    {
        let clock = TestClock::at(START);
        let scene = Scene::new(Arc::new(clock.clone()), "every: 1h");
        let route = scene.folder.path("routes/orders.yaml");
        scene.write_route("body.id", &format!("every: 1h\n      {more}"), "");
        let text = std::fs::read_to_string(&route).unwrap();
        let text = text.replace("{ style: link, ", "{ style: link, max_pages: 2, ");
        let text = if code == "http.pages" { text } else { text.replace(" max_pages: 2,", "") };
        scene.folder.write("routes/orders.yaml", &text);
        let settings = std::fs::read_to_string(scene.folder.path("clawhook.yaml")).unwrap();
        let channel = format!("channels: {{ ops: {{ type: webhook, url: \"{}/alerts\" }} }}\n", scene.erp.url());
        scene.folder.write("clawhook.yaml", &format!("{settings}{channel}"));
        let app = seen(&scene, &clock).await;
        scene.shop.order(1..=DAY);
        let sweep = next_sweep(&app, &clock, 1).await;
        assert_eq!((&sweep["status"], &sweep["failure"]["code"]), (&json!("failed"), &json!(code)), "{sweep}");
        app.control
            .until("/v1/runs?workflow=push&status=queued,running,waiting", |page| page["items"] == json!([]))
            .await;
        assert_eq!(scene.erp.requests_to("/orders").len(), entered, "what was read is brought in");
        assert_eq!(!scene.erp.requests_to("/alerts").is_empty(), more.contains("alert"), "people are told");
        app.stop().await;
    }
}

/// The shipped example, only its addresses and secrets are this test's own.
#[tokio::test]
async fn the_shipped_example_brings_in_what_was_lost() {
    let clock = TestClock::at(START);
    let shop = Shop::start(Arc::new(clock.clone()));
    let erp =
        Standin::start(&standin::Settings { api_key: Some("erp-key".to_owned()), ..standin::Settings::default() });
    let erp = erp.unwrap();
    let mut folder = Folder::new("", None);
    for name in ["clawhook.yaml", "routes/orders.yaml", "workflows/order-to-erp.yaml"] {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shopify-sweep").join(name);
        folder.write(name, &std::fs::read_to_string(example).unwrap());
    }
    for (setting, value) in [
        ("LISTEN__HOOKS__ADDRESS", "127.0.0.1:0"),
        ("LISTEN__CONTROL__ADDRESS", "127.0.0.1:0"),
        ("SECRETS__SOURCE", "file"),
        ("SECRETS__PATH", "./secrets"),
        ("CONNECTIONS__ERP__BASE_URL", &erp.url()),
        ("CONNECTIONS__SHOPIFY_US__BASE_URL", &shop.url()),
        ("CHANNELS__OPS__URL", &format!("{}/alerts", erp.url())),
    ] {
        folder.env.insert(format!("CLAWHOOK__{setting}"), value.to_owned());
    }
    for (name, value) in [("shopify-us-webhook-key", KEY), ("shopify-us-token", TOKEN), ("erp-api-key", "erp-key")] {
        folder.secret(name, value);
    }
    let (_, loaded) = clawhook::boot::read_files(&folder.path("clawhook.yaml"), &folder.env).await;
    assert!(loaded.problems.is_empty(), "the shipped files have problems: {:?}", loaded.problems);
    let app = folder.start_at(Arc::new(clock.clone())).await;
    app.control.until("/v1/schedules", |page| page["items"][0]["dealt_with"].is_string()).await;
    shop.order(1..=3);
    let body = shop.body(2);
    let run = app.post("/hooks/shopify/us/orders", &shopify(KEY, "d-2", &body), &body).await.run();
    // Its time limit is on the clock that goes on below.
    app.control.ended(&run).await;
    clock.advance(HOUR * 2);
    app.control.post("/v1/reload", &json!({})).await.expect(200);
    let runs = "/v1/runs?trigger=slot&source=shopify-us-orders.sweep";
    let runs = app.control.until(runs, |page| page["items"][0].is_object()).await;
    let sweep = app.control.ended(runs["items"][0]["id"].as_str().unwrap()).await;
    assert_eq!(sweep["outputs"]["sweep"]["missing"], 2, "{sweep}");
    app.control.until("/v1/runs?workflow=order-to-erp&status=succeeded", |page| page["items"][2].is_object()).await;
    assert_eq!(erp.orders().len(), 3);
    let told = erp.requests_to("/alerts")[0].json().unwrap();
    assert_eq!(told["title"], "shopify-us-orders: 2 webhooks never came");
    assert_eq!((erp.wrongs(), shop.wrongs()), (Vec::new(), Vec::new()));
    app.stop().await;
}
