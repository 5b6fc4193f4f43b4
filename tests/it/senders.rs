//! Libraries of the platforms themselves send real requests to the real program: with the right keys they hear what the
//! platform counts as success, with wrong ones 401. `infra/senders.sh` installs them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::app::{Folder, OPEN};
use crate::emulators;
use crate::process::Process;

const NOTE: &str = "
version: 1
name: note
inputs: { body: { type: any } }
tasks: [ { id: keep, type: transform, with: { input: '${{ inputs.body }}', jq: . } } ]
outputs: { body: '${{ inputs.body }}' }
";

const ROUTES: [(&str, &str); 8] = [
    ("github", "{ preset: github, secret_ref: key-github }"),
    ("stripe", "{ preset: stripe, secret_ref: key-stripe }"),
    ("svix", "{ preset: standard_webhooks, secret_ref: key-svix }"),
    ("standard", "{ preset: standard_webhooks, secret_ref: key-svix }"),
    ("slack", "{ preset: slack, secret_ref: key-slack }"),
    ("events", "{ preset: azure_event_grid, query_param: code, topics: /topics/orders, secret_ref: key-grid }"),
    (
        "walmart",
        "{ preset: walmart_oauth, token_path: /walmart/token, client_id: walmart us, secret_ref: key-walmart }",
    ),
    (
        "wecom",
        "{ preset: wecom, receive_id: ww1, secrets: { token: { secret_ref: key-token }, encoding_aes_key: { secret_ref: key-aes } } }",
    ),
];

const KEYS: [(&str, &str); 7] = [
    ("github", "It's a Secret to Everybody"),
    ("stripe", "whsec_hush-stripe-0451"),
    ("svix", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ("slack", "8f742231b10e8888abcd99yyyzzz85a5"),
    ("grid", "hush grid+key/0451"),
    ("walmart", "hush%walmart:secret 0451"),
    ("token", "QDG6eK"),
];
const AES: &str = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C";

/// What is told in place of "accepted", where a library expects more; the rest hear 202 and a run.
const ANSWERS: [(&str, u16, &str); 4] = [
    ("wecom", 200, ""),
    ("wechatpy", 200, ""),
    ("cloudevents", 200, ""),
    ("slack_handshake", 200, r#"{"challenge":"3eZbrw1aBm2rZgRN"}"#),
];

/// What each library is to sign with.
fn keys(of: impl Fn(&str) -> String) -> Value {
    let key = |name: &str| of(KEYS.iter().find(|(known, _)| *known == name).unwrap().1);
    let wecom = json!({ "token": key("token"), "aes": AES, "corp": "ww1" });
    json!({
        "github": key("github"), "stripe": key("stripe"), "svix": key("svix"), "standardwebhooks": key("svix"),
        "slack": key("slack"), "slack_handshake": key("slack"), "cloudevents": key("grid"), "walmart": key("walmart"),
        "wecom": wecom, "wechatpy": wecom,
    })
}

/// Lets all libraries of both languages send with these keys.
fn send(folder: &Path, url: &str, keys: &Value) -> Vec<(String, u16, String)> {
    let plan = json!({ "url": url, "keys": keys }).to_string();
    let mut answers = Vec::new();
    for (program, script) in [(Path::new("node").to_owned(), "send.mjs"), (folder.join("venv/bin/python3"), "send.py")]
    {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/senders").join(script);
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(text(&ours), text(&folder.join(script)), "`{script}` has changed: run infra/senders.sh");
        let output = Command::new(program).arg(folder.join(script)).arg(&plan).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (sender, answer) in told.as_object().unwrap() {
            let status = u16::try_from(answer["status"].as_u64().unwrap()).unwrap();
            answers.push((sender.clone(), status, answer["body"].as_str().unwrap().to_owned()));
        }
    }
    answers
}

#[tokio::test]
async fn libraries_of_the_platforms_are_believed() {
    let Some(libraries) = emulators::wanted("CLAWHOOK_SENDERS") else { return };
    let folder = Folder::new(OPEN, None);
    folder.write("workflows/note.yaml", NOTE);
    let routes = ROUTES.map(|(path, verify)| {
        format!("  - {{ path: /{path}, workflow: note, verify: {verify}, inputs: {{ body: '${{{{ body }}}}' }} }}\n")
    });
    folder.write("routes/all.yaml", &format!("version: 1\nroutes:\n{}", routes.concat()));
    for (name, key) in KEYS {
        folder.secret(&format!("key-{name}"), key);
    }
    folder.secret("key-aes", AES);
    let gateway = Process::start(&folder, "warn").await;
    let libraries = Path::new(&libraries);

    // One letter of each key is another: still a key of its scheme.
    let wrong = |key: &str| [&key[..key.len() - 2], if key.ends_with("aA") { "bB" } else { "aA" }].concat();
    for (sender, status, body) in send(libraries, &gateway.hooks, &keys(wrong)) {
        assert_eq!(status, 401, "{sender} with a wrong key: {body}");
    }
    let none = gateway.control.get("/v1/runs").await;
    assert_eq!(none["items"], json!([]), "wrong keys started something");

    let answers = send(libraries, &gateway.hooks, &keys(str::to_owned));
    assert_eq!(answers.len(), 10, "{answers:?}");
    for (sender, status, body) in &answers {
        if let Some((_, expected, text)) = ANSWERS.iter().find(|(name, ..)| name == sender) {
            assert_eq!((*status, body.as_str()), (*expected, *text), "{sender}");
            continue;
        }
        assert_eq!(*status, 202, "{sender}: {body}");
        let told: Value = serde_json::from_str(body).unwrap();
        gateway.control.ended(told["run_id"].as_str().unwrap()).await;
    }
    // The handshake started nothing, and what both libraries of WeCom encrypted was read.
    let runs = gateway.control.until("/v1/runs?limit=50&status=succeeded", |runs| {
        runs["items"].as_array().unwrap().len() == answers.len() - 1
    });
    let runs = runs.await;
    let mut seen = Vec::new();
    for run in runs["items"].as_array().unwrap() {
        let run = gateway.control.get(&format!("/v1/runs/{}", run["id"].as_str().unwrap())).await;
        seen.push(run["outputs"]["body"].clone());
    }
    for (place, expected) in [
        ("/Content", json!("通过")),
        ("/Event", json!("click")),
        ("/issue/title", json!("订单 #1042")),
        ("/event/text", json!("发货")),
        ("/data/n", json!(21)),
    ] {
        assert!(seen.iter().any(|body| body.pointer(place) == Some(&expected)), "{place} of {seen:?}");
    }
    gateway.stop();
}
