//! `clawhook reference`: every file, every key, every kind of task, made from what the program accepts. The pages under
//! `docs/language/` are these; a test holds them against each other.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::explain::{CODES, first_sentence};
use super::output;
use crate::expr;
use crate::spec::extensions;
use crate::spec::reference::Reference;
use crate::spec::schema::{Extensions, FileKind, schema};
use crate::tasks::{self, TaskKind};

/// Which page.
#[derive(Debug, Clone, Args)]
pub(super) struct Wanted {
    /// The page; without it, the pages are listed
    #[arg(value_enum)]
    page: Option<Page>,
}

/// A page of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Page {
    /// workflows/*.yaml: inputs, tasks, handlers, outputs
    Workflow,
    /// Every kind of task: what it takes, what it gives, how it fails
    Tasks,
    /// routes/*.yaml: webhooks with their presets, schedules
    Routes,
    /// clawhook.yaml
    Settings,
    /// Filters and tests of expressions
    Expressions,
    /// Every code, with one sentence
    Errors,
}

/// Code groups that a task of any kind can fail with.
const FAILURES_OF_ALL: &[&str] = &["artifact", "attempt", "expression", "loop", "poll", "run", "task"];

pub(super) fn run(wanted: &Wanted) -> ExitCode {
    if let Some(page) = wanted.page {
        output::print(text(page).trim_end());
        return ExitCode::SUCCESS;
    }
    let pages = Page::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let row = |page: PossibleValue| {
        format!("{:<12}{}", page.get_name(), page.get_help().map(ToString::to_string).unwrap_or_default())
    };
    output::print(&pages.map(row).collect::<Vec<_>>().join("\n"));
    output::note("`clawhook reference tasks` prints one");
    ExitCode::SUCCESS
}

/// What the page about tasks says of one kind.
pub(super) fn of_kind(name: &str) -> Option<String> {
    let known = extensions();
    let schema = schema(FileKind::Workflow, &known);
    known.tasks.iter().any(|(kind, _)| kind == name).then(|| kind(name, &schema))
}

fn text(page: Page) -> String {
    match page {
        Page::Workflow => file(
            FileKind::Workflow,
            "The keys of a file under `workflows/`. What a task takes under `with` depends on its `type`: see [tasks](tasks.md).",
        ),
        Page::Tasks => tasks_page(),
        Page::Routes => routes_page(),
        Page::Settings => file(
            FileKind::Settings,
            "The keys of `clawhook.yaml`. Each can be set from the environment too: `listen.hooks.address` by `CLAWHOOK__LISTEN__HOOKS__ADDRESS`.",
        ),
        Page::Expressions => expressions_page(),
        Page::Errors => errors_page(),
    }
}

fn page_head(title: &str, intro: &str) -> String {
    format!("# {title}\n\nMade by `clawhook reference`; do not edit.\n\n{intro}\n\n")
}

fn file(kind: FileKind, intro: &str) -> String {
    let schema = schema(kind, &Extensions::default());
    let mut reference = Reference::of(&schema, "##");
    reference.map("", &schema);
    page_head(&format!("The {} file", kind.name()), intro) + &reference.into_text()
}

fn tasks_page() -> String {
    let known = extensions();
    let schema = schema(FileKind::Workflow, &known);
    let intro = "Every kind of task. The keys that stand beside `with` on any of them (`if`, `needs`, `for_each`, `retry`, `timeout` …) are on the page about the [workflow file](workflow.md). `clawhook explain KIND` prints one section.";
    let mut text = page_head("Kinds of task", intro);
    for (name, _) in &known.tasks {
        text.push_str(&kind(name, &schema));
    }
    let _ = write!(text, "## Failures of every kind\n\n{}", failures(FAILURES_OF_ALL));
    text
}

/// The section about one kind of task.
fn kind(name: &str, workflow: &Value) -> String {
    let with = with_of(name, workflow);
    let known: Option<&TaskKind> = tasks::kind(name);
    let summary = known.map_or_else(|| with["description"].as_str().unwrap_or_default(), |kind| kind.summary);
    let mut text = format!("## `{name}`\n\n{summary}\n\n");
    if known.is_some_and(|kind| kind.connects) {
        text.push_str("It may name a `connection`.\n\n");
    }
    let mut reference = Reference::of(workflow, "###");
    reference.map(name, with);
    text.push_str(&reference.into_text());
    if let Some(kind) = known.filter(|kind| !kind.failures.is_empty()) {
        let _ = write!(text, "It can fail with:\n\n{}", failures(kind.failures));
    }
    text
}

/// The schema of the `with` of a kind, inside that of the workflow file.
fn with_of<'a>(name: &str, workflow: &'a Value) -> &'a Value {
    let rules = workflow["$defs"]["Task"]["allOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rule = rules.iter().find(|rule| rule["if"]["properties"]["type"]["const"] == name);
    rule.map_or(&Value::Null, |rule| &rule["then"]["properties"]["with"])
}

/// The codes of these groups, with one sentence each.
fn failures(groups: &[&str]) -> String {
    let mut text = String::new();
    let belongs = |code: &str| groups.iter().any(|group| code.split('.').next() == Some(group));
    for (code, page) in CODES.iter().filter(|(code, _)| code.contains('.') && belongs(code)) {
        let _ = writeln!(text, "- [`{code}`](../errors/{code}.md): {}", first_sentence(page));
    }
    text + "\n"
}

fn routes_page() -> String {
    let mut text = file(
        FileKind::Routes,
        "The keys of a file under `routes/`. What `verify` takes beside `preset` depends on the preset: see below.",
    );
    text.push_str("## Presets of `verify`\n\n`preset` names one; the keys stand beside it.\n\n");
    let known = extensions();
    for (name, parameters) in &known.presets {
        let mut reference = Reference::of(parameters, "####");
        reference.map(name, parameters);
        let says = parameters["description"].as_str().unwrap_or_default();
        let _ = write!(text, "### `{name}`\n\n{says}\n\n{}", reference.into_text());
    }
    text
}

fn expressions_page() -> String {
    let intro = "What may stand after `|` and after `is` inside `${{ … }}`. Arguments in square brackets may be left out; each may be given by place or by name. Operators, paths and what each place sees are in the [guide](../guide.md#expressions).";
    let mut text = page_head("Filters and tests", intro) + "## Filters\n\n| Filter | Gives |\n|---|---|\n";
    for (written, says) in expr::filter_reference() {
        let _ = writeln!(text, "| `{written}` | {says} |");
    }
    let names: Vec<_> = expr::check_names().map(|name| format!("`{name}`")).collect();
    let _ = write!(text, "\n## Tests\n\n{}\n", names.join(" "));
    text
}

fn errors_page() -> String {
    let mut text = page_head(
        "Codes",
        "Every code that a failure, a problem of the API, a refusal or a problem of the files can have. `clawhook explain CODE` prints its page.",
    );
    for (code, page) in CODES {
        let _ = writeln!(text, "- [`{code}`](../errors/{code}.md): {}", first_sentence(page));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_section_and_its_failures_exist() {
        for kind in tasks::KINDS {
            let section = of_kind(kind.name).unwrap_or_default();
            assert!(section.starts_with(&format!("## `{}`", kind.name)), "{section}");
            for group in kind.failures.iter().chain(FAILURES_OF_ALL) {
                assert_ne!(failures(&[group]), "\n", "`{}` names the codes `{group}.…`, and there are none", kind.name);
            }
        }
        assert_eq!(of_kind("teleport"), None);
    }
}
