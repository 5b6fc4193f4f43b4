//! What stands around the gateway: the stand-in ERP, the commands of the README, the image.

use std::path::Path;
use std::process::Command;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::standin::{Close, Fault, Settings, Standin};

/// A stand-in and a client that opens a connection for each call.
struct Shop {
    standin: Standin,
    client: Client,
}

impl Shop {
    fn open() -> Self {
        let settings = Settings { api_key: Some("k".into()), ..Settings::default() };
        let standin = Standin::start(&settings).expect("a port on loopback");
        let client = Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a plain client");
        Self { standin, client }
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.standin.url())).header("X-Api-Key", "k")
    }

    fn order(&self, key: &str, order: &Value) -> RequestBuilder {
        self.call(Method::POST, "/orders").header("Idempotency-Key", key).json(order)
    }
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn the_stand_in_keeps_orders_and_honours_keys() {
    let shop = Shop::open();
    let known = "/orders/by-source?source=shopify&source_id=5500070652191";
    assert_eq!(answer(shop.call(Method::GET, known)).await.0, 404);
    let order = json!({ "id": 5_500_070_652_191_u64, "name": "#1042", "total_price": "129.90" });
    let (status, created) = answer(shop.order("key-1", &order)).await;
    assert_eq!((status, &created["id"], &created["total"]), (201, &json!("ERP-1001"), &json!("129.90")));
    assert_eq!(answer(shop.order("key-1", &order)).await, (201, created.clone()));
    assert_eq!(answer(shop.call(Method::GET, known)).await, (200, created.clone()));
    assert_eq!((shop.standin.repeats(), shop.standin.orders()), (1, vec![created]));
    assert_eq!(shop.standin.wrongs(), Vec::<String>::new());

    let keys: Vec<_> =
        shop.standin.requests_to("/orders").iter().map(|it| it.header("idempotency-key").map(str::to_owned)).collect();
    assert_eq!(keys, [Some("key-1".to_owned()), Some("key-1".to_owned())]);
    let sent: Vec<_> =
        shop.standin.requests().iter().map(|it| format!("{} {}?{}", it.method, it.path, it.query)).collect();
    assert_eq!(sent[0], "GET /orders/by-source?source=shopify&source_id=5500070652191");
}

#[tokio::test]
async fn the_stand_in_says_what_was_wrong() {
    let shop = Shop::open();
    let order = json!({ "source": "shopify", "source_id": "7" });
    assert_eq!(answer(shop.order("key-1", &order)).await.0, 201);
    let plain = |body: &'static str| shop.call(Method::POST, "/orders").body(body);
    let typed = |kind: &str, body: &'static str| plain(body).header("Content-Type", kind);
    let cases = [
        (shop.order("key-1", &json!({ "source_id": "8" })), 422, "another body"),
        (shop.order("key-2", &order), 409, "another key"),
        (shop.order("key-3", &json!({ "source": "shopify" })), 422, "wants `source_id`"),
        (shop.order("key-4", &order).header("Idempotency-Key", "key-5"), 400, "sent twice"),
        (shop.order("", &order), 400, "empty"),
        (plain("{}"), 415, "wanted once"),
        (typed("text/plain", "{}"), 415, "not `application/json`"),
        (typed("application/json", "{"), 400, "not JSON"),
        (typed("application/json; charset=utf-8", "[]"), 422, "not a JSON object"),
        (typed("application/json", "{}").header("X-Api-Key", "k"), 401, "sent twice"),
        (shop.call(Method::POST, "/alerts").json(&json!({ "text": "" })), 422, "wants a `text`"),
        (shop.call(Method::GET, "/orders/by-source?source=shopify"), 400, "are wanted"),
        (shop.call(Method::GET, "/stock?below=x"), 400, "not a number"),
        (shop.call(Method::DELETE, "/orders"), 405, "no such method"),
        (shop.call(Method::GET, "/nothing"), 404, "no such path"),
        (shop.client.get(format!("{}/stock", shop.standin.url())), 401, "no `X-Api-Key`"),
    ];
    for (request, status, wrong) in cases {
        let before = shop.standin.wrongs().len();
        let shown = format!("{request:?}");
        assert_eq!(answer(request).await.0, status, "{shown}");
        let wrongs = shop.standin.wrongs();
        assert_eq!(wrongs.len(), before + 1, "{shown}");
        assert!(wrongs[before].contains(wrong), "`{}` does not say `{wrong}`", wrongs[before]);
    }
    assert_eq!(shop.standin.orders().len(), 1);
}

#[tokio::test]
async fn the_stand_in_answers_its_other_paths() {
    let shop = Shop::open();
    let (status, stock) = answer(shop.call(Method::GET, "/stock?below=3")).await;
    assert_eq!((status, stock["items"].as_array().map(Vec::len)), (200, Some(2)));
    assert_eq!(answer(shop.call(Method::POST, "/alerts").json(&json!({ "text": "low" }))).await.0, 202);
    assert_eq!(answer(shop.call(Method::PUT, "/slow?ms=1")).await, (200, json!({ "slept_ms": 1 })));
    let (_, echo) = answer(shop.call(Method::PATCH, "/echo?a=1").body("hello")).await;
    assert_eq!([&echo["method"], &echo["query"], &echo["body"]], ["PATCH", "a=1", "hello"]);
    let (_, seen) = answer(shop.call(Method::GET, "/_requests")).await;
    assert_eq!((seen["requests"].as_array().map(Vec::len), &seen["wrong"]), (Some(4), &json!([])));
    assert_eq!(shop.call(Method::DELETE, "/_requests").send().await.expect("an answer").status(), 204);
    assert!(shop.standin.requests().is_empty());
    assert_eq!(answer(shop.call(Method::GET, "/_health")).await.0, 200);
}

#[tokio::test]
async fn the_stand_in_fails_as_it_is_told() {
    let shop = Shop::open();
    let fault =
        json!({ "path": "/stock", "times": 2, "status": 429, "headers": { "Retry-After": "1" }, "body": "later" });
    assert_eq!(shop.call(Method::POST, "/_faults").json(&fault).send().await.expect("an answer").status(), 204);
    assert_eq!(answer(shop.call(Method::GET, "/_faults")).await.1[0]["times"], 2);
    for _ in 0..2 {
        let response = shop.call(Method::GET, "/stock").send().await.expect("an answer");
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (429, &"1".parse().expect("text"))
        );
        assert_eq!(response.text().await.expect("a body"), "later");
    }
    assert_eq!(answer(shop.call(Method::GET, "/stock")).await.0, 200);
    let unknown = shop.call(Method::POST, "/_faults").json(&json!({ "path": "/stock", "sometimes": true }));
    assert_eq!(answer(unknown).await.0, 400);

    // A page where JSON was wanted, and a redirect.
    let page = json!("<html><body>sign in</body></html>");
    let headers = [("Content-Type".to_owned(), "text/html".to_owned())].into();
    shop.standin.fail(Fault {
        path: "/stock".into(),
        status: Some(200),
        body: Some(page),
        headers,
        ..Fault::default()
    });
    let response = shop.call(Method::GET, "/stock").send().await.expect("an answer");
    assert_eq!(response.headers().get_all("content-type").iter().collect::<Vec<_>>(), ["text/html"]);
    let headers = [("Location".to_owned(), "http://169.254.169.254/".to_owned())].into();
    shop.standin.fail(Fault { path: "/stock".into(), status: Some(302), headers, ..Fault::default() });
    assert_eq!(shop.call(Method::GET, "/stock").send().await.expect("an answer").status(), 302);

    // Slow, in pieces, and whole in the end.
    shop.standin.fail(Fault { path: "/stock".into(), delay_ms: 5, trickle_ms: 1, ..Fault::default() });
    assert_eq!(answer(shop.call(Method::GET, "/stock")).await.1["items"].as_array().map(Vec::len), Some(5));
    assert_eq!(shop.standin.wrongs(), Vec::<String>::new());
}

#[tokio::test]
async fn the_stand_in_closes_where_it_is_told() {
    let shop = Shop::open();
    let order = json!({ "id": 7 });
    let close =
        |close| Fault { path: "/orders".into(), method: Some("post".into()), close: Some(close), ..Fault::default() };

    shop.standin.fail(close(Close::Before));
    shop.order("key-1", &order).send().await.expect_err("closed before the work");
    assert_eq!(shop.standin.orders().len(), 0);

    shop.standin.fail(close(Close::After));
    shop.order("key-1", &order).send().await.expect_err("closed after the work");
    assert_eq!(shop.standin.orders().len(), 1);

    shop.standin.fail(close(Close::Half));
    let response = shop.order("key-1", &order).send().await.expect("the head of an answer");
    assert_eq!(response.status(), 201);
    response.bytes().await.expect_err("half a body");
    assert_eq!((answer(shop.order("key-1", &order)).await.0, shop.standin.repeats()), (201, 2));
}

#[test]
fn scripts_are_bash_and_can_be_started() {
    use std::os::unix::fs::PermissionsExt;
    for script in ["infra/demo.sh", "infra/test.sh", ".ci/run"] {
        let path = root().join(script);
        let mode = std::fs::metadata(&path).expect("the script is there").permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{script} is not executable");
        let checked = Command::new("bash").arg("-n").arg(&path).output().expect("bash runs");
        assert!(checked.status.success(), "{script}: {}", String::from_utf8_lossy(&checked.stderr));
        assert!(read(script).contains("\nset -euo pipefail\n"), "{script} goes on after a failure");
    }
}

#[test]
fn the_image_is_built_from_what_is_here() {
    let dockerfile = read("Dockerfile");
    let instructions: Vec<Vec<&str>> = dockerfile
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|words: &Vec<_>| !words.is_empty())
        .collect();
    let first = |name: &str| instructions.iter().find(|words| words[0] == name);
    let user = first("USER").expect("the image names a user");
    assert!(!matches!(user[1], "root" | "0"), "the image runs as root");
    for words in instructions.iter().filter(|words| words[0] == "COPY" && !words[1].starts_with("--from=")) {
        for source in &words[1..words.len() - 1] {
            assert!(root().join(source).exists(), "COPY of `{source}`, which is not here");
        }
    }
    let rust = read("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ").map(str::to_owned));
    let rust = rust.expect("Cargo.toml names the Rust it needs");
    let image = format!("rust:{}-slim", rust.trim_matches('"'));
    assert!(first("FROM").is_some_and(|words| words[1].starts_with(&image)), "the image is not built with {rust}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("cannot read `{file}`: {error}"))
}
