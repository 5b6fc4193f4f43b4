//! `command`: one program of this machine, run to its end: no shell, an environment of its own, bounded memory,
//! processors and processes, and nothing of it left afterwards.
//!
//! It is off unless `commands` of the settings allows programs by name or by folder. It does not guard against a program
//! that means harm: a command is the same user as the gateway. It bounds what a program can do by mistake.

mod failures;
mod group;
/// The step between gateway and program.
pub mod launch;
mod leftovers;
mod run;
/// What `commands` says.
pub mod settings;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use schemars::{JsonSchema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub use self::run::{Commands, Error as OpenError, Host};
use self::run::{Ended, Order};
use self::settings::{Bounds, Cores, Settings};
use super::{
    Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, names_of, printed, read_mapping, read_with,
};
use crate::domain::byte_size;
use crate::domain::failure::Failure;
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::expr::{Mapping, Place};
use crate::limits;

pub(super) const KIND: TaskKind = TaskKind {
    name: "command",
    summary: "Runs a program of this machine that `commands` of the settings allows; the output is `{ exit, stdout, stderr }`.",
    connects: false,
    failures: &["command", "secret"],
    schema: || schema_for!(With),
    parse: |with, _| parse(read_with(with)?, with),
};

/// Settings of a `command` task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct With {
    /// The program's whole path, such as `/opt/clawhook/tools/reconcile`; not an expression.
    program: String,
    /// Its arguments; each stays one argument, whatever is in it.
    #[serde(default)]
    args: Vec<Value>,
    /// What it reads: text as it is, other values as JSON. Nothing when left out.
    stdin: Option<Value>,
    /// Variables of its environment; a value is text or `{ secret_ref: NAME }`.
    env: Option<Map<String, Value>>,
    /// How its output is read; `text` when left out.
    #[serde(default)]
    output: OutputForm,
    /// Exit codes that count as success; `[0]` when left out.
    accept_exit: Option<Vec<u8>>,
    /// The most memory it may take, such as `128MiB`; at most that of the settings.
    memory: Option<String>,
    /// The most processors it may keep busy, such as `0.5`; at most those of the settings.
    cpu: Option<Cores>,
    /// The most processes and threads it may have; at most those of the settings.
    #[schemars(range(min = 1, max = 32_768))]
    processes: Option<u32>,
    /// Says that the program can tell a repeat, by `CLAWHOOK_IDEMPOTENCY_KEY`, or that a repeat does no harm.
    #[serde(default)]
    repeatable: bool,
}

/// How output is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OutputForm {
    /// As text.
    #[default]
    Text,
    /// As one JSON value.
    Json,
}

#[derive(Debug)]
struct Command {
    program: PathBuf,
    args: Vec<Mapping>,
    stdin: Option<Mapping>,
    env: Vec<(String, Variable)>,
    output: OutputForm,
    accept: Vec<u8>,
    memory_bytes: Option<u64>,
    cpu: Option<Cores>,
    processes: Option<u32>,
    repeatable: bool,
}

#[derive(Debug)]
enum Variable {
    Text(Mapping),
    Secret(SecretRef),
}

/// Variables that the gateway sets, and those by which a loader would bring other code into the program.
const RESERVED: &[&str] = &["HOME", "TMPDIR"];
const RESERVED_BEGINNINGS: &[&str] = &["CLAWHOOK_", "LD_"];

fn parse(with: With, raw: &Value) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let mut problems = Vec::new();
    let mut keep = |pointer: &str| match read_mapping(pointer, raw.pointer(pointer).unwrap_or(&Value::Null)) {
        Ok(mapping) => Some(mapping),
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    let args: Vec<_> = (0..with.args.len()).filter_map(|place| keep(&format!("/args/{place}"))).collect();
    let stdin = with.stdin.as_ref().and_then(|_| keep("/stdin"));
    let mut env = Vec::new();
    for (name, value) in with.env.iter().flatten() {
        match read_variable(name, value) {
            Ok(variable) => env.push((name.clone(), variable)),
            Err(found) => problems.extend(found),
        }
    }
    if let Some(problem) = settings::form_of(&with.program) {
        problems.push(WithProblem::new("/program", problem).help(format!("write `program: {EXAMPLE}`")));
    }
    let memory_bytes = match with.memory.as_deref().map(byte_size::parse) {
        None => None,
        Some(Ok(bytes)) => {
            let least = limits::COMMAND_MEMORY_BYTES_MIN;
            if bytes < least {
                let least = byte_size::format(least);
                let message = format!("no program starts in less than {least}");
                problems.push(WithProblem::new("/memory", message).help(format!("write `memory: {least}`, or more")));
            }
            Some(bytes)
        }
        Some(Err(error)) => {
            problems.push(WithProblem::new("/memory", error.problem()).help(error.help()));
            None
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Box::new(Command {
        program: PathBuf::from(with.program),
        args,
        stdin,
        env,
        output: with.output,
        accept: with.accept_exit.unwrap_or_else(|| vec![0]),
        memory_bytes,
        cpu: with.cpu,
        processes: with.processes,
        repeatable: with.repeatable,
    }))
}

const EXAMPLE: &str = "/opt/clawhook/tools/reconcile";

fn read_variable(name: &str, value: &Value) -> Result<Variable, Vec<WithProblem>> {
    let pointer = format!("/env/{}", name.replace('~', "~0").replace('/', "~1"));
    let mut letters = name.chars();
    let well_formed = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !well_formed {
        let problem = WithProblem::new(&*pointer, format!("`{name}` cannot be the name of a variable"));
        return Err(vec![problem.help("use letters, digits and `_`, and begin with a letter")]);
    }
    if RESERVED.contains(&name) || RESERVED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning)) {
        let problem = WithProblem::new(&*pointer, format!("`{name}` is not for workflows to set"));
        return Err(vec![problem.help("use another name")]);
    }
    if value.get("secret_ref").is_none() {
        return read_mapping(&pointer, value).map(Variable::Text);
    }
    SecretRef::from_yaml(value).map(Variable::Secret).map_err(|why| vec![WithProblem::new(pointer, why)])
}

#[async_trait]
impl Task for Command {
    fn effect(&self) -> Effect {
        Effect::Call { repeatable: self.repeatable }
    }

    fn names(&self) -> Vec<Place> {
        let args = self.args.iter().enumerate();
        let mut names: Vec<_> = args.flat_map(|(place, arg)| names_of(&format!("/args/{place}"), arg)).collect();
        names.extend(self.stdin.iter().flat_map(|stdin| names_of("/stdin", stdin)));
        for (name, value) in &self.env {
            if let Variable::Text(value) = value {
                names.extend(names_of(&format!("/env/{name}"), value));
            }
        }
        names
    }

    fn secrets(&self) -> Vec<(String, SecretRef)> {
        let secret = |(name, value): &(String, Variable)| match value {
            Variable::Secret(reference) => Some((format!("/env/{name}"), reference.clone())),
            Variable::Text(_) => None,
        };
        self.env.iter().filter_map(secret).collect()
    }

    fn beyond(&self, commands: &Settings) -> Vec<WithProblem> {
        if commands.is_off() {
            let help = format!("add `commands: {{ allow: [{}] }}` to clawhook.yaml", self.program.display());
            return vec![WithProblem::new("", "the settings allow no `command` tasks").help(help)];
        }
        let mut problems = Vec::new();
        if let Err(refused) = commands.admit(&self.program) {
            problems.push(WithProblem::new("/program", refused.to_string()).help(refused.help()));
        }
        let most = commands.bounds;
        let mut over = |key: &str, is_over: bool, most: String| {
            if is_over {
                let message = format!("`commands` of the settings gives a command `{key}: {most}` at most");
                problems.push(WithProblem::new(format!("/{key}"), message).help(format!("write `{key}: {most}`")));
            }
        };
        let memory = self.memory_bytes.is_some_and(|bytes| bytes > most.memory_bytes);
        over("memory", memory, byte_size::format(most.memory_bytes));
        over("cpu", self.cpu.is_some_and(|cpu| cpu > most.cpu), most.cpu.to_string());
        over("processes", self.processes.is_some_and(|count| count > most.processes), most.processes.to_string());
        problems
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let mut masker = Masker::over(ctx.secrets.known());
        let result = self.run(ctx, &mut masker).await;
        result.map(Done::Output).map_err(|failure| failures::masked(failure, &masker)).into()
    }
}

impl Command {
    async fn run(&self, ctx: &TaskContext<'_>, masker: &mut Masker) -> Result<Value, Failure> {
        let order = self.order(ctx, masker).await?;
        let bounds = order.bounds;
        let ended = ctx.commands.run(order).await.map_err(|error| failures::not_run(&error, &self.program))?;
        self.judge(&ended, bounds, masker)
    }

    async fn order(&self, ctx: &TaskContext<'_>, masker: &mut Masker) -> Result<Order, Failure> {
        let eval = |mapping: &Mapping| ctx.eval(mapping);
        let args = self.args.iter().map(|arg| eval(arg).map(|arg| printed(&arg))).collect::<Result<_, _>>()?;
        let stdin = self.stdin.as_ref().map(eval).transpose()?.map(|value| match value {
            Value::String(text) => text.into_bytes(),
            other => other.to_string().into_bytes(),
        });
        let mut env = vec![
            ("CLAWHOOK_RUN".to_owned(), ctx.run.to_string().into_bytes()),
            ("CLAWHOOK_TASK".to_owned(), ctx.task.to_string().into_bytes()),
            ("CLAWHOOK_IDEMPOTENCY_KEY".to_owned(), ctx.idempotency_key.as_bytes().to_vec()),
        ];
        for (name, value) in &self.env {
            let value = match value {
                Variable::Text(text) => printed(&eval(text)?).into_bytes(),
                Variable::Secret(reference) => {
                    let value = ctx.secrets.resolve(reference).await.map_err(|error| super::secret_failure(&error))?;
                    masker.learn(reference, &value);
                    value.expose().to_vec()
                }
            };
            env.push((name.clone(), value));
        }
        let most = ctx.commands.bounds();
        let bounds = Bounds {
            memory_bytes: self.memory_bytes.map_or(most.memory_bytes, |bytes| bytes.min(most.memory_bytes)),
            cpu: self.cpu.map_or(most.cpu, |cpu| cpu.min(most.cpu)),
            processes: self.processes.map_or(most.processes, |count| count.min(most.processes)),
        };
        Ok(Order { program: self.program.clone(), args, env, stdin, bounds })
    }

    /// Whether it ended as was wanted: its output, or why not.
    fn judge(&self, ended: &Ended, bounds: Bounds, masker: &Masker) -> Result<Value, Failure> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(&masker.mask_bytes(bytes)).into_owned();
        let accepted = ended.exit().filter(|exit| self.accept.contains(exit));
        let Some(exit) = accepted else {
            let said = [&ended.stderr, &ended.stdout].into_iter().find(|said| !said.is_empty());
            let said = said.map(|said| text(said)).unwrap_or_default();
            return Err(failures::ended_badly(&self.program, ended, bounds, &said));
        };
        let stdout = match self.output {
            OutputForm::Text => Value::String(text(&ended.stdout)),
            OutputForm::Json => {
                let value = serde_json::from_slice(&ended.stdout)
                    .map_err(|error| failures::not_json(&self.program, &error, &text(&ended.stdout)))?;
                masker.mask_json(value)
            }
        };
        Ok(json!({ "exit": exit, "stdout": stdout, "stderr": text(&ended.stderr) }))
    }
}

/// The program's own name, which failures with one cause share.
fn name_of(program: &Path) -> String {
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(with: &Value, expected: &[&str]) {
        let problems = match (KIND.parse)(with, false) {
            Ok(_) => Vec::new(),
            Err(problems) => problems,
        };
        let told: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn settings_are_checked_together() {
        check(&json!({"program": "/bin/true"}), &[]);
        check(
            &json!({"program": "/bin/true", "args": ["-n", 3, "${{ inputs.day }}"], "stdin": {"a": [1]}, "cpu": 0.25,
                "env": {"REGION": "us", "KEY": {"secret_ref": "tool-key"}}, "memory": "64MiB", "processes": 4}),
            &[],
        );
        check(&json!({"program": "true"}), &["/program: the path of a program begins with `/`"]);
        check(&json!({"program": "/opt/../bin/true"}), &["/program: the path of a program has no `..` in it"]);
        check(&json!({"program": "/opt/${{ inputs.a }}"}), &["/program: the path of a program is not an expression"]);
        check(
            &json!({"program": "/bin/true", "args": ["${{ "], "memory": "1MiB",
                "env": {"A-B": "x", "LD_PRELOAD": "x", "HOME": "x", "CLAWHOOK_RUN": "x", "K": {"secret_ref": 1}}}),
            &[
                "/args/0: this expression is never closed",
                "/env/A-B: `A-B` cannot be the name of a variable",
                "/env/LD_PRELOAD: `LD_PRELOAD` is not for workflows to set",
                "/env/HOME: `HOME` is not for workflows to set",
                "/env/CLAWHOOK_RUN: `CLAWHOOK_RUN` is not for workflows to set",
                "/env/K: `secret_ref` of a secret is text; write `{ secret_ref: NAME }`, optionally with `prefix`, \
                 `version` and `field`",
                "/memory: no program starts in less than 8MiB",
            ],
        );
    }
}
