//! Programs of this machine: what reaches them, what comes back, and that nothing of them stays. Each check runs twice:
//! with the control groups that this machine has, if any, and on a machine that has none.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clawhook::domain::failure::Failure;
use clawhook::domain::run::Run;
use clawhook::domain::state::State;
use clawhook::limits;
use clawhook::spec::{self, Around, Files, SourceFile};
use clawhook::tasks::command::settings::{Bounds, Settings};
use clawhook::tasks::command::{Commands, Host};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use crate::app::{Folder, OPEN};
use crate::kit::{Kit, check_state, output};
use crate::process::Process;

/// The tools that tests run, as shell scripts.
const TOOLS: &[(&str, &str)] = &[
    ("say", "for a in \"$@\"; do printf '[%s]\\n' \"$a\"; done"),
    ("env", "exec /usr/bin/env"),
    ("cat", "exec /bin/cat"),
    ("where", "pwd; ls -A; touch made; echo \"$HOME $TMPDIR\""),
    ("group", "cat /proc/self/cgroup"),
    ("fail", "echo \"working on $1\"; echo \"no such order: $1\" >&2; exit 3"),
    ("die", "kill -TERM $$"),
    ("tell", "echo \"key $KEY\"; echo \"{\\\"key\\\":\\\"$KEY\\\"}\" >&2; exit \"${1:-0}\""),
    ("flood", "exec yes"),
    ("moan", "exec yes >&2"),
    ("leave", "sleep 1000 & echo $! >\"$1\"; echo left"),
    ("stay", "sleep 1000 & echo $! >\"$1\"; wait"),
    ("deaf", "exec <&-; echo done"),
    ("count", "echo x >>\"$1\"; test \"$(wc -l <\"$1\")\" -ge 3"),
    ("alone", "mkdir \"$1\" && sleep 0.1 && rmdir \"$1\""),
];

struct Machine {
    folder: TempDir,
    host: Host,
}

impl Machine {
    /// This machine with what control groups it has; or one without any.
    fn new(groups: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tools = folder.path().join("tools");
        fs::create_dir(&tools).unwrap();
        fs::set_permissions(&tools, fs::Permissions::from_mode(0o755)).unwrap();
        for (name, script) in TOOLS {
            tool(&tools.join(name), script);
        }
        let host = Host {
            root: if groups { PathBuf::from("/") } else { folder.path().to_owned() },
            launcher: env!("CARGO_BIN_EXE_clawhook").into(),
            folder: folder.path().join("commands"),
            tracker: TaskTracker::new(),
        };
        Self { folder, host }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn settings(&self) -> Settings {
        let allow = vec![self.folder.path().join("tools"), "/usr/bin/ls".into()];
        Settings { allow, bounds: Bounds::default(), concurrency: 2, unbounded: true }
    }

    fn kit(&self, task: &Value) -> Kit {
        let commands = Commands::open(&self.settings(), self.host.clone()).unwrap();
        Kit::with_commands(&[&workflow(task)], commands)
    }

    /// One run with one command in it; `TOOLS` and `HERE` in the task stand for the folders.
    async fn run(&self, task: &Value) -> Run {
        let kit = self.kit(&self.placed(task));
        let run = kit.run("w", json!({ "nasty": NASTY, "order": { "id": 12, "名": "订单" } })).await;
        self.clean().await;
        run
    }

    fn placed(&self, task: &Value) -> Value {
        let text = task.to_string().replace("TOOLS", &self.path("tools")).replace("HERE", &self.path(""));
        serde_json::from_str(&text).unwrap()
    }

    /// Nothing of any command stays.
    async fn clean(&self) {
        self.host.tracker.close();
        self.host.tracker.wait().await;
        let left: Vec<_> = fs::read_dir(&self.host.folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, Vec::<PathBuf>::new(), "folders of commands stay");
    }
}

fn tool(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What must arrive as it is.
const NASTY: &str = "a b; touch /tmp/owned $(id) `id` '\"' * \\ | & > x\n-n ${HOME} 订单";

fn workflow(task: &Value) -> String {
    let mut task = task.clone();
    for (key, value) in [("id", "c"), ("type", "command")] {
        task[key] = value.into();
    }
    let inputs = json!({ "nasty": { "type": "string" }, "order": { "type": "object" } });
    json!({ "version": 1, "name": "w", "inputs": inputs, "tasks": [task] }).to_string()
}

/// What the command gives, on a machine with and one without control groups.
async fn check(task: Value, expected: Value) {
    for groups in [true, false] {
        let run = Machine::new(groups).run(&task).await;
        check_state(&run, State::Succeeded);
        assert_eq!(output(&run, "c"), &expected, "{task}");
    }
}

/// How the command fails: the code, and a part of what is told.
async fn check_failure(task: Value, code: &str, part: &str) -> Failure {
    let mut last = None;
    for groups in [true, false] {
        let run = Machine::new(groups).run(&task).await;
        check_state(&run, State::Failed);
        let failure = run.failure.unwrap();
        assert_eq!(failure.code, code, "{failure:?}");
        assert!(failure.message.contains(part), "{failure:?}");
        last = Some(failure);
    }
    last.unwrap()
}

#[tokio::test]
async fn arguments_arrive_as_they_are() {
    let task = json!({ "with": { "program": "TOOLS/say", "args": ["${{ inputs.nasty }}", "", 3, "-x y", "${{ inputs.order }}"] } });
    let order = json!({ "id": 12, "名": "订单" });
    let stdout = format!("[{NASTY}]\n[]\n[3]\n[-x y]\n[{order}]\n");
    check(task, json!({ "exit": 0, "stdout": stdout, "stderr": "" })).await;
    assert!(!Path::new("/tmp/owned").exists());
}

#[tokio::test]
async fn stdin_and_stdout_carry_text_and_json() {
    let task = |stdin: Value, form: &str| json!({ "with": { "program": "TOOLS/cat", "stdin": stdin, "output": form } });
    let done = |stdout: Value| json!({ "exit": 0, "stdout": stdout, "stderr": "" });
    check(task(json!("${{ inputs.nasty }}"), "text"), done(json!(NASTY))).await;
    check(task(json!("${{ inputs.order }}"), "json"), done(json!({ "id": 12, "名": "订单" }))).await;
    check(task(json!([1, "12345678901234567890.10", null]), "json"), done(json!([1, "12345678901234567890.10", null])))
        .await;
    check(json!({ "with": { "program": "TOOLS/cat" } }), done(json!(""))).await;
    // More than a pipe holds, to a program that does not read it, and to one that does.
    let long = "x".repeat(200 * 1024);
    check(json!({ "with": { "program": "TOOLS/deaf", "stdin": long } }), done(json!("done\n"))).await;
    check(task(json!(long), "text"), done(json!(long))).await;
    check_failure(task(json!("half a {"), "json"), "command.output", "did not write JSON").await;
}

#[tokio::test]
async fn the_environment_is_clean() {
    for groups in [true, false] {
        let machine = Machine::new(groups);
        let task =
            json!({ "with": { "program": "TOOLS/env", "env": { "REGION": "us", "ORDER": "${{ inputs.order.id }}" } } });
        let run = machine.run(&task).await;
        let text = output(&run, "c")["stdout"].as_str().unwrap().to_owned();
        let mut lines: Vec<_> =
            text.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("_=")).collect();
        lines.sort_unstable();
        let (home, rest): (Vec<_>, Vec<_>) =
            lines.into_iter().partition(|line| line.starts_with("HOME=") || line.starts_with("TMPDIR="));
        assert_eq!(home.len(), 2);
        let key = format!("CLAWHOOK_IDEMPOTENCY_KEY={}-c", run.id);
        let id = format!("CLAWHOOK_RUN={}", run.id);
        assert_eq!(
            rest,
            [key.as_str(), &id, "CLAWHOOK_TASK=c", "LANG=C.UTF-8", "ORDER=12", "PATH=/usr/bin:/bin", "REGION=us"]
        );
    }
}

#[tokio::test]
async fn the_folder_is_fresh_private_and_gone_afterwards() {
    for groups in [true, false] {
        let machine = Machine::new(groups);
        let run = machine.run(&json!({ "with": { "program": "TOOLS/where" } })).await;
        let stdout = output(&run, "c")["stdout"].as_str().unwrap();
        let [at, homes] = stdout.lines().collect::<Vec<_>>()[..] else { panic!("it is not empty: {stdout}") };
        assert_eq!(homes, format!("{at} {at}"));
        assert!(at.starts_with(&machine.path("commands")) && !Path::new(at).exists(), "{at}");
        assert_eq!(fs::metadata(machine.path("commands")).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[tokio::test]
async fn no_descriptor_of_the_gateway_is_inherited() {
    // What this process was started with itself, its parent left open for everyone: nothing is added to it.
    let seen = std::process::Command::new("/usr/bin/ls").arg("/proc/self/fd").output().unwrap();
    let seen = String::from_utf8(seen.stdout).unwrap();
    let _open: Vec<_> = (0..8).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let task = json!({ "with": { "program": "/usr/bin/ls", "args": ["/proc/self/fd"] } });
    check(task, json!({ "exit": 0, "stdout": seen, "stderr": "" })).await;
}

#[tokio::test]
async fn a_command_has_a_control_group_of_its_own() {
    let machine = Machine::new(true);
    let run = machine.run(&json!({ "with": { "program": "TOOLS/group" } })).await;
    let stdout = output(&run, "c")["stdout"].as_str().unwrap();
    let Some(group) =
        stdout.lines().find_map(|line| line.strip_prefix("0::")).filter(|name| name.contains("clawhook-command-"))
    else {
        #[expect(clippy::print_stdout, reason = "to be seen in the output of the tests")]
        let () = println!("SKIPPED: this machine lets nobody make control groups of version 2: {stdout}");
        return;
    };
    let left = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|at| format!("{at}{group}"));
    assert!(left.iter().all(|path| !Path::new(path).exists()), "{left:?}");
}

#[tokio::test]
async fn exit_codes_are_judged() {
    let fail = |accept: Value| json!({ "with": { "program": "TOOLS/fail", "args": ["#1042"], "accept_exit": accept } });
    let told = "fail` ended with exit code 3: no such order: #1042";
    let failure = check_failure(fail(json!([0, 4])), "command.exit", told).await;
    assert_eq!(failure.cause(), "command.exit/fail");
    check(fail(json!([3])), json!({ "exit": 3, "stdout": "working on #1042\n", "stderr": "no such order: #1042\n" }))
        .await;
    check_failure(json!({ "with": { "program": "TOOLS/die" } }), "command.exit", "was killed by signal 15").await;
}

#[tokio::test]
async fn secrets_reach_the_program_and_nothing_that_is_kept() {
    let tell = |args: Value| json!({ "with": { "program": "TOOLS/tell", "args": args, "env": { "KEY": { "secret_ref": "tool-key" } } } });
    let stderr = "{\"key\":\"[secret:tool-key]\"}\n";
    check(tell(json!([])), json!({ "exit": 0, "stdout": "key [secret:tool-key]\n", "stderr": stderr })).await;
    let failure = check_failure(tell(json!([9])), "command.exit", "[secret:tool-key]").await;
    assert!(!failure.message.contains("s3cret-value"));
}

#[tokio::test]
async fn too_much_output_is_cut_off() {
    let most = limits::COMMAND_STDOUT_BYTES_MAX;
    check_failure(
        json!({ "with": { "program": "TOOLS/flood" } }),
        "command.output_too_large",
        &format!("was killed: it wrote more than {most} bytes to stdout"),
    )
    .await;
    check_failure(json!({ "with": { "program": "TOOLS/moan" } }), "command.output_too_large", "to stderr").await;
}

#[tokio::test]
async fn programs_that_may_not_run_do_not() {
    check_failure(
        json!({ "with": { "program": "/usr/bin/env" } }),
        "command.not_allowed",
        "does not allow `/usr/bin/env`",
    )
    .await;
    check_failure(json!({ "with": { "program": "TOOLS/gone" } }), "command.not_allowed", "it is not there").await;
    for groups in [true, false] {
        let machine = Machine::new(groups);
        std::os::unix::fs::symlink("/usr/bin/env", machine.path("tools/link")).unwrap();
        fs::set_permissions(machine.path("tools/say"), fs::Permissions::from_mode(0o757)).unwrap();
        for (name, part) in [("link", "which is `/usr/bin/env`"), ("say", "other users can write")] {
            let run = machine.run(&json!({ "with": { "program": format!("TOOLS/{name}") } })).await;
            let failure = run.failure.unwrap();
            assert!(failure.code == "command.not_allowed" && failure.message.contains(part), "{failure:?}");
        }
    }
    // It is found when files are read, and again when it runs: here the settings have no `commands`.
    let kit = Kit::with_commands(&[&workflow(&json!({ "with": { "program": "/usr/bin/env" } }))], Commands::default());
    let run = kit.run("w", json!({})).await;
    assert_eq!(run.failure.unwrap().code, "command.off");
}

#[tokio::test]
async fn files_are_held_against_the_settings() {
    let machine = Machine::new(false);
    let check = |settings: &Settings, with: Value, expected: &[&str]| {
        let text = workflow(&machine.placed(&json!({ "with": with })));
        let files =
            Files { routes: Vec::new(), workflows: vec![SourceFile { name: "w.yaml".into(), bytes: text.into() }] };
        let loaded = spec::load(&files, &Around { commands: settings.clone(), ..Around::default() });
        let told: Vec<_> =
            loaded.problems.iter().map(|problem| problem.message.replace(&machine.path(""), "")).collect();
        assert_eq!(told, expected);
    };
    let (on, off) = (machine.settings(), Settings::default());
    check(&on, json!({ "program": "TOOLS/say", "memory": "256MiB", "cpu": 1, "processes": 32 }), &[]);
    check(&off, json!({ "program": "TOOLS/say" }), &["the settings allow no `command` tasks"]);
    check(
        &on,
        json!({ "program": "/usr/bin/env", "memory": "257MiB", "cpu": 1.5, "processes": 33 }),
        &[
            "`commands.allow` of the settings does not allow `/usr/bin/env`",
            "`commands` of the settings gives a command `memory: 256MiB` at most",
            "`commands` of the settings gives a command `cpu: 1` at most",
            "`commands` of the settings gives a command `processes: 32` at most",
        ],
    );
}

#[tokio::test]
async fn what_cannot_be_bounded_is_not_run() {
    let machine = Machine::new(false);
    let settings = Settings { unbounded: false, ..machine.settings() };
    let commands = Commands::open(&settings, machine.host.clone()).unwrap();
    let task = machine.placed(&json!({ "with": { "program": "TOOLS/say" } }));
    let kit = Kit::with_commands(&[&workflow(&task)], commands);
    let failure = kit.run("w", json!({})).await.failure.unwrap();
    assert_eq!(failure.code, "command.unbounded");
    assert!(failure.help.unwrap().contains("Delegate=cpu memory pids"));
    machine.clean().await;
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    for groups in [true, false] {
        let machine = Machine::new(groups);
        fs::write(machine.path("tools/odd"), "neither a script nor a binary").unwrap();
        fs::set_permissions(machine.path("tools/odd"), fs::Permissions::from_mode(0o755)).unwrap();
        let run = machine.run(&json!({ "with": { "program": "TOOLS/odd" } })).await;
        let failure = run.failure.unwrap();
        assert!(
            failure.code == "command.start" && failure.message.contains("neither a binary nor a script"),
            "{failure:?}"
        );
    }
    let long = "x".repeat(200_000);
    check_failure(json!({ "with": { "program": "TOOLS/say", "args": [long] } }), "command.start", "too long").await;
    check_failure(json!({ "with": { "program": "TOOLS/say", "args": ["a\u{0}b"] } }), "command.start", "nul byte")
        .await;
}

#[tokio::test]
async fn only_what_may_be_repeated_is() {
    for groups in [true, false] {
        for (repeatable, state, runs) in [(true, State::Succeeded, 3), (false, State::Failed, 1)] {
            let machine = Machine::new(groups);
            let with = json!({ "program": "TOOLS/count", "args": ["HERE/count"], "repeatable": repeatable });
            let kit = machine.kit(&machine.placed(&json!({ "with": with, "retry": 5, "retry_delay": "1s" })));
            let id = kit.trigger("w", json!({})).await;
            let run = kit.until_ended(id).await;
            check_state(&run, state);
            assert_eq!(fs::read_to_string(machine.path("count")).unwrap().lines().count(), runs);
            let keys = kit.keys(id, "c").await;
            assert!(keys.len() == runs && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
            machine.clean().await;
        }
    }
}

#[tokio::test]
async fn no_more_run_at_one_time_than_may() {
    let machine = Machine::new(false);
    let settings = Settings { concurrency: 1, ..machine.settings() };
    let commands = Commands::open(&settings, machine.host.clone()).unwrap();
    let task = machine.placed(&json!({ "with": { "program": "TOOLS/alone", "args": ["HERE/alone"] } }));
    let kit = Kit::with_commands(&[&workflow(&task)], commands);
    let ids = [kit.trigger("w", json!({})).await, kit.trigger("w", json!({})).await];
    kit.settle().await;
    for id in ids {
        check_state(&kit.read(id).await, State::Succeeded);
    }
    machine.clean().await;
}

const LOOKS_MAX: usize = 2_000;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The number that a command wrote to this file.
async fn pid_in(file: &str) -> u32 {
    for _ in 0..LOOKS_MAX {
        if let Ok(pid) = fs::read_to_string(file).unwrap_or_default().trim().parse() {
            return pid;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("the command did not start");
}

fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

async fn gone(pid: u32) {
    for _ in 0..LOOKS_MAX {
        if !runs(pid) {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("process {pid} still runs");
}

#[tokio::test]
async fn what_a_command_leaves_running_ends_with_it() {
    for groups in [true, false] {
        let machine = Machine::new(groups);
        let run = machine.run(&json!({ "with": { "program": "TOOLS/leave", "args": ["HERE/pid"] } })).await;
        assert_eq!(output(&run, "c")["stdout"], "left\n");
        gone(pid_in(&machine.path("pid")).await).await;
    }
}

#[tokio::test]
async fn a_timeout_kills_all_of_it() {
    for groups in [true, false] {
        let machine = Machine::new(groups);
        let with = json!({ "program": "TOOLS/stay", "args": ["HERE/pid"] });
        let run = machine.run(&json!({ "with": with, "timeout": "1s" })).await;
        assert_eq!(run.failure.unwrap().code, "task.timeout");
        gone(pid_in(&machine.path("pid")).await).await;
    }
}

#[tokio::test]
async fn a_cancel_kills_all_of_it() {
    for groups in [true, false] {
        let machine = Machine::new(groups);
        let with = json!({ "program": "TOOLS/stay", "args": ["HERE/pid"] });
        let kit = machine.kit(&machine.placed(&json!({ "with": with })));
        let id = kit.trigger("w", json!({})).await;
        let cancel = async {
            let pid = pid_in(&machine.path("pid")).await;
            assert!(runs(pid));
            kit.engine.cancel(id, "zhou", "wrong day").await.unwrap();
            pid
        };
        let ((), pid) = tokio::join!(kit.settle(), cancel);
        check_state(&kit.read(id).await, State::Cancelled);
        machine.clean().await;
        gone(pid).await;
    }
}

#[tokio::test]
async fn processes_of_a_gateway_that_is_gone_are_killed_at_start() {
    let machine = Machine::new(false);
    let mut sleeper = std::process::Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", sleeper.id())).unwrap();
    let started = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().to_owned();
    // Process 1 started at another moment.
    let left = machine.host.folder.join("1-1-1");
    fs::create_dir_all(left.join("home")).unwrap();
    fs::write(left.join("process"), format!("{}-{started}", sleeper.id())).unwrap();
    drop(Commands::open(&machine.settings(), machine.host.clone()).unwrap());
    assert!(!sleeper.wait().unwrap().success());
    machine.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_leaves_nothing_once_it_is_back() {
    let machine = Machine::new(true);
    let tools = machine.path("tools");
    let settings = format!("{OPEN}\ncommands: {{ allow: [{tools}], unbounded: true }}\n");
    let folder = Folder::new(&settings, None);
    let task = machine.placed(&json!({ "with": { "program": "TOOLS/stay", "args": ["HERE/pid"] } }));
    folder.write("workflows/w.yaml", &workflow(&task));
    let process = Process::start(&folder, "warn").await;
    let answer = process.control.post("/v1/workflows/trigger", &json!({ "workflow": "w" })).await;
    let run = answer.run();
    let pid = pid_in(&machine.path("pid")).await;
    process.kill();

    let process = Process::start(&folder, "warn").await;
    gone(pid).await;
    let shown = process.control.ended(&run).await;
    assert_eq!(shown["failure"]["code"], "attempt.interrupted", "{shown}");
    assert_eq!(fs::read_dir(folder.path("data/commands")).unwrap().count(), 0);
    process.stop();
}
