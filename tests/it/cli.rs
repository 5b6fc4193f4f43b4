//! The real binary, for the verbs that need no gateway.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use clawhook::store::sqlite::Sqlite;

use crate::process;

fn clawhook(folder: &Path, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    process::clawhook(folder, arguments, env.iter().copied())
}

/// Exit code, stdout and stderr in one text; the folder's own name is filtered.
fn shown(folder: &Path, arguments: &[&str], env: &[(&str, &str)]) -> String {
    let output = clawhook(folder, arguments, env);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&folder.display().to_string(), "FOLDER");
    let code = output.status.code().map_or("none".to_owned(), |code| code.to_string());
    format!("exit {code}\n--- stdout\n{}--- stderr\n{}", text(output.stdout), text(output.stderr))
}

const SECRETS: [(&str, &str); 2] =
    [("CLAWHOOK_SECRET_SHOPIFY_US_WEBHOOK_KEY", "hush"), ("CLAWHOOK_SECRET_ERP_API_KEY", "hush")];

#[test]
fn init_check_and_next_work_in_an_empty_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    insta::assert_snapshot!("cli_init", shown(at, &["init"], &[]));
    insta::assert_snapshot!("cli_init_again", shown(at, &["init"], &[]));
    insta::assert_snapshot!("cli_check", shown(at, &["check"], &SECRETS));
    insta::assert_snapshot!("cli_check_without_secrets", shown(at, &["check"], &[]));
    let next = shown(at, &["next", "--from", "2026-11-22T09:00:00Z", "--count", "2", "--json"], &SECRETS);
    insta::assert_snapshot!("cli_next", next);
    let played = clawhook(at, &["test"], &[]);
    let said = String::from_utf8(played.stdout).unwrap();
    assert_eq!(played.status.code(), Some(0), "{said}");
    assert!(said.contains("inventory-reconcile"), "{said}");
}

#[test]
fn check_tells_everything_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let write = |name: &str, text: &str| {
        let path = at.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("clawhook.yaml", "version: 1\nauth: none\nretension: { runs: 90d }\n");
    write("routes/r.yaml", "version: 1\nschedules:\n  - { name: s, cron: \"61 * * * *\", workflow: w }\n");
    write("workflows/w.yaml", "version: 1\nname: w\ntasks:\n  - { id: a, type: wait, with: { for: 3 } }\n");
    insta::assert_snapshot!("cli_check_problems", shown(at, &["check"], &[]));
    let json = clawhook(at, &["check", "--json"], &[]);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["errors"], report["problems"].as_array().unwrap().len());
    assert_eq!(json.status.code(), Some(1));
}

#[test]
fn check_tells_a_key_that_cannot_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::create_dir(at.join("routes")).unwrap();
    std::fs::create_dir(at.join("workflows")).unwrap();
    std::fs::write(at.join("clawhook.yaml"), "version: 1\nauth: none\n").unwrap();
    let secrets = "{ token: { secret_ref: wecom-token }, encoding_aes_key: { secret_ref: wecom-aes } }";
    let verify = format!("{{ preset: wecom, receive_id: ww1, secrets: {secrets} }}");
    let route = format!("version: 1\nroutes:\n  - path: /hooks/wecom\n    verify: {verify}\n    workflow: w\n");
    std::fs::write(at.join("routes/r.yaml"), route).unwrap();
    let workflow = "version: 1\nname: w\ntasks:\n  - { id: a, type: wait, with: { for: 3s } }\n";
    std::fs::write(at.join("workflows/w.yaml"), workflow).unwrap();
    let told = |key: &str| {
        let set = [("CLAWHOOK_SECRET_WECOM_TOKEN", "t"), ("CLAWHOOK_SECRET_WECOM_AES", key)];
        let out = clawhook(at, &["check", "--json"], &set);
        serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()
    };
    let short = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2";
    let report = told(short);
    let problem = report["problems"][0].to_string();
    assert_eq!(report["errors"], 1, "{report}");
    assert!(problem.contains("`encoding_aes_key` is not an AES key of 43 characters"), "{problem}");
    assert!(problem.contains("r.yaml") && !problem.contains(short), "{problem}");
    assert_eq!(told(&format!("{short}C"))["errors"], 0);
}

#[test]
fn a_store_is_backed_up_restored_moved_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    clawhook(at, &["init"], &[]);
    let settings = std::fs::read_to_string(at.join("clawhook.yaml")).unwrap();
    assert!(settings.contains("storage:"), "{settings}");
    let other = [("CLAWHOOK__STORAGE__PATH", "./other")];
    let done = |arguments: &[&str], env: &[(&str, &str)]| {
        let output = clawhook(at, arguments, &[&SECRETS[..], env].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        said
    };
    drop(Sqlite::open(&at.join("data")).unwrap());
    let connection = rusqlite::Connection::open(at.join("data/clawhook.db")).unwrap();
    connection.execute("INSERT INTO marks (name, value) VALUES ('paused/route/a', 'x')", []).unwrap();
    connection.execute("INSERT INTO marks (name, value) VALUES ('artifacts/store/a', 'x')", []).unwrap();
    drop(connection);
    assert!(done(&["store", "verify"], &[]).contains("found 0 problems"));
    assert!(done(&["store", "backup", "all.jsonl.gz"], &[]).contains("2 pieces in all"));
    assert_eq!(clawhook(at, &["store", "backup", "all.jsonl.gz"], &SECRETS).status.code(), Some(1));
    done(&["store", "restore", "all.jsonl.gz"], &other);
    std::fs::write(at.join("new.yaml"), settings.replace("./data", "./third")).unwrap();
    done(&["store", "migrate", "--to", "new.yaml"], &[]);
    // A store that was restored may be a second one, so it does not take the first one's name beside its artifacts.
    for (path, names) in [("other", "paused/route/a"), ("third", "artifacts/store/a paused/route/a")] {
        let store = rusqlite::Connection::open(at.join(path).join("clawhook.db")).unwrap();
        let mut marks = store.prepare("SELECT name FROM marks WHERE value = 'x' ORDER BY name").unwrap();
        let marks: Result<Vec<String>, _> = marks.query_map([], |row| row.get(0)).unwrap().collect();
        assert_eq!(marks.unwrap().join(" "), names, "{path}");
    }
    let same = clawhook(at, &["store", "migrate", "--to", "clawhook.yaml"], &SECRETS);
    assert!(String::from_utf8(same.stderr).unwrap().contains("the same store"));
}

#[test]
fn next_shows_what_the_clocks_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for name in ["routes", "workflows"] {
        std::fs::create_dir(at.join(name)).unwrap();
    }
    std::fs::write(at.join("clawhook.yaml"), "version: 1\nauth: none\n").unwrap();
    let nap = "version: 1\nname: nap\ntasks: [{ id: nap, type: wait, with: { for: 10ms } }]\n";
    std::fs::write(at.join("workflows/nap.yaml"), nap).unwrap();
    let schedule =
        "version: 1\nschedules:\n  - { name: night, cron: \"30 2 * * *\", timezone: Europe/Berlin, workflow: nap }\n";
    std::fs::write(at.join("routes/s.yaml"), schedule).unwrap();
    let next = |from| shown(at, &["next", "--from", from, "--count", "2", "--json"], &[]);
    insta::assert_snapshot!("cli_next_spring", next("2026-03-28T12:00:00Z"));
    insta::assert_snapshot!("cli_next_unknown", shown(at, &["next", "--schedule", "day"], &[]));
}

const GREETING: &str = r#"version: 1
name: greeting
inputs:
  name: { type: string, required: true }
  times: { type: integer, default: 1 }
tasks:
  - id: nap
    type: wait
    with: { for: 10ms }
  - id: made
    type: transform
    with: { input: { name: "${{ inputs.name }}", times: "${{ inputs.times }}" }, jq: "{ text: (\"hello \" + .name), times }" }
outputs: { text: "${{ tasks.made.text }}", times: "${{ tasks.made.times }}" }
"#;

#[test]
fn run_runs_a_workflow_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("greeting.yaml"), GREETING).unwrap();
    let run = |arguments: &[&str]| clawhook(at, &[&["run", "greeting.yaml"], arguments].concat(), &[]);
    let done = run(&["--input", "name=12", "--input", "times=3"]);
    let errors = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(0), "{errors}");
    let outputs: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(outputs, serde_json::json!({ "text": "hello 12", "times": 3 }));
    assert!(errors.contains("nap: waits until ") && errors.contains("made: succeeded after "), "{errors}");
    insta::assert_snapshot!("cli_run_misfit", shown(at, &["run", "greeting.yaml"], &[]));
    insta::assert_snapshot!(
        "cli_run_not_a_number",
        shown(at, &["run", "greeting.yaml", "--input", "name=a", "--input", "times=b"], &[])
    );
}

#[test]
fn a_run_that_fails_says_whose_side_it_is_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let text = "version: 1\nname: w\ntasks:\n  - { id: look, type: http_request, with: { url: \"http://169.254.169.254/\" } }\n";
    std::fs::write(at.join("w.yaml"), text).unwrap();
    let failed = clawhook(at, &["run", "w.yaml"], &[]);
    assert_eq!((failed.status.code(), failed.stdout.len()), (Some(1), 0));
    let errors = String::from_utf8(failed.stderr).unwrap();
    for part in ["error: the run failed in task `look`: ", "whose side: our files", "code: http.egress", "metadata"] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_cancels_the_run() {
    use std::io::{BufRead, BufReader};

    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\nname: w\ntasks:\n  - { id: nap, type: wait, with: { for: 1h } }\n";
    std::fs::write(folder.path().join("w.yaml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_clawhook"));
    command
        .current_dir(folder.path())
        .args(["run", "w.yaml"])
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("nap: waits until ")));
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.contains(&"cancelled".to_owned()), "{rest:?}");
}

#[test]
fn tokens_need_a_secret_of_some_length() {
    let folder = tempfile::tempdir().unwrap();
    let create = ["token", "create", "--subject", "ci", "--scope", "runs:read"];
    insta::assert_snapshot!("cli_token_no_secret", shown(folder.path(), &create, &[]));
    insta::assert_snapshot!("cli_token_short_secret", shown(folder.path(), &create, &[("JWT_SECRET", "short")]));
    let secret = [("JWT_SECRET", "0123456789abcdef0123456789abcdef")];
    let made = clawhook(folder.path(), &create, &secret);
    assert_eq!(made.status.code(), Some(0));
    assert_eq!(String::from_utf8(made.stdout).unwrap().trim().split('.').count(), 3);
}

#[test]
fn explain_and_schema_need_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    insta::assert_snapshot!("cli_explain", shown(at, &["explain", "http.status"], &[]));
    insta::assert_snapshot!("cli_explain_unknown", shown(at, &["explain", "http.statsu"], &[]));
    let all = clawhook(at, &["explain"], &[]);
    assert_eq!(String::from_utf8(all.stdout).unwrap().lines().count(), clawhook::cli::CODES.len());
    for kind in ["settings", "routes", "workflow"] {
        let schema = clawhook(at, &["schema", kind], &[]);
        let printed: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
        let path = format!("{}/docs/schema/{kind}.schema.json", env!("CARGO_MANIFEST_DIR"));
        let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(printed, kept, "{kind}");
    }
}

#[test]
fn a_gateway_that_is_not_there_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    // A port that was just given back, so that nobody listens on it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let told = shown(folder.path(), &["runs", "list", "--url", &url], &[]).replace(&port.to_string(), "PORT");
    insta::assert_snapshot!("cli_no_gateway", told);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_clawhook"));
    command.current_dir(folder.path()).args(["schema", "workflow"]).env_clear().stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A gateway of its own folder, on ports of its own; killed when the test is over.
struct Gateway {
    folder: tempfile::TempDir,
    child: std::process::Child,
    url: String,
}

impl Gateway {
    fn start() -> Self {
        use std::io::{BufRead, BufReader};

        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        for name in ["routes", "workflows"] {
            std::fs::create_dir(at.join(name)).unwrap();
        }
        let settings = "version: 1\nauth: { jwt: { secret_env: JWT_SECRET } }\nlisten:\n  hooks: { address: \"127.0.0.1:0\" }\n  \
                        control: { address: \"127.0.0.1:0\" }\n";
        std::fs::write(at.join("clawhook.yaml"), settings).unwrap();
        std::fs::write(at.join("workflows/greeting.yaml"), GREETING).unwrap();
        let routes = "version: 1\nroutes:\n  - { name: door, path: /hooks/door, verify: none, workflow: greeting, inputs: { name: a } }\n\
                      schedules:\n  - { name: yearly, cron: \"@yearly\", timezone: UTC, workflow: greeting, inputs: { name: b } }\n";
        std::fs::write(at.join("routes/r.yaml"), routes).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_clawhook"));
        command.current_dir(at).args(["serve", "--log", "error"]).env_clear().envs([JWT_SECRET]);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let url = lines.find_map(|line| line.strip_prefix("control listening on ").map(str::to_owned));
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { folder, child, url: url.expect("the control door opens") }
    }

    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let environment = [JWT_SECRET, ("CLAWHOOK_URL", &self.url), ("USER", "ann")];
        let output = clawhook(self.folder.path(), arguments, &environment);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.says(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// What is said on stderr by a command that is not done.
    #[track_caller]
    fn refuses(&self, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let environment = [environment, &[("CLAWHOOK_URL", &self.url)]].concat();
        let output = clawhook(self.folder.path(), arguments, &environment);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const JWT_SECRET: (&str, &str) = ("JWT_SECRET", "0123456789abcdef0123456789abcdef");

#[test]
fn a_gateway_is_worked_from_the_command_line() {
    let gateway = Gateway::start();
    let trigger = ["trigger", "greeting", "--input", "name=12", "--wait", "30s", "--idempotency-key", "k"];
    let done = gateway.json(&trigger);
    assert_eq!((&done["status"], &done["duplicate"]), (&"succeeded".into(), &false.into()), "{done}");
    assert_eq!(done["outputs"]["text"], "hello 12");
    let again = gateway.json(&trigger);
    assert_eq!((&again["run_id"], &again["duplicate"]), (&done["run_id"], &true.into()));
    let run = done["run_id"].as_str().unwrap();

    assert!(gateway.says(&["runs", "list", "--status", "succeeded", "--since", "1h"]).contains(run));
    assert_eq!(gateway.says(&["runs", "list", "--workflow", "other"]), "no runs\n");
    let page = gateway.says(&["runs", "show", run]);
    for part in
        ["It did all its work 0 s ago", "trigger   manual cli:ann", "✓ made  succeeded", "\"text\": \"hello 12\""]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(gateway.says(&["runs", "events", run]).contains("attempt_started"));
    let replay = gateway.json(&["runs", "replay", run]);
    assert_ne!(replay["run_id"], done["run_id"]);
    let refused = gateway.refuses(&["runs", "resume", run], &[JWT_SECRET]);
    assert!(refused.contains("code: run.state"), "{refused}");
    assert!(gateway.refuses(&["runs", "list"], &[]).contains("code: auth.missing"));
    assert!(gateway.refuses(&["runs", "show", "run_01k4q8zr5m2c7"], &[JWT_SECRET]).contains("code: api.not_found"));
    assert!(gateway.refuses(&["trigger", "greeting"], &[JWT_SECRET]).contains("input `name` is required"));

    assert!(gateway.says(&["schedules", "list"]).contains("@yearly"));
    assert!(gateway.says(&["schedules", "pause", "yearly", "--reason", "holiday"]).contains("`yearly` is paused"));
    assert_eq!(gateway.json(&["schedules", "list"])["items"][0]["paused"], "cli:ann: holiday");
    assert!(gateway.says(&["schedules", "resume", "yearly"]).contains("`yearly` goes on; next at "));
    let filled = gateway.json(&["schedules", "backfill", "yearly", "--since", "400d"]);
    assert!(!filled["entered"].as_array().unwrap().is_empty(), "{filled}");
    assert!(gateway.says(&["routes", "pause", "door"]).contains("`door` is paused"));
    assert!(gateway.says(&["routes", "list"]).contains("paused"));
    assert!(gateway.says(&["routes", "resume", "door"]).contains("`door` goes on, and so do the 0 runs"));
    assert_eq!(gateway.says(&["refusals", "list"]), "no request was refused\n");
    let audit = gateway.says(&["audit", "--what", "route.pause"]);
    assert!(audit.contains("cli:ann"), "{audit}");
    assert!(gateway.says(&["reload"]).contains("in force: 1 workflow, 1 route, 1 schedule; no workflow changed"));

    let record: serde_json::Value = serde_json::from_str(&gateway.says(&["export", run])).unwrap();
    assert_eq!((&record["run"]["id"], &record["events"][0]["event"]), (&done["run_id"], &"accepted".into()));
    gateway.says(&["export", "--workflow", "greeting", "--out", "records"]);
    let records = gateway.folder.path().join("records/runs/greeting");
    let mut days = vec![records];
    while let Some(inside) = days.last().filter(|path| path.is_dir()).map(|path| path.read_dir().unwrap()) {
        days.push(inside.map(Result::unwrap).next().unwrap().path());
    }
    assert!(days.last().unwrap().extension().is_some_and(|extension| extension == "json"), "{days:?}");
}
