//! One schedule: when it is due, and what happens around its slots.

use super::Callees;
use super::desk::Desk;
use super::route::{inputs, workflow};
use super::scope::{Scope, Where};
use crate::domain::schedule::{self, Catchup, Overlap, Rule, Schedule, State};
use crate::id::{Revision, ScheduleName};
use crate::limits;
use crate::spec::raw;
use crate::spec::source_map::Path;
use crate::spec::structure::Item;
use crate::tasks::plan::{Parts, SchedulePlan};

/// Makes a schedule runnable. `None` when it is not; why is told.
pub(in crate::spec) fn resolve_schedule(
    desk: &mut Desk<'_>,
    item: &Item<raw::Schedule>,
    callees: Callees<'_>,
    revision: &Revision,
) -> Option<SchedulePlan> {
    let raw = item.raw.as_ref()?;
    let path = &item.path;
    let errors = desk.errors();
    let name = desk.name(&path.with("name"), ScheduleName::new(&raw.name));
    let rule = rule(
        desk,
        path,
        When {
            what: "the schedule",
            cron: raw.cron.as_deref(),
            every: raw.every.as_ref(),
            timezone: raw.timezone.as_deref(),
        },
    );
    let workflow = workflow(desk, path, &raw.workflow, callees);
    let scope = Scope::of_trigger(Where::Schedule);
    let inputs = inputs(desk, path, &raw.inputs, &raw.workflow, callees, &scope);
    let catchup_window = desk.duration(&path.with("catchup_window"), raw.catchup_window.as_ref());
    let jitter = raw.jitter.as_ref().filter(|jitter| jitter.0 != "0s");
    let jitter = desk.duration(&path.with("jitter"), jitter).unwrap_or_default();
    if raw.catchup == Some(raw::Catchup::None) && raw.catchup_window.is_some() {
        let span = desk.map.key(path, "catchup_window");
        let problem =
            desk.problem("spec.no_effect", "`catchup_window` does nothing with `catchup: none`", span).warning();
        desk.push(problem.help("remove the line, or write `catchup: latest`"));
    }
    if let Some(channel) = &raw.alert_if_missed {
        desk.channel(&path.with("alert_if_missed"), channel);
    }
    if desk.errors() > errors {
        return None;
    }
    let schedule = Schedule {
        name: name?,
        rule: rule?,
        overlap: raw.overlap.map_or_else(Overlap::default, overlap),
        catchup: raw.catchup.map_or_else(Catchup::default, catchup),
        catchup_window: catchup_window.unwrap_or(limits::CATCHUP_WINDOW),
        jitter,
        state: match (raw.enabled, raw.paused) {
            (false, _) => State::Disabled,
            (true, true) => State::Paused,
            (true, false) => State::Active,
        },
    };
    let alert_if_missed = raw.alert_if_missed.clone();
    Some(SchedulePlan {
        schedule,
        revision: revision.clone(),
        workflow: workflow?,
        inputs: inputs?,
        alert_if_missed,
        sweep: None,
        parts: parts(raw),
    })
}

/// What is written, key by key.
fn parts(raw: &raw::Schedule) -> Parts {
    let written = [
        ("cron", format!("{:?}", raw.cron)),
        ("every", format!("{:?}", raw.every)),
        ("timezone", format!("{:?}", raw.timezone)),
        ("overlap", format!("{:?}", raw.overlap)),
        ("catchup", format!("{:?}", raw.catchup)),
        ("catchup_window", format!("{:?}", raw.catchup_window)),
        ("jitter", format!("{:?}", raw.jitter)),
        ("alert_if_missed", format!("{:?}", raw.alert_if_missed)),
        ("workflow", format!("{:?}", raw.workflow)),
        ("inputs", format!("{:?}", raw.inputs)),
        ("enabled", format!("{:?}", raw.enabled)),
        ("paused", format!("{:?}", raw.paused)),
    ];
    written.into_iter().map(|(key, text)| (key, Revision::of(text.as_bytes()))).collect()
}

/// The keys that say when something is due.
#[derive(Clone, Copy)]
pub(super) struct When<'a> {
    /// What has them, for people.
    pub(super) what: &'static str,
    pub(super) cron: Option<&'a str>,
    pub(super) every: Option<&'a raw::Duration>,
    pub(super) timezone: Option<&'a str>,
}

pub(super) fn rule(desk: &mut Desk<'_>, path: &Path, raw: When<'_>) -> Option<Rule> {
    let zone = match raw.timezone {
        None => Some(chrono_tz::UTC),
        Some(text) => told(desk, &path.with("timezone"), schedule::timezone(text)),
    };
    match (raw.cron, raw.every) {
        (Some(cron), None) => {
            told(desk, &path.with("cron"), Rule::cron(cron, zone.unwrap_or_default())).filter(|_| zone.is_some())
        }
        (None, Some(every)) => {
            if raw.timezone.is_some() {
                let span = desk.map.key(path, "timezone");
                let problem = desk.problem("spec.no_effect", "`timezone` does nothing with `every`", span).warning();
                desk.push(problem.label("`every` follows real time").help("remove the line, or write a `cron`"));
            }
            let every = desk.duration(&path.with("every"), Some(every))?;
            told(desk, &path.with("every"), Rule::every(every))
        }
        (Some(_), Some(_)) => {
            let problem = desk.problem(
                "spec.schedule",
                format!("{} has `cron` or `every`, not both", raw.what.replacen("the", "a", 1)),
                desk.map.key(path, "every"),
            );
            let problem = problem.related(desk.map.key(path, "cron"), "and here");
            desk.push(problem.help("remove one of the two"));
            None
        }
        (None, None) => {
            let problem =
                desk.problem("spec.schedule", format!("{} does not say when", raw.what), desk.map.entry(path));
            desk.push(problem.help("add `cron: \"0 */2 * * *\"` or `every: 2h`"));
            None
        }
    }
}

fn told<T>(desk: &mut Desk<'_>, path: &Path, result: Result<T, schedule::Error>) -> Option<T> {
    result
        .map_err(|error| {
            let problem = desk.at("spec.schedule", error.problem(), path).help(error.help());
            desk.push(problem);
        })
        .ok()
}

fn overlap(raw: raw::Overlap) -> Overlap {
    match raw {
        raw::Overlap::Skip => Overlap::Skip,
        raw::Overlap::Queue => Overlap::Queue,
        raw::Overlap::Allow => Overlap::Allow,
        raw::Overlap::CancelRunning => Overlap::CancelRunning,
    }
}

fn catchup(raw: raw::Catchup) -> Catchup {
    match raw {
        raw::Catchup::None => Catchup::None,
        raw::Catchup::Latest => Catchup::Latest,
        raw::Catchup::All => Catchup::All,
    }
}
