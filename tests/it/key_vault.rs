//! Secrets, certificates and tokens from Azure, against the emulators of `infra/emulators.sh`: the real program with the
//! official client in it, over TLS.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use futures_util::future::join_all;
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::app::{Answer, Folder, KEY, PUSH, orders_route, shopify};
use crate::emulators::wanted;
use crate::process::Process;
use crate::standin::{self, Standin};

/// Looks for something that is to come, and the pause between two of them.
const LOOKS_MAX: usize = 1_500;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A vault of its own: the emulator keeps one for each host name.
struct Vault {
    host: String,
    zone: &'static str,
    address: String,
    ca: String,
    identity: BTreeMap<String, String>,
    http: reqwest::Client,
}

impl Vault {
    /// A fresh vault, unless the emulator is not there.
    fn named(name: &str) -> Option<Self> {
        Self::in_zone(name, "vault.azure.net")
    }

    fn in_zone(name: &str, zone: &'static str) -> Option<Self> {
        let address = wanted("CLAWHOOK_TEST_VAULT_ADDRESS")?;
        let (ca, host) = (wanted("CLAWHOOK_TEST_CA")?, format!("{name}-{:08x}.{zone}", rand::random::<u32>()));
        let root = reqwest::Certificate::from_pem(&std::fs::read(&ca).unwrap()).unwrap();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
        let http = http.resolve(&host, address.parse().unwrap()).build().unwrap();
        let identity = [
            ("IDENTITY_ENDPOINT".to_owned(), wanted("CLAWHOOK_TEST_IDENTITY_ENDPOINT")?),
            ("IDENTITY_HEADER".to_owned(), wanted("CLAWHOOK_TEST_IDENTITY_HEADER")?),
        ];
        Some(Self { host, zone, address, ca, identity: identity.into(), http })
    }

    /// Settings of a gateway that has its secrets here; `hooks` stands in the hooks door.
    fn settings(&self, hooks: &str) -> String {
        let Self { host, address, ca, zone, .. } = self;
        let cloud = if *zone == "vault.azure.cn" { "china" } else { "public" };
        format!(
            r#"
version: 1
listen: {{ hooks: {{ address: "127.0.0.1:0"{hooks} }}, control: {{ address: "127.0.0.1:0" }} }}
auth: none
secrets: {{ source: key-vault, vault_url: "https://{host}" }}
azure: {{ cloud: {cloud}, dns_overrides: {{ {host}: "{address}" }}, ca: {ca} }}
"#
        )
    }

    fn folder(&self, hooks: &str, erp: Option<&Standin>) -> Folder {
        let mut folder = Folder::new(&self.settings(hooks), erp);
        folder.env.clone_from(&self.identity);
        folder
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> Value {
        let url = format!("https://{}/{path}", self.host);
        let mut request = self.http.request(method, url).header("authorization", "Bearer test");
        if let Some(body) = body {
            request = request.json(body);
        }
        Answer::of(request.send().await.unwrap()).await.expect(200)
    }

    /// Makes a version; answers which.
    async fn set(&self, name: &str, body: &Value) -> String {
        let set = self.call(reqwest::Method::PUT, &format!("secrets/{name}?api-version=7.6"), Some(body)).await;
        set["id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
    }

    async fn tell(&self, what: &str) {
        self.call(reqwest::Method::POST, &format!("emulator/{what}"), None).await;
    }

    async fn count(&self) -> u64 {
        self.call(reqwest::Method::GET, "emulator/count", None).await["count"].as_u64().unwrap()
    }

    /// Runs a verb of the program on a folder.
    fn clawhook(&self, folder: &Folder, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clawhook"));
        command.args(arguments).arg("--config").arg(folder.path("clawhook.yaml"));
        command.env_clear().envs(&self.identity).stdin(Stdio::null()).output().unwrap()
    }
}

/// Reads the files again, and with them the secrets: what the time would do in a few minutes.
async fn reload(process: &Process) {
    process.control.post("/v1/reload", &json!({})).await.expect(200);
}

async fn deliver(process: &Process, key: &str, id: &str) -> Answer {
    let body = json!({ "id": id }).to_string();
    let mut request = process.control.http.post(format!("{}/hooks/orders", process.hooks)).body(body.clone());
    for (name, value) in shopify(key, id, &body) {
        request = request.header(name, value);
    }
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test]
async fn a_key_of_the_vault_verifies_is_rotated_and_outlives_the_vault() {
    let Some(vault) = Vault::named("rotate") else { return };
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    vault.set("shop-key", &json!({ "value": KEY })).await;
    let folder = vault.folder("", Some(&erp));
    folder.write("workflows/push.yaml", PUSH);
    // The vault knows no dots.
    folder.write("routes/orders.yaml", &orders_route("").replace("shop-key", "shop.key"));
    let asked = vault.count().await;
    let process = Process::start(&folder, "trace").await;
    let ids: Vec<_> = (0..20).map(|n| format!("d-1-{n}")).collect();
    let answers = join_all(ids.iter().map(|id| deliver(&process, KEY, id))).await;
    assert!(answers.iter().all(|answer| answer.status == 202), "{answers:?}");
    assert_eq!(vault.count().await, asked + 1, "all of them wait for one reading, and the next have it in memory");

    vault.set("shop-key", &json!({ "value": "the-next-key" })).await;
    reload(&process).await;
    deliver(&process, "the-next-key", "d-3").await.run();
    assert_eq!(deliver(&process, KEY, "d-4").await.status, 401);

    vault.tell("fail?next=1000&status=503&code=ServiceUnavailable").await;
    reload(&process).await;
    deliver(&process, "the-next-key", "d-5").await.run();
    let metrics = process.control.ask("/metrics").await.text;
    assert!(metrics.contains(r#"clawhook_secret_stale_total{secret="shop.key"}"#), "{metrics}");
    vault.tell("fail?next=0").await;
    vault
        .call(
            reqwest::Method::PATCH,
            "secrets/shop-key?api-version=7.6",
            Some(&json!({ "attributes": { "enabled": false } })),
        )
        .await;
    reload(&process).await;
    // A delivery that cannot be verified is not lost: its sender comes again.
    assert_eq!(deliver(&process, "the-next-key", "d-6").await.status, 503);
    let said = process.stop();
    assert!(said.contains("the last value goes on serving"), "{said}");
    assert!(said.contains("set-attributes --vault-name rotate-") && said.contains("--enabled true"), "{said}");
    for secret in ["the-next-key", KEY, "Bearer ey"] {
        assert!(!said.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn a_gateway_starts_while_its_vault_does_not_let_it_in() {
    let Some(vault) = Vault::named("late") else { return };
    vault.set("shop-key", &json!({ "value": KEY })).await;
    vault.set("ops-password", &json!({ "value": "s3same" })).await;
    vault.tell("forbid").await;
    let folder = vault.folder("", None);
    let with_people = "auth: { basic: { users: { ops: { secret_ref: ops-password } } } }";
    folder.write("clawhook.yaml", &vault.settings("").replace("auth: none", with_people));
    folder.write("workflows/done.yaml", "version: 1\nname: push\ninputs: { order: { type: object } }\ntasks:\n  - { id: end, type: stop, with: { status: succeeded } }\n");
    folder.write("routes/orders.yaml", &orders_route(""));
    let process = Process::start(&folder, "info").await;
    assert_eq!(deliver(&process, KEY, "d-1").await.status, 503);
    let ops = process.control.with(&format!("Basic {}", BASE64.encode(b"ops:s3same")));
    assert_eq!(ops.ask("/v1/runs").await.status, 401);

    vault.tell("allow").await;
    let hang_up = Command::new("kill").args(["-HUP", &process.id().to_string()]).status().unwrap();
    assert!(hang_up.success());
    for look in 0.. {
        assert!(look < LOOKS_MAX, "the key is not taken");
        let (taken, signed_in) = (deliver(&process, KEY, "d-1").await.status, ops.ask("/v1/runs").await.status);
        if (taken, signed_in) == (202, 200) {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let said = process.stop();
    assert!(said.contains("routes/orders.yaml:6"), "{said}");
    assert!(said.contains("az role assignment create --role \\\"Key Vault Secrets User\\\""), "{said}");
    assert!(said.contains("az keyvault show --name late-"), "{said}");
}

#[tokio::test]
async fn secrets_check_tells_every_state_and_what_mends_it() {
    let Some(vault) = Vault::named("states") else { return };
    let value = "hush-4711-hush";
    let later = 4_102_444_800_i64;
    vault.set("good", &json!({ "value": value, "attributes": { "exp": later } })).await;
    let pinned = vault.set("pinned", &json!({ "value": value })).await;
    vault.set("pinned", &json!({ "value": value })).await;
    vault.set("json", &json!({ "value": r#"{"key":"hush-4711-hush"}"# })).await;
    vault.set("off", &json!({ "value": value, "attributes": { "enabled": false } })).await;
    vault.set("over", &json!({ "value": value, "attributes": { "exp": 1_000_000_000 } })).await;
    vault.set("early", &json!({ "value": value, "attributes": { "nbf": later } })).await;
    vault.set("locked", &json!({ "value": value })).await;
    vault.tell("forbid?secret=locked").await;
    vault.set("busy", &json!({ "value": value })).await;
    vault.tell("fail?next=1&status=429&retry_after=1&secret=busy").await;
    vault.set("down", &json!({ "value": value })).await;
    vault.tell("fail?next=1000&status=500&secret=down").await;
    let folder = vault.folder("", None);
    let names = [
        ("good", "{ secret_ref: good }", "found", ""),
        ("pinned", &format!("{{ secret_ref: pinned, version: {pinned} }}"), "found", ""),
        ("json", "{ secret_ref: json, field: key, prefix: \"Bearer \" }", "found", ""),
        ("json", "{ secret_ref: json, field: nothing }", "unusable", "az keyvault secret set"),
        ("busy", "{ secret_ref: busy }", "found", ""),
        ("gone", "{ secret_ref: gone }", "missing", "--file FILE_WITH_THE_VALUE --output none"),
        ("pinned", "{ secret_ref: pinned, version: 0123456789abcdef }", "missing", "no version `0123456789abcdef`"),
        ("off", "{ secret_ref: off }", "disabled", "--name off --enabled true"),
        ("over", "{ secret_ref: over }", "expired", "az keyvault secret set"),
        ("early", "{ secret_ref: early }", "not_yet_valid", "az keyvault secret set"),
        (
            "locked",
            "{ secret_ref: locked }",
            "forbidden",
            "az role assignment create --role \"Key Vault Secrets User\"",
        ),
        ("down", "{ secret_ref: down }", "unreachable", "check `secrets` and `azure`"),
    ];
    let headers: Vec<_> =
        names.iter().enumerate().map(|(n, (_, secret, ..))| format!("      X-{n}: {secret}\n")).collect();
    let connection =
        format!("connections:\n  far:\n    base_url: https://far.example.com\n    headers:\n{}", headers.concat());
    folder.write("clawhook.yaml", &format!("{}{connection}", vault.settings("")));

    let output = vault.clawhook(&folder, &["secrets", "check", "--json"]);
    let (text, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{said}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let shown = report["secrets"].as_array().unwrap();
    assert_eq!(shown.len(), names.len(), "{text}");
    for (row, (name, secret, state, help)) in shown.iter().zip(&names) {
        assert_eq!((&row["name"], &row["state"]), (&json!(name), &json!(state)), "{secret}: {row}");
        assert!(row["help"].as_str().unwrap_or_default().contains(help), "{secret}: {row}");
        assert!(row["used_in"][0]["line"].is_number(), "{row}");
    }
    assert_eq!(shown[0]["expires"], "2100-01-01T00:00:00.000Z");
    assert_eq!(shown[1]["found_version"], pinned);
    assert_eq!(report["unusable"], 8);
    let table = vault.clawhook(&folder, &["secrets", "check"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("\nlocked ") && table.contains("12 secrets, 8 cannot be used"), "{table}");
    for shown in [&text, &said, &table] {
        assert!(!shown.contains("4711"), "{shown}");
    }
}

#[tokio::test]
async fn the_files_are_checked_without_a_vault() {
    let Some(vault) = Vault::named("unasked") else { return };
    let folder = vault.folder("", None);
    folder.write("routes/orders.yaml", &orders_route(""));
    folder.write(
        "workflows/push.yaml",
        &PUSH.replace("    connection: erp\n", "").replace("path: /orders", "url: https://erp.example.com/"),
    );
    let output = vault.clawhook(&folder, &["check"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    assert!(said.contains("`clawhook secrets check` does that"), "{said}");
    assert_eq!(vault.count().await, 0);
}

#[tokio::test]
async fn a_vault_of_another_cloud_is_spoken_to_as_that_cloud_wants() {
    let Some(vault) = Vault::in_zone("east", "vault.azure.cn") else { return };
    vault.set("shop-key", &json!({ "value": KEY })).await;
    let folder = vault.folder("", None);
    folder.write("routes/orders.yaml", &orders_route(""));
    let output = vault.clawhook(&folder, &["secrets", "check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("1 secret, all can be used"), "{text}");
}

#[tokio::test]
async fn an_identity_that_is_not_there_is_told_so() {
    let Some(mut vault) = Vault::named("nobody") else { return };
    vault.identity.insert("IDENTITY_ENDPOINT".to_owned(), "http://127.0.0.1:1/token".to_owned());
    let folder = vault.folder("", None);
    folder.write("routes/orders.yaml", &orders_route(""));
    let output = vault.clawhook(&folder, &["secrets", "check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("unreachable") && text.contains("no token as this machine's managed identity"), "{text}");
}

fn pair() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// What a certificate of a vault leaves behind under its name, in PEM.
fn pem(pair: &CertifiedKey<KeyPair>) -> Value {
    let value = format!("{}{}", pair.signing_key.serialize_pem(), pair.cert.pem());
    json!({ "value": value, "contentType": "application/x-pem-file" })
}

/// The same as PKCS#12 without a password.
fn pfx(pair: &CertifiedKey<KeyPair>) -> Value {
    let key = PrivateKey::from_der(&pair.signing_key.serialize_der()).unwrap();
    let chain = PrivateKeyChain::new("1", key, [Certificate::from_der(pair.cert.der()).unwrap()]);
    let mut store = KeyStore::new();
    store.add_entry("door", KeyStoreEntry::PrivateKeyChain(chain));
    json!({ "value": BASE64.encode(&store.writer("").write().unwrap()), "contentType": "application/x-pkcs12" })
}

/// A connection to the hooks door, and the certificate that it was opened with.
async fn connect(
    process: &Process,
    known: &[CertificateDer<'static>],
) -> (TlsStream<TcpStream>, CertificateDer<'static>) {
    let mut roots = RootCertStore::empty();
    for certificate in known {
        roots.add(certificate.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let socket = TcpStream::connect(process.hooks.strip_prefix("https://").unwrap()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    let seen = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    (stream, seen)
}

/// Connects until the door shows this certificate.
async fn becomes(process: &Process, known: &[CertificateDer<'static>], expected: &CertificateDer<'static>) {
    for _ in 0..LOOKS_MAX {
        if connect(process, known).await.1 == *expected {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("the new certificate is not taken");
}

#[tokio::test]
async fn the_door_has_its_certificate_from_the_vault_and_renews_it_in_place() {
    let Some(vault) = Vault::named("door") else { return };
    let (first, second, third) = (pair(), pair(), pair());
    let known = [first.cert.der().clone(), second.cert.der().clone(), third.cert.der().clone()];
    vault.set("hooks-door", &pem(&first)).await;
    let folder = vault.folder(", tls: { key_vault_certificate: hooks-door }", None);
    let process = Process::start(&folder, "info").await;
    let (mut open, seen) = connect(&process, &known).await;
    assert_eq!(seen, known[0]);
    let metrics = process.control.ask("/metrics").await.text;
    assert!(metrics.contains(r#"clawhook_tls_certificate_expires_seconds{door="hooks"} 67"#), "{metrics}");

    vault.set("hooks-door", &pfx(&second)).await;
    reload(&process).await;
    becomes(&process, &known, &known[1]).await;
    // What cannot be used, and a vault that is down, change nothing.
    vault.set("hooks-door", &json!({ "value": "AAAA", "contentType": "application/x-pkcs12" })).await;
    reload(&process).await;
    vault.tell("fail?next=3&status=500").await;
    reload(&process).await;
    assert_eq!(connect(&process, &known).await.1, known[1]);
    vault.tell("fail?next=0").await;
    vault.set("hooks-door", &pem(&third)).await;
    reload(&process).await;
    becomes(&process, &known, &known[2]).await;
    // The connection from the beginning goes on.
    open.write_all(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let said = process.stop();
    assert!(said.contains("the old one stays in force") && said.contains("no PKCS#12"), "{said}");
}

#[tokio::test]
async fn a_door_without_its_certificate_does_not_open() {
    let Some(vault) = Vault::named("shut") else { return };
    let folder = vault.folder(", tls: { key_vault_certificate: hooks-door }", None);
    let output = vault.clawhook(&folder, &["serve"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("the gateway cannot start: cannot get the certificate `hooks-door`"), "{said}");
    assert!(said.contains("az keyvault certificate import"), "{said}");
    vault.set("hooks-door", &json!({ "value": "hello" })).await;
    let said = String::from_utf8(vault.clawhook(&folder, &["serve"]).stderr).unwrap();
    assert!(said.contains("is no certificate with its key") && !said.contains("hello"), "{said}");
    let check = vault.clawhook(&folder, &["secrets", "check"]);
    let table = String::from_utf8(check.stdout).unwrap();
    assert!(table.contains("hooks-door  found  -        the certificate of the hooks door"), "{table}");
}

#[tokio::test]
async fn a_connection_proves_itself_with_a_token_that_no_record_shows() {
    let Some(vault) = Vault::named("token") else { return };
    let erp = Standin::start(&standin::Settings::default()).unwrap();
    let folder = vault.folder("", None);
    let connection = format!(
        "egress: {{ allow: [\"127.0.0.0/8\"] }}\nconnections:\n  erp:\n    base_url: \"{}\"\n    auth: {{ type: managed_identity, scope: https://management.azure.com/.default }}\n",
        erp.url()
    );
    folder.write("clawhook.yaml", &format!("{}{connection}", vault.settings("")));
    folder.write("workflows/push.yaml", PUSH);
    let process = Process::start(&folder, "trace").await;
    let body = json!({ "workflow": "push", "inputs": { "order": { "id": "1" } } });
    let run = process.control.post("/v1/workflows/trigger", &body).await.run();
    let run = process.control.ended(&run).await;
    assert_eq!(run["status"], "succeeded", "{run}");
    let requests = erp.requests_to("/orders");
    let token = requests[0].header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    let claims = BASE64URL_NOPAD.decode(token.split('.').nth(1).unwrap().as_bytes()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["aud"], "https://management.azure.com");
    let said = process.stop();
    let stored = folder.stored_bytes();
    for shown in [run.to_string().as_bytes(), said.as_bytes(), &stored] {
        assert!(!shown.windows(token.len()).any(|part| part == token.as_bytes()), "the token is shown");
    }
}
