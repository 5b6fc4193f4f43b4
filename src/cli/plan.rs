//! `clawhook plan`: what a reload would change, and which runs it would leave where they are. It reads the files here
//! and asks the gateway what it has in force; it changes nothing.

mod compare;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use self::compare::{Action, Change, Piece, Standing, Staying, What, changes, staying};
use super::api::{Api, Place};
use super::check::render;
use super::config;
use super::error::Error;
use super::output::{self, Output};
use super::schedules::Where;
use super::words::{count, list, text};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::domain::schedule::State;
use crate::id::Revision;
use crate::limits;
use crate::spec::diagnostic::Report;
use crate::tasks::plan::{Catalog, Parts, SchedulePlan, Written, WrittenEntries};

/// Which files, and which gateway.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit codes: 0 it worked, 1 the files have problems or the gateway cannot be asked, 2 the \
                        arguments are wrong, 3 there are changes (with --detailed-exitcode).")]
pub(super) struct Planning {
    #[command(flatten)]
    at: Where,
    /// End with code 3 when a reload would change something
    #[arg(long)]
    detailed_exitcode: bool,
}

/// Coming slots that are shown of each schedule.
const SLOTS_SHOWN: usize = 3;
/// The exit code that says that there are changes; 2 says everywhere that the arguments are wrong.
const CHANGES: u8 = 3;
/// What is shown, in this order.
const TITLES: [(What, &str); 6] = [
    (What::Workflow, "workflows"),
    (What::Route, "routes"),
    (What::Schedule, "schedules"),
    (What::Connection, "connections"),
    (What::Channel, "channels"),
    (What::Setting, "settings"),
];
/// Where runs stand that have not ended.
const OPEN: &str = "queued,running,waiting,cancelling";

pub(super) async fn run(plan: &Planning, output: Output) -> Result<ExitCode, Error> {
    let mut gathered = config::gather(plan.at.server.config(), &config::environment());
    gathered.look_for_secrets().await;
    let report = Report::new(gathered.problems);
    if report.errors() > 0 {
        if plan.at.json {
            output::print_json(&json!({ "problems": report.entries() }));
        } else {
            output::print(&render(&report, output));
        }
        let message = format!("the files have {}, so nothing was compared", count(report.errors(), "problem"));
        return Err(Error::new(message).help("mend them, then plan again; a reload would refuse them as well"));
    }
    let api = Api::open(&plan.at.server)?;
    let at = SystemClock.now();
    let asked = in_force(&api).await?;
    let files = on_disk(&gathered.loaded.catalog, &gathered.written, &asked.clocks, at);
    let changes = changes(&asked.standing, &files);
    let staying = staying(open_runs(&api).await?, &files);
    if plan.at.json {
        output::print_json(&json!({ "changes": changes, "runs_that_stay": staying, "problems": report.entries() }));
    } else {
        // Warnings only, at this point.
        output::print(&format!("{}{}", render(&report, output), show(&changes, &staying)));
    }
    let code = if plan.detailed_exitcode && !changes.is_empty() { CHANGES } else { 0 };
    Ok(ExitCode::from(code))
}

/// What the gateway said.
struct Asked {
    standing: Standing,
    /// How each schedule stands.
    clocks: BTreeMap<String, Dial>,
}

/// How a schedule of the gateway stands.
struct Dial {
    /// The newest slot that was dealt with.
    dealt_with: Option<Timestamp>,
    /// Somebody paused it, not its file.
    held: bool,
}

async fn in_force(api: &Api) -> Result<Asked, Error> {
    let workflows = api.get(&Place::new(&["workflows"])).await?;
    let routes = api.get(&Place::new(&["routes"])).await?;
    let schedules = api.get(&Place::new(&["schedules"])).await?;
    let settings = api.get(&Place::new(&["settings"])).await?;
    let named = |item: &Value| text(item, "name").to_owned();
    let clock = |item: &Value| {
        let next = list(item, "next").iter().take(SLOTS_SHOWN).map(|slot| text(slot, "due").to_owned());
        let piece = Piece { next: next.collect(), ..piece(item, &["rule", "timezone", "workflow"]) };
        (named(item), piece)
    };
    let dial = |item: &Value| {
        let dealt_with = Timestamp::parse_rfc3339(text(item, "dealt_with"));
        let held = item["paused"].as_str().is_some_and(|by| by != "by its file");
        (named(item), Dial { dealt_with, held })
    };
    let revision = |item: &Value| (named(item), text(item, "revision").to_owned());
    let door = |item: &Value| (named(item), piece(item, &["path", "verify", "workflow"]));
    let entry = |item: &Value| (named(item), piece(item, &[]));
    let standing = Standing {
        workflows: list(&workflows, "items").iter().map(revision).collect(),
        routes: list(&routes, "items").iter().map(door).collect(),
        schedules: list(&schedules, "items").iter().map(clock).collect(),
        connections: list(&settings, "connections").iter().map(entry).collect(),
        channels: list(&settings, "channels").iter().map(entry).collect(),
        sections: list(&settings, "sections").iter().map(entry).collect(),
    };
    Ok(Asked { standing, clocks: list(&schedules, "items").iter().map(dial).collect() })
}

fn piece(item: &Value, shown: &[&str]) -> Piece {
    let member = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    let parts = item["parts"].as_object().into_iter().flatten().filter_map(member).collect();
    let known = shown.iter().filter_map(|key| Some((key_of(key), item[*key].as_str()?.to_owned())));
    Piece { parts, known: known.collect(), ..Piece::default() }
}

/// The key of a file under which what is shown stands: the rule of a schedule stands under `cron`.
fn key_of(shown: &str) -> String {
    if shown == "rule" { "cron".to_owned() } else { shown.to_owned() }
}

fn on_disk(catalog: &Catalog, said: &Written, clocks: &BTreeMap<String, Dial>, at: Timestamp) -> Standing {
    let workflows = catalog.workflows.values().map(|plan| (plan.name.to_string(), plan.revision.to_string()));
    let routes = catalog.routes.values().map(|plan| {
        let known =
            [("path", plan.path.as_str()), ("verify", plan.verify.name()), ("workflow", plan.workflow.as_str())];
        (plan.name.to_string(), written(&plan.parts, &known))
    });
    let schedules = catalog.schedules.values().map(|plan| {
        let name = plan.schedule.name.to_string();
        let dial = clocks.get(&name);
        (name, clock(plan, dial, at))
    });
    Standing {
        workflows: workflows.collect(),
        routes: routes.collect(),
        schedules: schedules.collect(),
        connections: entries(&said.connections),
        channels: entries(&said.channels),
        sections: entries(&said.sections),
    }
}

fn entries(entries: &WrittenEntries) -> BTreeMap<String, Piece> {
    let piece = |keys: &BTreeMap<String, Revision>| {
        let parts = keys.iter().map(|(key, hash)| (key.clone(), hash.to_string())).collect();
        Piece { parts, ..Piece::default() }
    };
    entries.iter().map(|(name, keys)| (name.clone(), piece(keys))).collect()
}

fn written(parts: &Parts, known: &[(&str, &str)]) -> Piece {
    let parts = parts.iter().map(|(key, hash)| ((*key).to_owned(), hash.to_string())).collect();
    let known = known.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Piece { parts, known, ..Piece::default() }
}

fn clock(plan: &SchedulePlan, dial: Option<&Dial>, at: Timestamp) -> Piece {
    let schedule = &plan.schedule;
    let (rule, zone) = (schedule.rule.to_string(), schedule.rule.zone().map(|zone| zone.to_string()));
    let mut known = vec![("cron", rule.as_str()), ("workflow", plan.workflow.as_str())];
    known.extend(zone.as_deref().map(|zone| ("timezone", zone)));
    let mut piece = written(&plan.parts, &known);
    if schedule.state == State::Active && dial.is_none_or(|dial| !dial.held) {
        piece.next = schedule.rule.after(at).take(SLOTS_SHOWN).map(|slot| slot.due.to_string()).collect();
        // A schedule that the gateway never saw has missed nothing.
        if let Some(dealt_with) = dial.and_then(|dial| dial.dealt_with) {
            let entered = schedule.missed(dealt_with, at).enter;
            piece.missed = entered.iter().map(|slot| slot.due.to_string()).collect();
        }
    }
    piece
}

/// The runs that have not ended, by workflow and revision, page by page.
async fn open_runs(api: &Api) -> Result<Vec<Staying>, Error> {
    let mut found: BTreeMap<(String, String), BTreeMap<String, usize>> = BTreeMap::new();
    let (mut cursor, mut seen) = (None::<String>, 0);
    loop {
        let mut place = Place::new(&["runs"]);
        place.query("status", Some(OPEN));
        place.query("limit", Some(limits::PAGE_MAX));
        place.query("cursor", cursor.take());
        let page = api.get(&place).await?;
        let runs = list(&page, "items");
        seen += runs.len();
        for run in runs {
            let key = (text(run, "workflow").to_owned(), text(run, "revision").to_owned());
            *found.entry(key).or_default().entry(text(run, "status").to_owned()).or_default() += 1;
        }
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_some() && seen >= limits::PLAN_RUNS_MAX {
            output::note(&format!("only the newest {} open runs were counted", limits::PLAN_RUNS_MAX));
        } else if cursor.is_some() {
            continue;
        }
        let staying = found.into_iter().map(|((workflow, revision), runs)| Staying { workflow, revision, runs });
        return Ok(staying.collect());
    }
}

fn show(changes: &[Change], staying: &[Staying]) -> String {
    let mut lines = Vec::new();
    for (what, title) in TITLES {
        let of_kind: Vec<_> = changes.iter().filter(|change| change.what == what).collect();
        if !of_kind.is_empty() {
            lines.push(title.to_owned());
            for change in of_kind {
                show_change(change, &mut lines);
            }
        }
    }
    if !staying.is_empty() {
        lines.push("runs that stay on a revision which is not that of the files".to_owned());
        for runs in staying {
            let counts: Vec<_> = runs.runs.iter().map(|(state, count)| format!("{count} {state}")).collect();
            lines.push(format!("  {} at {}: {}", runs.workflow, runs.revision, counts.join(", ")));
        }
    }
    if changes.is_empty() {
        lines.push("nothing to do: the gateway has these files in force".to_owned());
    }
    for (is_reloaded, how) in [(true, "`clawhook reload` does it"), (false, "the settings take a restart")] {
        let theirs: Vec<_> = changes.iter().filter(|change| change.what.is_reloaded() == is_reloaded).collect();
        if !theirs.is_empty() {
            let of = |action: Action| theirs.iter().filter(|change| change.action == action).count();
            let (add, change, remove) = (of(Action::Add), of(Action::Change), of(Action::Remove));
            lines.push(format!("{add} to add, {change} to change, {remove} to remove; {how}"));
        }
    }
    lines.join("\n")
}

fn show_change(change: &Change, lines: &mut Vec<String>) {
    let mark = match change.action {
        Action::Add => '+',
        Action::Change => '~',
        Action::Remove => '-',
    };
    let keys: Vec<_> = change
        .keys
        .iter()
        .map(|key| match (&key.before, &key.after) {
            (Some(before), Some(after)) if before != after => format!("{} {before} → {after}", key.key),
            _ => key.key.clone(),
        })
        .collect();
    let keys = if keys.is_empty() { String::new() } else { format!("  {}", keys.join(", ")) };
    lines.push(format!("  {mark} {}{keys}", change.name));
    if change.what == What::Schedule {
        let slots = |slots: &[String]| if slots.is_empty() { "none".to_owned() } else { slots.join(", ") };
        if change.next_before != change.next_after {
            lines.push(format!("      next before: {}", slots(&change.next_before)));
            lines.push(format!("      next after:  {}", slots(&change.next_after)));
        }
        if !change.missed.is_empty() {
            lines.push(format!("      fires at once, to catch up: {}", slots(&change.missed)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[track_caller]
    fn check(words: &str, dial: Option<&Dial>, missed: usize, next: usize) {
        let text = format!("version: 1\nschedules: [{{ name: tick, every: 1h, workflow: w{words} }}]\n");
        let compiled = crate::spec::compile_routes("routes.yaml", &text).expect("a good file");
        let piece = clock(&compiled.schedules[0], dial, NOW);
        assert_eq!((piece.missed.len(), piece.next.len()), (missed, next), "{words}");
    }

    const NOW: Timestamp = Timestamp::from_secs(1_795_338_000 + 1_800);

    #[test]
    fn what_a_schedule_would_make_up_for() {
        let dial = |held| Some(Dial { dealt_with: Some(NOW.minus(Duration::from_hours(3))), held });
        check(", catchup: all, catchup_window: 1d", dial(false).as_ref(), 3, SLOTS_SHOWN);
        check(", catchup: latest, catchup_window: 1d", dial(false).as_ref(), 1, SLOTS_SHOWN);
        check(", catchup: none", dial(false).as_ref(), 0, SLOTS_SHOWN);
        check(", catchup: all", None, 0, SLOTS_SHOWN);
        check(", catchup: all, catchup_window: 1d", dial(true).as_ref(), 0, 0);
        check(", catchup: all, catchup_window: 1d, paused: true", dial(false).as_ref(), 0, 0);
    }
}
