//! Which names an expression can use where it stands.

use crate::expr::Name;
use crate::spec::source_map::Span;
use crate::spec::words;

use super::desk::there_are;
use super::redact;

/// The place that an expression stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// `filter`, `dedupe.key` and `inputs` of a route.
    Route,
    /// `inputs` of a schedule.
    Schedule,
    /// `list` of a sweep.
    SweepList,
    /// `time`, `key`, `body` and `headers` of a sweep.
    SweepItem,
    /// `labels` and `concurrency.key`: before the first task.
    Head,
    /// A task of `tasks`, and `outputs`.
    Task,
    /// A task of `on_success`.
    OnSuccess,
    /// A task of `on_failure` or `finally`.
    Handler,
}

/// What can be used there.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) place: Where,
    /// The declared inputs.
    pub(super) inputs: &'a [&'a str],
    /// The tasks that ran before, in order.
    pub(super) before: &'a [Step<'a>],
    /// The task that the expression belongs to.
    pub(super) own: &'a str,
    /// Every task of the workflow.
    pub(super) all: &'a [Step<'a>],
    /// `item` and `index` are known.
    pub(super) item: bool,
    /// `response` is known.
    pub(super) response: bool,
}

/// A task as others see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) id: &'a str,
    /// The list that it stands in.
    pub(super) list: &'static str,
    /// Where its id stands.
    pub(super) span: Span,
    /// It stands inside a task with `for_each`, and is seen only there.
    pub(super) in_loop: bool,
    /// What it blanks in what it gives.
    pub(super) redact: &'a [String],
    /// The member of what it gives that those paths begin at, when not at the whole.
    pub(super) redact_in: Option<&'static str>,
}

/// What is wrong with a name.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) label: String,
    pub(super) help: Option<String>,
    pub(super) related: Option<(Span, String)>,
    /// A `-` and what follows it were meant to belong to the name.
    pub(super) swallows: bool,
}

impl Finding {
    fn new(message: String, help: impl Into<String>) -> Self {
        let help = Some(help.into());
        Self { code: "spec.name", message, label: String::new(), help, related: None, swallows: false }
    }
}

const RUN: &[&str] = &["id", "workflow", "revision", "trigger", "source", "accepted_at", "started_at"];
const SLOT: &[&str] = &["schedule", "due", "local"];
const SWEEP: &[&str] = &["since", "until"];
const DELIVERY: &[&str] = &["id", "method", "remote", "received_at", "verified_by"];
const FAILURE: &[&str] = &["task", "code", "message", "help", "fault", "status", "place"];

impl Where {
    fn roots(self) -> &'static [&'static str] {
        match self {
            Self::Route => &["headers", "query", "path", "body", "delivery"],
            Self::Schedule => &["slot"],
            Self::SweepList => &["sweep"],
            Self::SweepItem => &["item", "sweep"],
            Self::Head => &["inputs", "state", "run", "slot"],
            Self::Task | Self::OnSuccess => &["inputs", "tasks", "state", "run", "slot"],
            Self::Handler => &["inputs", "tasks", "state", "run", "slot", "failure"],
        }
    }
}

impl Scope<'_> {
    /// The names of a route or a schedule.
    pub(super) fn of_trigger(place: Where) -> Self {
        Self { place, inputs: &[], before: &[], own: "", all: &[], item: false, response: false }
    }

    /// What is wrong with `name`, if anything; `rest` is the text behind it.
    pub(super) fn check(&self, name: &Name, rest: &str) -> Option<Finding> {
        let root = name.path.first()?.as_str();
        if !self.roots().contains(&root) {
            return Some(self.unknown_root(root));
        }
        let member = name.path.get(1)?;
        match root {
            "inputs" => self.input(member, rest),
            "tasks" => self.task(member, rest).or_else(|| redacted(self.step(member)?, &name.path[2..])),
            "response" => redacted(self.step(self.own)?, &name.path[1..]),
            "headers" => header(member),
            "run" => fixed(root, member, RUN),
            "slot" => fixed(root, member, SLOT),
            "sweep" => fixed(root, member, SWEEP),
            "delivery" => fixed(root, member, DELIVERY),
            "failure" => fixed(root, member, FAILURE),
            _ => None,
        }
    }

    fn roots(&self) -> Vec<&'static str> {
        let mut roots = self.place.roots().to_vec();
        if self.item {
            roots.extend(["item", "index"]);
        }
        if self.response {
            roots.push("response");
        }
        roots
    }

    fn unknown_root(&self, root: &str) -> Finding {
        let roots = &self.roots()[..];
        let here = match roots {
            [only] => format!("the only name here is `{only}`"),
            _ => format!("the names here are {}", words::listed(roots, "and")),
        };
        let in_sweep = matches!(self.place, Where::SweepList | Where::SweepItem);
        let in_workflow = !in_sweep && !matches!(self.place, Where::Route | Where::Schedule);
        match root {
            "item" if self.place == Where::SweepList => {
                Finding::new("`item` is one object of the list, so the list itself cannot see it".to_owned(), here)
            }
            "item" | "index" if in_workflow => {
                let help = "write it inside a task with `for_each`";
                Finding::new(format!("`{root}` is known inside a task with `for_each` only"), help)
            }
            "body" | "headers" | "query" | "path" | "delivery" if in_workflow => {
                let help = "hand it over in the route's `inputs`, declare the input here, and read `inputs.…`";
                Finding::new(format!("`{root}` is known in routes only; a workflow never knows its trigger"), help)
            }
            "failure" if in_workflow => {
                Finding::new("`failure` is known in `on_failure` and `finally` only".to_owned(), here)
            }
            "tasks" if in_workflow => {
                Finding::new("no task has run yet where labels and keys are made".to_owned(), "read `inputs` here")
            }
            "response" if in_workflow => {
                Finding::new("`response` is known in `fail_if` and `poll` only".to_owned(), here)
            }
            _ if in_sweep && !["secrets", "secret", "env", "vars"].contains(&root) => {
                meant(format!("there is no name `{root}` in a sweep"), "", root, roots, here)
            }
            "body" | "headers" | "query" | "path" | "delivery" => {
                Finding::new(format!("`{root}` is known in routes only: a schedule has no delivery"), here)
            }
            "inputs" | "tasks" | "state" | "run" if !in_workflow => {
                Finding::new(format!("`{root}` is known in workflows only"), here)
            }
            "slot" => Finding::new("`slot` is known in schedules and workflows only".to_owned(), here),
            "secrets" | "secret" | "env" | "vars" => {
                let help = "write `{ secret_ref: NAME }` where a connection, a header or a verifier takes a secret";
                Finding::new(format!("there is no `{root}`: expressions never see secrets or the environment"), help)
            }
            "now" | "today" => {
                let help =
                    if in_workflow { "write `run.started_at`, which a replay sees again" } else { here.as_str() };
                Finding::new(format!("there is no `{root}`: a replay must compute the same again"), help)
            }
            _ => meant(format!("there is no name `{root}`"), "", root, roots, here),
        }
    }

    fn input(&self, member: &str, rest: &str) -> Option<Finding> {
        if self.inputs.contains(&member) {
            return None;
        }
        let dashed = self.inputs.iter().find(|input| is_cut_off(input, member, rest));
        if let Some(input) = dashed {
            return Some(dash("inputs", input));
        }
        let help = if self.inputs.is_empty() {
            format!("declare it: `inputs: {{ {member}: {{ type: string }} }}`")
        } else {
            format!("{}; or declare `{member}` under `inputs`", there_are(self.inputs))
        };
        Some(meant(format!("the workflow has no input `{member}`"), "inputs", member, self.inputs, help))
    }

    fn step(&self, id: &str) -> Option<&Step<'_>> {
        self.all.iter().find(|step| step.id == id)
    }

    fn task(&self, member: &str, rest: &str) -> Option<Finding> {
        if self.before.iter().any(|step| step.id == member) {
            return None;
        }
        if member == self.own {
            let help = "read the output of an earlier task, or move this into a later one";
            return Some(Finding::new(format!("`tasks.{member}` is this task itself, which has no output yet"), help));
        }
        if let Some(step) = self.all.iter().find(|step| step.id == member) {
            let (message, help) = if step.in_loop {
                let message = format!("task `{member}` is done once for each item, and is seen inside its loop only");
                (message, "read the table of the loop, `tasks.LOOP.items`".to_owned())
            } else if step.list == "tasks" {
                (
                    format!("task `{member}` is not sure to be through, so it has no output yet"),
                    format!("move `{member}` up, before this one; or name it in `needs`"),
                )
            } else {
                let message = format!("task `{member}` stands in `{}` and has not run here", step.list);
                (message, there_are(&ids(self.before)))
            };
            let related = Some((step.span, "it stands here".to_owned()));
            return Some(Finding { related, ..Finding::new(message, help) });
        }
        if let Some(step) = self.before.iter().find(|step| is_cut_off(step.id, member, rest)) {
            return Some(dash("tasks", step.id));
        }
        let before = ids(self.before);
        let help = if before.is_empty() { "no task runs before this one".to_owned() } else { there_are(&before) };
        Some(meant(format!("there is no task `{member}`"), "tasks", member, &before, help))
    }
}

/// What the step blanks before anybody reads it.
fn redacted(step: &Step<'_>, keys: &[String]) -> Option<Finding> {
    let keys = match step.redact_in {
        None => keys,
        Some(member) => keys.split_first().filter(|(first, _)| *first == member)?.1,
    };
    let blanked = redact::hit(step.redact, keys)?;
    let message = format!("`redact` of task `{}` blanks `{blanked}` before this reads it", step.id);
    let finding = Finding::new(message, "take it out of `redact`, or do without it here");
    Some(Finding { code: "spec.redacted", label: "this is `[redacted]`".to_owned(), ..finding })
}

fn ids<'a>(steps: &[Step<'a>]) -> Vec<&'a str> {
    steps.iter().map(|step| step.id).collect()
}

/// `erp` before `-stock`, where `erp-stock` is known.
fn is_cut_off(known: &str, written: &str, rest: &str) -> bool {
    known.strip_prefix(written).is_some_and(|tail| tail.starts_with('-') && rest.starts_with(tail))
}

fn dash(root: &str, name: &str) -> Finding {
    let message = format!("`{root}.{name}` reads as a subtraction");
    Finding { swallows: true, ..Finding::new(message, format!("write `{root}[\"{name}\"]`")) }
}

fn header(member: &str) -> Option<Finding> {
    let lower = member.to_ascii_lowercase();
    (lower != member).then(|| {
        let help = format!("write `headers[\"{lower}\"]`");
        Finding::new("the names of headers are in lower case here".to_owned(), help)
    })
}

fn fixed(root: &str, member: &str, known: &[&str]) -> Option<Finding> {
    let help = format!("`{root}` has {}", words::listed(known, "and"));
    (!known.contains(&member)).then(|| meant(format!("`{root}` has no `{member}`"), root, member, known, help))
}

/// An unknown name below `root`: with the one that was meant, or else the help.
fn meant(message: String, root: &str, name: &str, known: &[&str], help: String) -> Finding {
    match words::similar(name, known.iter().copied()) {
        Some(right) => {
            let path = match root {
                "" => right.to_owned(),
                root if right.contains(['-', '.']) => format!("{root}[\"{right}\"]"),
                root => format!("{root}.{right}"),
            };
            let label = format!("did you mean `{right}`?");
            Finding { label, ..Finding::new(message, format!("write `{path}`")) }
        }
        None => Finding::new(message, help),
    }
}
