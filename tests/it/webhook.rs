//! Deliveries through the real door: accepted once and for good, or refused in words that tell a stranger nothing.

use serde_json::{Value, json};

use crate::app::{Answer, App, Folder, KEY, OPEN, PUSH, orders_route, shopify, signature};
use crate::standin::{self, Standin};

const ORDER: &str = r##"{"id":1001,"name":"#1001","total_price":"19.90"}"##;

fn erp() -> Standin {
    Standin::start(&standin::Settings::default()).unwrap()
}

#[tokio::test]
async fn a_signed_delivery_becomes_a_run_that_ends() {
    let erp = erp();
    let app = Folder::with_orders(&erp, "").start().await;
    let answer = app.deliver("d-1", ORDER).await;
    let run = answer.run();
    assert_eq!(answer.header("clawhook-duplicate"), None);
    let shown = app.control.ended(&run).await;
    assert_eq!(shown["status"], "succeeded", "{shown}");
    assert_eq!(shown["outputs"], json!({ "id": "ERP-1001" }));
    assert_eq!((&shown["trigger"], &shown["source"]), (&json!("delivery"), &json!("orders")));
    assert_eq!(shown["labels"], json!({ "order": "#1001" }));
    let delivery = &shown["delivery"];
    assert_eq!((&delivery["id"], &delivery["verified_by"]), (&json!("d-1"), &json!("shopify")));
    assert_eq!(delivery["body"]["text"], ORDER);
    assert_eq!(shown["tasks"][0]["attempts"][0]["exchange"]["response"]["status"], 201, "{shown}");
    assert_eq!(erp.requests_to("/orders")[0].json().unwrap().to_string(), ORDER);
    assert_eq!(erp.wrongs(), Vec::<String>::new());
    app.stop().await;
}

#[tokio::test]
async fn the_same_delivery_again_gets_the_same_answer() {
    let erp = erp();
    let folder = Folder::with_orders(&erp, "");
    let app = folder.start().await;
    let first = app.deliver("d-1", ORDER).await;
    app.control.ended(&first.run()).await;
    // The id makes it the same, whatever else differs.
    for body in [ORDER, r#"{"id":1002}"#] {
        check_duplicate(&app.deliver("d-1", body).await, &first);
    }
    app.stop().await;
    let app = folder.start().await;
    check_duplicate(&app.deliver("d-1", ORDER).await, &first);
    assert_eq!(app.control.get("/v1/runs").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(erp.requests_to("/orders").len(), 1);
    app.stop().await;
}

#[track_caller]
fn check_duplicate(again: &Answer, first: &Answer) {
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(again.header("clawhook-duplicate"), Some("true"));
}

#[tokio::test]
async fn many_copies_at_one_time_make_one_run() {
    let erp = erp();
    let app = Folder::with_orders(&erp, "").start().await;
    let copies = futures_util::future::join_all((0..24).map(|_| app.deliver("d-1", ORDER))).await;
    let fresh = copies.iter().filter(|answer| answer.header("clawhook-duplicate").is_none()).count();
    assert_eq!(fresh, 1);
    assert!(copies.iter().all(|answer| answer.run() == copies[0].run()));
    app.control.ended(&copies[0].run()).await;
    assert_eq!(erp.requests_to("/orders").len(), 1);
    app.stop().await;
}

#[tokio::test]
async fn a_new_id_over_an_old_body_is_kept_and_flagged() {
    let erp = erp();
    let app = Folder::with_orders(&erp, "    dedupe: { key: delivery_id, replay_guard: body }").start().await;
    let first = app.deliver("d-1", ORDER).await.run();
    app.control.ended(&first).await;
    let again = app.deliver("d-2", ORDER).await;
    assert_eq!(again.header("clawhook-duplicate"), None);
    let shown = app.control.ended(&again.run()).await;
    assert_eq!(shown["suspected_replay_of"], first.as_str());
    let other = app.deliver("d-3", r#"{"id":5}"#).await;
    assert_eq!(app.control.ended(&other.run()).await["suspected_replay_of"], Value::Null);
    app.stop().await;
}

#[tokio::test]
async fn a_wrong_signature_tells_nothing_and_runs_nothing() {
    let erp = erp();
    let app = Folder::with_orders(&erp, "    redact: [\"$.customer\"]").start().await;
    let body = r#"{"id":1001,"customer":{"email":"li.wei@example.com"}}"#;
    let mut without = shopify(KEY, "d-1", body);
    without.retain(|(name, _)| *name != "x-shopify-hmac-sha256");
    let tries = [
        app.post("/hooks/orders", &shopify("another-key", "d-1", body), body).await,
        app.post("/hooks/orders", &shopify(KEY, "d-1", "{}"), body).await,
        app.post("/hooks/orders", &without, body).await,
    ];
    for answer in &tries {
        assert_eq!((answer.status, &answer.text), (401, &tries[0].text), "the same words for every reason");
        assert_eq!(answer.header("www-authenticate"), Some(r#"Signature realm="hooks""#));
    }
    assert!(!tries[0].text.contains("hmac") && !tries[0].text.contains("signature"), "{}", tries[0].text);
    let kept = app.control.until("/v1/refusals?route=orders", |kept| kept["items"][2].is_object()).await;
    let newest = &kept["items"][0];
    assert_eq!((&newest["code"], &newest["cause"]), (&json!("missing_header"), &json!("missing_header/orders")));
    assert!(newest["detail"]["why"].as_str().is_some_and(|why| !why.is_empty()));
    assert!(newest["body"]["text"].as_str().unwrap().contains("1001"));
    assert!(!kept.to_string().contains("li.wei"), "redacted before it is kept: {kept}");
    let cause = newest["cause"].as_str().unwrap();
    let of_cause = app.control.get(&format!("/v1/refusals?cause={cause}")).await;
    assert!(of_cause["items"].as_array().unwrap().iter().all(|item| item["cause"] == cause));
    assert_eq!(app.control.get("/v1/runs").await["items"], json!([]));
    app.stop().await;
}

#[tokio::test]
async fn paths_without_a_route_and_routes_that_are_off() {
    let erp = erp();
    let app = Folder::with_orders(&erp, "    enabled: false").start().await;
    let off = app.deliver("d-1", ORDER).await;
    let missing = app.post("/hooks/nowhere", &[], ORDER).await;
    assert_eq!((off.status, missing.status), (404, 404));
    assert_eq!(off.text, missing.text, "a stranger cannot tell them apart");
    let kept = app.control.until("/v1/refusals", |kept| kept["items"][1].is_object()).await;
    let codes: Vec<_> = kept["items"].as_array().unwrap().iter().map(|item| &item["code"]).collect();
    assert_eq!(codes, ["route.unknown", "route.disabled"]);
    app.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let erp = erp();
    let app = Folder::with_orders(&erp, "    limits: { max_body: 1KiB }").start().await;
    // Only the head is sent: an answer shows that nothing waits for the body.
    let declared = raw(&app, &[b"POST /hooks/orders HTTP/1.1\r\nhost: x\r\ncontent-length: 50000000\r\n\r\n"]).await;
    assert!(declared.starts_with("HTTP/1.1 413 "), "{declared}");
    let chunk = [b"400\r\n".as_slice(), &[b'a'; 1024], b"\r\n"].concat();
    let head = b"POST /hooks/orders HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunked = raw(&app, &[head, &chunk, &chunk]).await;
    assert!(chunked.starts_with("HTTP/1.1 413 "), "{chunked}");
    let fits = format!(r#"{{"id":1,"note":"{}"}}"#, "a".repeat(900));
    app.control.ended(&app.deliver("d-1", &fits).await.run()).await;
    app.stop().await;
}

/// Sends pieces as they are, and reads the head of the answer.
async fn raw(app: &App, pieces: &[&[u8]]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(app.hooks.strip_prefix("http://").unwrap()).await.unwrap();
    for piece in pieces {
        socket.write_all(piece).await.unwrap();
    }
    let mut answer = vec![0; 4096];
    let read = socket.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test]
async fn rates_of_one_route_and_of_all() {
    let erp = erp();
    let settings = OPEN.replace("hooks: {", "hooks: { rate: 1/h, burst: 5,");
    let folder = Folder::new(&settings, Some(&erp));
    folder.write("workflows/push.yaml", PUSH);
    folder.write("routes/orders.yaml", &orders_route("    limits: { rate: 1/h, burst: 2 }"));
    let app = folder.start().await;
    let mut statuses = Vec::new();
    for n in 0..4 {
        let answer = app.deliver(&format!("d-{n}"), &format!(r#"{{"id":{n}}}"#)).await;
        if answer.status == 429 {
            assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [202, 202, 429, 429]);
    app.deliver("d-4", "{}").await.expect(429);
    let kept = app.control.until("/v1/refusals", |kept| kept["items"][2].is_object()).await;
    assert_eq!(kept["items"][0]["code"], "rate.route");
    // Five have come: now the gateway as a whole has had enough.
    app.deliver("d-5", "{}").await.expect(429);
    let kept = app.control.until("/v1/refusals", |kept| kept["items"][3].is_object()).await;
    assert_eq!(kept["items"][0]["code"], "rate.global");
    app.stop().await;
}

#[tokio::test]
async fn addresses_behind_trusted_proxies() {
    let erp = erp();
    let settings = OPEN.replace("hooks: {", "hooks: { trusted_proxies: [\"127.0.0.1/32\", \"10.0.0.0/8\"],");
    let folder = Folder::new(&settings, Some(&erp));
    folder.write("workflows/push.yaml", PUSH);
    folder.write("routes/orders.yaml", &orders_route("    allow_ip: [\"23.227.38.0/24\"]"));
    let app = folder.start().await;
    let mut number = 0;
    for (forwarded, status) in [
        (None, 403),
        (Some("23.227.38.5"), 202),
        (Some("8.8.8.8"), 403),
        // What the sender writes itself stands on the left, and counts for nothing.
        (Some("23.227.38.5, 8.8.8.8"), 403),
        (Some("8.8.8.8, 23.227.38.5"), 202),
        (Some("23.227.38.5, 10.1.2.3"), 202),
        (Some("not an address"), 403),
    ] {
        number += 1;
        let body = format!(r#"{{"id":{number}}}"#);
        let mut headers = shopify(KEY, &format!("d-{number}"), &body);
        headers.extend(forwarded.map(|list| ("x-forwarded-for", list.to_owned())));
        let answer = app.post("/hooks/orders", &headers, &body).await;
        assert_eq!(answer.status, status, "{forwarded:?}: {}", answer.text);
    }
    app.stop().await;
}

const TWO_WORKFLOWS: &str = r#"
version: 1
routes:
  - name: created
    path: /hooks/orders
    verify: { preset: shopify, secret_ref: shop-key }
    filter: ${{ headers["x-shopify-topic"] == "orders/create" }}
    workflow: push
    inputs: { order: "${{ body }}" }
  - name: large
    path: /hooks/orders
    verify: { preset: shopify, secret_ref: shop-key }
    filter: ${{ body.total | int > 100 }}
    workflow: tell
    inputs: { text: "${{ body.name }}" }
"#;

const TELL: &str = r#"
version: 1
name: tell
inputs: { text: { type: string } }
tasks:
  - { id: say, type: transform, with: { input: "${{ inputs.text }}", jq: . } }
"#;

#[tokio::test]
async fn two_routes_on_one_path_start_what_their_filters_want() {
    let erp = erp();
    let folder = Folder::new(OPEN, Some(&erp));
    folder.write("workflows/push.yaml", PUSH);
    folder.write("workflows/tell.yaml", TELL);
    folder.write("routes/orders.yaml", TWO_WORKFLOWS);
    let app = folder.start().await;
    let both = app.deliver("d-1", r##"{"id":1,"name":"#1","total":500}"##).await.expect(202);
    let runs: Vec<_> = both["run_ids"].as_array().unwrap().iter().map(|run| run.as_str().unwrap()).collect();
    assert_eq!(runs.len(), 2, "{both}");
    let mut sources = Vec::new();
    for run in runs {
        let shown = app.control.ended(run).await;
        assert_eq!(shown["status"], "succeeded", "{shown}");
        sources.push(shown["source"].as_str().unwrap().to_owned());
    }
    sources.sort();
    assert_eq!(sources, ["created", "large"]);
    let again = app.deliver("d-1", r##"{"id":1,"name":"#1","total":500}"##).await;
    assert_eq!((again.json(), again.header("clawhook-duplicate")), (both, Some("true")));
    // One of them wants this.
    let one = app.deliver("d-2", r##"{"id":2,"name":"#2","total":5}"##).await.run();
    assert_eq!(app.control.ended(&one).await["source"], "created");
    // Neither wants this.
    let body = r##"{"id":3,"name":"#3","total":5}"##;
    let mut headers = shopify(KEY, "d-3", body);
    headers.retain(|(name, _)| *name != "x-shopify-topic");
    headers.push(("x-shopify-topic", "orders/delete".to_owned()));
    let none = app.post("/hooks/orders", &headers, body).await;
    assert_eq!((none.status, none.json()), (202, json!({ "status": "filtered" })));
    assert_eq!(app.control.get("/v1/runs").await["items"].as_array().unwrap().len(), 3);
    app.stop().await;
}

#[tokio::test]
async fn a_paused_route_holds_and_then_releases() {
    let erp = erp();
    let folder = Folder::with_orders(&erp, "");
    let app = folder.start().await;
    let paused = app.control.post("/v1/routes/orders/pause", &json!({ "reason": "stocktaking" })).await;
    assert_eq!(paused.expect(200)["paused"], true);
    let run = app.deliver("d-1", ORDER).await.run();
    let shown = app.control.get(&format!("/v1/runs/{run}")).await;
    assert_eq!(shown["status"], "waiting", "{shown}");
    assert!(shown["why_waiting"].as_str().unwrap().contains("orders"), "{shown}");
    // The pause and what it holds outlive the process.
    app.stop().await;
    let app = folder.start().await;
    let second = app.deliver("d-2", r#"{"id":2}"#).await.run();
    assert_eq!(app.control.get(&format!("/v1/runs/{second}")).await["status"], "waiting");
    assert_eq!(erp.requests().len(), 0);
    let resumed = app.control.post("/v1/routes/orders/resume", &json!({})).await.expect(200);
    assert_eq!(resumed["released"], 2, "{resumed}");
    assert_eq!(resumed["route"]["paused"], false);
    for run in [&run, &second] {
        assert_eq!(app.control.ended(run).await["status"], "succeeded");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_route_that_its_file_pauses_is_released_by_its_file() {
    let erp = erp();
    let folder = Folder::with_orders(&erp, "    paused: true");
    let app = folder.start().await;
    let run = app.deliver("d-1", ORDER).await.run();
    app.control.post("/v1/routes/orders/resume", &json!({})).await.problem(409, "route.paused_by_file");
    folder.write("routes/orders.yaml", &orders_route(""));
    app.control.post("/v1/reload", &json!({})).await.expect(200);
    assert_eq!(app.control.post("/v1/routes/orders/resume", &json!({})).await.expect(200)["released"], 1);
    assert_eq!(app.control.ended(&run).await["status"], "succeeded");
    app.stop().await;
}

#[tokio::test]
async fn what_is_redacted_is_nowhere() {
    let erp = erp();
    let folder = Folder::with_orders(&erp, "    redact: [\"$.customer\", \"$.items[*].engraving\"]");
    let app = folder.start().await;
    let body = json!({
        "id": 7, "customer": { "email": "li.wei@example.com" },
        "items": [{ "sku": "A", "engraving": "for-my-love" }, { "sku": "B", "engraving": "to-grandpa" }],
    });
    let run = app.deliver("d-1", &body.to_string()).await.run();
    let shown = app.control.ended(&run).await;
    assert_eq!(shown["status"], "succeeded", "{shown}");
    let events = app.control.get(&format!("/v1/runs/{run}/events")).await;
    app.stop().await;
    let stored = folder.stored_bytes();
    for secret in ["li.wei", "for-my-love", "to-grandpa"] {
        assert!(!shown.to_string().contains(secret) && !events.to_string().contains(secret), "{secret} is shown");
        assert!(!contains(&stored, secret.as_bytes()), "{secret} is stored");
        assert!(!erp.requests().iter().any(|request| contains(&request.body, secret.as_bytes())));
    }
    assert!(contains(&stored, b"\"sku\""), "the scan would find what is there");
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

const HANDSHAKES: &str = r"
version: 1
routes:
  - { name: github, path: /hooks/github, verify: { preset: github, secret_ref: shop-key }, workflow: tell, inputs: {} }
  - { name: slack, path: /hooks/slack, verify: { preset: slack, secret_ref: shop-key }, workflow: tell, inputs: {} }
";

#[tokio::test]
async fn handshakes_are_answered_and_start_nothing() {
    use aws_lc_rs::hmac;
    let hex = |text: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
        data_encoding::HEXLOWER.encode(hmac::sign(&key, text.as_bytes()).as_ref())
    };
    let folder = Folder::new(OPEN, None);
    folder.write("workflows/tell.yaml", &TELL.replace("type: string", "type: string, default: hi"));
    folder.write("routes/handshakes.yaml", HANDSHAKES);
    let app = folder.start().await;
    let ping = r#"{"zen":"Keep it logically awesome.","hook_id":1}"#;
    let github = |event: &str| {
        vec![
            ("x-hub-signature-256", format!("sha256={}", hex(ping))),
            ("x-github-event", event.to_owned()),
            ("x-github-delivery", "g-1".to_owned()),
        ]
    };
    assert!((200..300).contains(&app.post("/hooks/github", &github("ping"), ping).await.status));
    let challenge = r#"{"type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV"}"#;
    let now = clawhook::clock::Clock::now(&clawhook::clock::SystemClock).as_secs();
    let slack = [
        ("x-slack-signature", format!("v0={}", hex(&format!("v0:{now}:{challenge}")))),
        ("x-slack-request-timestamp", now.to_string()),
    ];
    let answer = app.post("/hooks/slack", &slack, challenge).await;
    assert!(answer.status == 200 && answer.text.contains("3eZbrw1aBm2rZgRNFdxV"), "{answer:?}");
    let forged = [("x-slack-signature", "v0=00".to_owned()), ("x-slack-request-timestamp", now.to_string())];
    let forged = app.post("/hooks/slack", &forged, challenge).await;
    assert!(forged.status == 401 && !forged.text.contains("3eZbrw1aBm2rZgRNFdxV"));
    assert_eq!(app.control.get("/v1/runs").await["items"], json!([]));
    // What is no handshake runs.
    app.control.ended(&app.post("/hooks/github", &github("push"), ping).await.run()).await;
    app.stop().await;
}

#[tokio::test]
async fn without_its_store_the_gateway_says_come_again() {
    let erp = erp();
    let app = Folder::with_orders(&erp, "").start().await;
    app.control.ended(&app.deliver("d-1", ORDER).await.run()).await;
    app.running.gateway.engine().store().close().await;
    let answer = app.deliver("d-2", r#"{"id":2}"#).await;
    answer.expect(503);
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    app.control.ask("/readyz").await.problem(503, "store.unavailable");
    assert_eq!(app.control.ask("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_route_without_its_secret_says_come_again() {
    let erp = erp();
    let folder = Folder::with_orders(&erp, "");
    let app = folder.start().await;
    std::fs::remove_file(folder.path("secrets/shop-key")).unwrap();
    let answer = app.deliver("d-1", ORDER).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.header("retry-after").is_some() && !answer.text.contains("secret"));
    app.stop().await;
}

#[tokio::test]
async fn two_keys_live_while_one_rotates() {
    let erp = erp();
    let folder = Folder::with_orders(&erp, "");
    let route = orders_route("").replace("secret_ref: shop-key", "secret_ref: [shop-key, shop-key-old]");
    folder.write("routes/orders.yaml", &route);
    folder.secret("shop-key-old", "the-key-of-last-year");
    let app = folder.start().await;
    for (number, key) in [KEY, "the-key-of-last-year"].into_iter().enumerate() {
        let body = format!(r#"{{"id":{number}}}"#);
        let answer = app.post("/hooks/orders", &shopify(key, &number.to_string(), &body), &body).await;
        app.control.ended(&answer.run()).await;
    }
    let other = app.post("/hooks/orders", &shopify("a-third-key", "9", "{}"), "{}").await;
    assert_eq!(other.status, 401);
    app.stop().await;
}

#[tokio::test]
async fn keys_that_travel_with_a_request_are_not_kept_when_it_is_refused() {
    let folder = Folder::new(OPEN, None);
    let secret = "sk-live-travelling-key-77";
    folder.secret("api", secret);
    folder.write("workflows/tell.yaml", &TELL.replace("type: string", "type: string, default: hi"));
    folder.write(
        "routes/key.yaml",
        r#"
version: 1
routes:
  - name: keyed
    path: /hooks/keyed
    verify: { preset: api_key, secret_ref: api, name: X-Partner-Key }
    limits: { rate: 1/h, burst: 1 }
    workflow: tell
    inputs: {}
  - name: walled
    path: /hooks/walled
    verify: { preset: api_key, secret_ref: api, name: X-Partner-Key }
    allow_ip: ["23.227.38.0/24"]
    workflow: tell
    inputs: {}
"#,
    );
    let app = folder.start().await;
    let key = [("x-partner-key", secret.to_owned()), ("x-other", format!("Key {secret}"))];
    let run = app.post("/hooks/keyed", &key, "{}").await.run();
    app.control.ended(&run).await;
    app.post("/hooks/keyed", &key, secret).await.expect(429);
    app.post("/hooks/walled", &key, secret).await.expect(403);
    let kept = app.control.until("/v1/refusals", |kept| kept["items"][1].is_object()).await;
    assert!(!kept.to_string().contains(secret), "{kept}");
    assert!(!app.control.ask(&format!("/v1/runs/{run}")).await.text.contains(secret));
    app.stop().await;
    assert!(!contains(&folder.stored_bytes(), secret.as_bytes()), "the key is stored");
}

#[test]
fn the_signature_of_these_tests_is_the_known_one() {
    // RFC 4231, test case 2.
    let known = b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let known = data_encoding::HEXLOWER.decode(known).unwrap();
    assert_eq!(signature("Jefe", "what do ya want for nothing?"), data_encoding::BASE64.encode(&known));
}
