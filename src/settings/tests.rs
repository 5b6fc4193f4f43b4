#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;

use super::*;
use crate::spec::diagnostic::{Look, Report};

const SECRET: (&str, &str) = ("JWT_SECRET", "0123456789abcdef0123456789abcdef");

fn resolve(text: &str, env: &[(&str, &str)]) -> (Option<Settings>, Vec<Problem>) {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::resolve("clawhook.yaml", text.as_bytes(), Path::new("/etc/clawhook"), env)
}

/// The codes that a text gives; warnings count, and settings come only without errors.
#[track_caller]
fn check(text: &str, env: &[(&str, &str)], codes: &[&str]) {
    let (settings, problems) = resolve(text, env);
    let found: Vec<&str> = problems.iter().map(|problem| problem.code).collect();
    assert_eq!(found, codes, "{text}\n{}", Report::new(problems.clone()).render(Look::Plain));
    let healthy = problems.iter().all(|problem| problem.severity == Severity::Warning);
    assert_eq!(settings.is_some(), healthy, "{text}");
}

#[test]
fn an_empty_file_has_every_default() {
    let (settings, problems) = resolve("version: 1\n", &[SECRET]);
    assert!(problems.is_empty(), "{problems:?}");
    let settings = settings.unwrap();
    assert_eq!(settings.hooks.address.to_string(), "127.0.0.1:8443");
    assert_eq!(settings.control.address.to_string(), "127.0.0.1:8080");
    assert!(matches!(settings.auth, Auth::Methods { jwt: Some(_), .. }));
    assert_eq!(settings.storage.path, Path::new("/etc/clawhook/data"));
    assert_eq!(settings.routes, Path::new("/etc/clawhook/routes"));
    assert_eq!(settings.retention.payloads, limits::RETENTION_PAYLOADS);
}

#[test]
fn doors_are_safe_unless_told_otherwise() {
    let hooks = |rest: &str| format!("version: 1\nauth: none\nlisten: {{ hooks: {{ {rest} }} }}\n");
    check(&hooks("address: \"127.0.0.1:80\""), &[], &[]);
    check(&hooks("address: \"[::1]:80\""), &[], &[]);
    check(&hooks("address: \"0.0.0.0:80\""), &[], &["spec.insecure"]);
    check(&hooks("address: \"0.0.0.0:80\", insecure: true"), &[], &["spec.insecure"]);
    assert!(resolve(&hooks("address: \"0.0.0.0:80\", insecure: true"), &[]).0.is_some());
    check(&hooks("address: \"127.0.0.1:8080\""), &[], &["spec.listen"]);
    check(&hooks("address: \"127.0.0.1:99999\""), &[], &["spec.value"]);
    check(&hooks("tls: { cert: no.pem, key: no.key }"), &[], &["spec.file", "spec.file"]);
    check(&hooks("tls: { cert: no.pem }"), &[], &["spec.missing_key"]);
    check(&hooks("tls: {}"), &[], &["spec.missing_key", "spec.missing_key"]);
    check(&hooks("tls: { key_vault_certificate: door }"), &[], &["spec.listen"]);
    check(&hooks("trusted_proxies: [10.0.0.0/33], burst: 5"), &[], &["spec.value", "spec.no_effect"]);
}

#[test]
fn the_control_door_wants_proof() {
    let control = |auth: &str| {
        format!("version: 1\nlisten: {{ control: {{ address: \"10.0.0.1:80\", insecure: true }} }}\n{auth}\n")
    };
    check("version: 1\n", &[], &["spec.jwt_secret"]);
    check("version: 1\n", &[("JWT_SECRET", "short")], &["spec.jwt_secret"]);
    check("version: 1\nauth: none\n", &[], &[]);
    check(&control("auth: none"), &[], &["spec.insecure", "spec.auth"]);
    check(&control(""), &[SECRET], &["spec.insecure"]);
    check("version: 1\nauth: {}\n", &[], &["spec.auth"]);
    check("version: 1\nauth: { basic: { users: { ops: { secret_ref: ops-password } } } }\n", &[], &[]);
    check("version: 1\nauth: { jwt: { secret_env: OTHER } }\n", &[("OTHER", SECRET.1)], &[]);
}

#[test]
fn the_environment_lies_over_the_file() {
    let text = "version: 1\nauth: none\nconnections: { erp-eu: { base_url: https://old.example.com } }\n";
    let env = [
        ("CLAWHOOK__LISTEN__HOOKS__ADDRESS", "127.0.0.1:9000"),
        ("CLAWHOOK__CONNECTIONS__ERP_EU__BASE_URL", "https://new.example.com"),
        ("CLAWHOOK__LIMITS", "{ concurrency: 7, max_body: 1MiB }"),
        ("CLAWHOOK__EGRESS__ALLOW", "[10.0.0.0/8]"),
    ];
    let (settings, problems) = resolve(text, &env);
    assert!(problems.is_empty(), "{problems:?}");
    let settings = settings.unwrap();
    assert_eq!(settings.hooks.address.port(), 9000);
    assert_eq!(settings.connections["erp-eu"].base_url.as_str(), "https://new.example.com/");
    assert_eq!((settings.runs_active_max.get(), settings.body_bytes_max), (7, 1024 * 1024));
    assert!(settings.egress.check([10, 1, 2, 3].into()).is_ok());
}

#[test]
fn problems_point_at_the_variable() {
    let text = "version: 1\nauth: none\n";
    let at = |variable: &str, value: &str, place: (&str, usize, &str)| {
        let (_, problems) = resolve(text, &[(variable, value)]);
        let entries = Report::new(problems).entries();
        let found: Vec<_> = entries.iter().map(|entry| (entry.file.as_str(), entry.column, entry.code)).collect();
        assert_eq!(found, [place], "{variable}");
    };
    at("CLAWHOOK__LISTEN__HOOKS__ADRESS", "127.0.0.1:1", ("environment", 26, "spec.unknown_key"));
    at("CLAWHOOK__LISTEN__HOOKS__ADDRESS", "here", ("environment", 34, "spec.value"));
    at("CLAWHOOK__RETENTION__RUNS", "5000000d", ("environment", 27, "spec.value"));
    at("CLAWHOOK__STORAGE", "[1", ("environment", 19, "spec.syntax"));
}

#[test]
fn connections_are_held_to_their_words() {
    let erp = |rest: &str| {
        format!("version: 1\nauth: none\nconnections: {{ erp: {{ base_url: https://erp.example.com, {rest} }} }}\n")
    };
    check(&erp("auth: { type: header, header: X-Api-Key, secret_ref: k, prefix: 'Key ' }"), &[], &[]);
    check(&erp("auth: { type: header, secret_ref: k }"), &[], &["spec.missing_key"]);
    check(&erp("auth: { type: bearer, secret_ref: k, prefix: x }"), &[], &["spec.connection"]);
    check(&erp("auth: { type: basic, secret_ref: k }"), &[], &["spec.missing_key"]);
    check(&erp("auth: { type: basic, username: { secret_ref: u }, secret_ref: k, field: f }"), &[], &[]);
    check(
        &erp("headers: { 'X Y': a, X-Z: \"${{ 1 }}\", X-Ok: { secret_ref: k } }"),
        &[],
        &["spec.name", "spec.expression"],
    );
    check(&erp("tls: { ca: no.pem }"), &[], &["spec.file"]);
    let url = |url: &str| format!("version: 1\nauth: none\nconnections: {{ erp: {{ base_url: '{url}' }} }}\n");
    check(&url("https://erp.example.com/api?x=1"), &[], &["spec.connection"]);
    check(&url("http://127.0.0.1:9400"), &[], &["spec.egress"]);
    check(&url("http://localhost:9400"), &[], &["spec.egress"]);
    check(&(url("http://127.0.0.1:9400") + "egress: { allow: [127.0.0.0/8] }\n"), &[], &[]);
    let (settings, _) = resolve(&erp("auth: { type: bearer, secret_ref: k }"), &[]);
    let named: Vec<String> = settings.unwrap().secrets_named.iter().map(|used| used.reference.to_string()).collect();
    assert_eq!(named, ["k"]);
}

#[test]
fn files_are_found_beside_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("secrets")).unwrap();
    fs::write(folder.path().join("cert.pem"), "x").unwrap();
    let file = folder.path().join("clawhook.yaml");
    let text = "version: 1\nauth: none\nsecrets: { source: file, path: ./secrets }\nlisten: { hooks: { address: \"0.0.0.0:443\", tls: { cert: cert.pem, key: cert.pem } } }\n";
    fs::write(&file, text).unwrap();
    let (settings, problems) = Settings::load(&file, []);
    assert!(problems.is_empty(), "{problems:?}");
    let settings = settings.unwrap();
    assert_eq!(settings.secrets.path.as_deref(), Some(folder.path().join("secrets").as_path()));
    let Some(DoorTls::Files(files)) = settings.hooks.tls else { panic!("no files: {:?}", settings.hooks.tls) };
    assert_eq!(files.cert, folder.path().join("cert.pem"));
    let (settings, problems) = Settings::load(&folder.path().join("no.yaml"), []);
    assert!(settings.is_none());
    assert_eq!(problems[0].message, "the file cannot be read: it is not there");
}

#[test]
fn a_certificate_comes_from_files_or_from_the_vault() {
    let settings = |tls: &str| {
        format!(
            "version: 1\nauth: none\nlisten: {{ hooks: {{ address: \"0.0.0.0:8443\", tls: {tls} }} }}\n\
             secrets: {{ source: key-vault, vault_url: https://orders.vault.azure.net }}\n"
        )
    };
    check(&settings("{ key_vault_certificate: door, cert: a.pem }"), &[], &["spec.listen"]);
    check(&settings("{ key_vault_certificate: door }"), &[], &[]);
    let tls = resolve(&settings("{ key_vault_certificate: door }"), &[]).0.unwrap().hooks.tls;
    assert!(matches!(tls, Some(DoorTls::KeyVault(name)) if name.as_str() == "door"));
}

#[test]
fn a_managed_identity_wants_a_scope_and_no_secret() {
    let connection = |auth: &str| {
        format!(
            "version: 1\nauth: none\nconnections: {{ arm: {{ base_url: https://management.azure.com, auth: {{ {auth} }} }} }}\n"
        )
    };
    check(&connection("type: managed_identity, scope: https://management.azure.com/.default"), &[], &[]);
    check(&connection("type: managed_identity, scope: api://0b1c/.default"), &[], &[]);
    check(&connection("type: managed_identity"), &[], &["spec.missing_key"]);
    check(&connection("type: managed_identity, scope: https://management.azure.com"), &[], &["spec.value"]);
    check(&connection("type: managed_identity, scope: https://a/.default, secret_ref: x"), &[], &["spec.connection"]);
    check(&connection("type: bearer"), &[], &["spec.missing_key"]);
    check(&connection("type: bearer, secret_ref: x, scope: https://a/.default"), &[], &["spec.connection"]);
}

/// The example of the guide, and every way that asks for tokens.
#[test]
fn budgets_and_tokens_are_read() {
    let text = r#"
version: 1
auth: none
connections:
  amazon:
    base_url: https://sellingpartnerapi-na.amazon.com
    auth: { type: lwa, client_id: c, client_secret: { secret_ref: s }, refresh_token: { secret_ref: r } }
    rate_limit:
      rate: 2/s
      burst: 10
      operations:
        - { match: POST /reports/2021-06-30/reports, rate: 1/m, burst: 15 }
        - { match: "* /orders/**", rate: 30/m }
    circuit_breaker: {}
  ads:
    base_url: https://advertising-api.amazon.com
    auth: { type: lwa, api: ads, client_id: { secret_ref: i }, client_secret: { secret_ref: s }, scope: x }
  walmart:
    base_url: https://marketplace.walmartapis.com
    auth: { type: walmart, client_id: c, client_secret: { secret_ref: s }, channel_type: { secret_ref: t } }
  erp:
    base_url: https://erp.example.com
    auth: { type: oauth2_client_credentials, token_url: "https://id/t", client_id: c, client_secret: { secret_ref: s }, client_auth: post, audience: a, params: { p: q } }
  crm:
    base_url: https://crm.example.com
    auth: { type: oauth2_refresh_token, token_url: "https://id/t", client_id: c, client_secret: { secret_ref: s }, refresh_token: { secret_ref: r } }
"#;
    let (settings, problems) = resolve(text, &[]);
    assert!(problems.is_empty(), "{}", Report::new(problems).render(Look::Plain));
    let connections = settings.unwrap().connections;
    let amazon = &connections["amazon"];
    let shown: Vec<_> = amazon
        .rate_limit
        .operations
        .iter()
        .map(|(pattern, limit)| format!("{pattern}: {} {}", limit.rate, limit.burst))
        .collect();
    assert_eq!(shown, ["POST /reports/2021-06-30/reports: 1/m 15", "* /orders/**: 30/m 30"]);
    assert_eq!(amazon.rate_limit.rest.map(|rest| rest.burst.get()), Some(10));
    let breaker = amazon.circuit_breaker.unwrap();
    assert_eq!((breaker.failures, breaker.open_for), (limits::BREAKER_FAILURES, limits::BREAKER_OPEN_FOR));
    let secrets = |name: &str| connections[name].secrets().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(secrets("amazon"), ["s", "r"]);
    assert_eq!(secrets("ads"), ["i", "s", "i"]);
    assert_eq!(
        (secrets("walmart"), secrets("erp")),
        (vec!["s".to_owned(), "t".to_owned(), "t".to_owned()], vec!["s".to_owned()])
    );
}
