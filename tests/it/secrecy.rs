//! Secrets go where they were declared and nowhere else: not to disk, not into logs, not to whoever looks at a run, in
//! none of the forms in which a value travels.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use serde_json::{Value, json};

use crate::app::{Answer, Control, Folder, shopify};
use crate::process::Process;
use crate::standin::{self, Fault, Standin};

/// Values with everything in them that some form of writing changes.
const HEADER: &str = "hdr/sk live+\"7Yq\\&=%3F\u{e9}";
const BEARER: &str = "brr-9f8e7d6c5b4a.token_value~";
const PASSWORD: &str = "pa ss:wörd/\"quoted\"+plus";
const WEBHOOK: &str = "whk<key>&amp;value+0451";
const JWT: &str = "jwt-secret-that-is-longer-than-32-bytes!";

const SETTINGS: &str = r#"
version: 1
listen: { hooks: { address: "127.0.0.1:0" }, control: { address: "127.0.0.1:0" } }
auth: { jwt: { secret_env: JWT_SECRET } }
egress: { allow: ["127.0.0.0/8"] }
connections:
  by-header: { base_url: "ERP", auth: { type: header, header: X-Api-Key, secret_ref: by-header } }
  by-bearer: { base_url: "ERP", auth: { type: bearer, secret_ref: by-bearer } }
  by-basic: { base_url: "ERP", auth: { type: basic, username: ops, secret_ref: by-basic } }
  by-extra: { base_url: "ERP", headers: { X-Extra: { secret_ref: by-bearer, prefix: "Key " } } }
"#;

const WORKFLOW: &str = r#"
version: 1
name: echo
inputs: { order: { type: object } }
tasks:
  - { id: header, type: http_request, connection: by-header, with: { method: POST, path: /echo, json: "${{ inputs.order }}" } }
  - { id: bearer, type: http_request, connection: by-bearer, with: { path: /echo } }
  - { id: basic, type: http_request, connection: by-basic, with: { path: /echo } }
  - { id: extra, type: http_request, connection: by-extra, with: { path: /echo } }
  - id: again
    type: http_request
    connection: by-extra
    with: { method: POST, path: /echo, json: "${{ tasks.bearer.body }}" }
  - { id: keep, type: set_state, with: { seen: "${{ tasks.basic.body }}" } }
  - { id: broken, type: http_request, connection: by-header, with: { path: /nowhere } }
outputs: { all: "${{ tasks.extra.body }}" }
"#;

const ROUTE: &str = r#"
version: 1
routes:
  - name: orders
    path: /hooks/orders
    verify: { preset: shopify, secret_ref: webhook }
    workflow: echo
    inputs: { order: "${{ body }}" }
  - name: keyed
    path: /hooks/keyed
    verify: { preset: api_key, secret_ref: webhook, in: query, name: key }
    workflow: echo
    inputs: { order: {} }
"#;

/// Every form in which a value may turn up.
fn forms(secret: &str) -> Vec<(String, String)> {
    let url: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let json = Value::from(secret).to_string();
    let basic = BASE64.encode(format!("ops:{secret}").as_bytes());
    let forms = [
        ("plain", secret.to_owned()),
        ("base64", BASE64.encode(secret.as_bytes()).trim_end_matches('=').to_owned()),
        ("base64url", BASE64URL_NOPAD.encode(secret.as_bytes())),
        ("hex", HEXLOWER.encode(secret.as_bytes())),
        ("HEX", HEXUPPER.encode(secret.as_bytes())),
        ("form", url.clone()),
        ("url", url.replace('+', "%20")),
        ("json", json[1..json.len() - 1].to_owned()),
        ("debug", format!("{secret:?}").trim_matches('"').to_owned()),
        ("basic", basic.trim_end_matches('=').to_owned()),
    ];
    forms.into_iter().map(|(name, form)| (name.to_owned(), form)).collect()
}

fn check_absent(place: &str, bytes: &[u8]) {
    for secret in [HEADER, BEARER, PASSWORD, WEBHOOK, JWT] {
        for (form, text) in forms(secret) {
            let found = bytes.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                let around = &bytes[at.saturating_sub(200)..(at + text.len() + 50).min(bytes.len())];
                panic!("{place} holds `{secret}` as {form}: {}", String::from_utf8_lossy(around));
            }
        }
    }
}

#[tokio::test]
async fn secrets_are_nowhere_but_at_the_far_end() {
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let mut folder = Folder::new(&SETTINGS.replace("ERP", &erp.url()), None);
    for (name, value) in [("BY_HEADER", HEADER), ("BY_BEARER", BEARER), ("BY_BASIC", PASSWORD), ("WEBHOOK", WEBHOOK)] {
        folder.env.insert(format!("CLAWHOOK_SECRET_{name}"), value.to_owned());
    }
    folder.env.insert("JWT_SECRET".to_owned(), JWT.to_owned());
    folder.write("workflows/echo.yaml", WORKFLOW);
    folder.write("routes/orders.yaml", ROUTE);
    // The far end says back in every form what this connection told it.
    let spoken = forms(HEADER);
    let echo = json!({ "ok": spoken.iter().map(|(_, text)| text).collect::<Vec<_>>() });
    erp.fail(Fault { path: "/nowhere".into(), status: Some(500), body: Some(echo), times: 100, ..Fault::default() });

    let process = Process::start(&folder, "trace").await;
    let token = token(&folder);
    let control = process.control.with(&format!("Bearer {token}"));
    let runs = deliver(&process, &control).await;
    let mut shown = String::new();
    for run in &runs {
        let run = control.ended(run).await;
        assert_eq!(run["status"], "failed", "the last task is refused: {run}");
        shown.push_str(&run.to_string());
    }
    let retried = control.post(&format!("/v1/runs/{}/replay", runs[0]), &json!({})).await.expect(202);
    control.ended(retried["run_id"].as_str().unwrap()).await;
    for path in ["/v1/runs", "/v1/refusals", "/v1/audit", "/v1/events", "/v1/workflows", "/v1/routes", "/metrics"] {
        shown.push_str(&control.ask(path).await.text);
    }
    for run in &runs {
        shown.push_str(&control.ask(&format!("/v1/runs/{run}/events")).await.text);
    }
    check_arrived(&erp);
    check_absent("the API", shown.as_bytes());
    let said = process.stop();
    assert!(said.contains("gateway started"), "{said}");
    check_absent("the log", said.as_bytes());
    check_absent("the store", &folder.stored_bytes());
}

/// The secrets did what they are for.
fn check_arrived(erp: &Standin) {
    let requests = erp.requests_to("/echo");
    let sent = |name: &str, value: &[u8]| {
        let value = String::from_utf8_lossy(value);
        assert!(requests.iter().any(|request| request.header(name) == Some(value.as_ref())), "{name} did not arrive");
    };
    sent("x-api-key", HEADER.as_bytes());
    sent("authorization", format!("Bearer {BEARER}").as_bytes());
    sent("authorization", format!("Basic {}", BASE64.encode(format!("ops:{PASSWORD}").as_bytes())).as_bytes());
    sent("x-extra", format!("Key {BEARER}").as_bytes());
}

/// Deliveries that hold the webhook's key where a sender may put it, right and wrong ones.
async fn deliver(process: &Process, control: &Control) -> Vec<String> {
    let body = r#"{"id":1,"name":"order"}"#;
    let key: String = url::form_urlencoded::byte_serialize(WEBHOOK.as_bytes()).collect();
    let keyed = format!("/hooks/keyed?key={key}&shop=1");
    let good = send(process, control, "/hooks/orders", &shopify(WEBHOOK, "1", body), body).await.run();
    let in_query = send(process, control, &keyed, &[], "{}").await.run();
    let mut forged = shopify("a wrong key", "2", body);
    forged.push(("x-copied", WEBHOOK.to_owned()));
    assert_eq!(
        send(process, control, "/hooks/orders", &forged, &json!({ "key": WEBHOOK }).to_string()).await.status,
        401
    );
    control.until("/v1/refusals", |kept| kept["items"][0].is_object()).await;
    vec![good, in_query]
}

async fn send(process: &Process, control: &Control, path: &str, headers: &[(&str, String)], body: &str) -> Answer {
    let mut request = control.http.post(format!("{}{path}", process.hooks)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    Answer::of(request.send().await.unwrap()).await
}

fn token(folder: &Folder) -> String {
    use clawhook::clock::{Clock as _, SystemClock};
    use clawhook::domain::secret::SecretValue;
    use clawhook::gateway::Scope;
    use clawhook::http::auth::token::TokenKey;
    let secret = SecretValue::new(folder.env["JWT_SECRET"].as_str());
    let hour = std::time::Duration::from_hours(1);
    TokenKey::new(&secret).unwrap().mint("test", &[Scope::Admin], hour, SystemClock.now()).unwrap()
}

#[test]
fn the_scan_finds_what_is_there() {
    for secret in [HEADER, BEARER] {
        for (_, form) in forms(secret) {
            let found = std::panic::catch_unwind(|| check_absent("a page", format!("<<{form}>>").as_bytes()));
            assert!(found.is_err(), "{form}");
        }
    }
    check_absent("a page", b"nothing of it");
}
