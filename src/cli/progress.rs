//! How a run goes, as it goes: one moving line a task on a terminal, one plain line an event elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

use super::output::{self, Output, visible};
use super::show::shortened;
use super::words::{age_of, count, number, text, took};
use crate::clock::Timestamp;
use crate::gateway::view;
use crate::tasks::plan::Plan;

/// Characters of a line; longer ones would wrap and leave pieces behind when they move.
const LINE_CHARS: usize = 110;
/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Shows progress on stderr.
pub(super) enum Progress {
    /// Lines that move, by task.
    Moving { lines: MultiProgress, bars: BTreeMap<String, ProgressBar> },
    /// Lines that stay.
    Plain,
}

impl Progress {
    /// Progress of a run of this plan. Handlers get their line when they start.
    pub(super) fn new(plan: &Plan, output: Output) -> Self {
        if !output.watched {
            return Self::Plain;
        }
        let mut progress = Self::Moving { lines: MultiProgress::new(), bars: BTreeMap::new() };
        for task in &plan.tasks.tasks {
            progress.set(task.id.as_str(), "");
        }
        progress
    }

    /// New events of the run's log.
    pub(super) fn events(&self, events: &[view::Event]) {
        if matches!(self, Self::Plain) {
            for line in events.iter().filter_map(event_line) {
                output::note(&line);
            }
        }
    }

    /// The run as it stands.
    pub(super) fn run(&mut self, run: &view::RunDetail, now: Timestamp) {
        if matches!(self, Self::Plain) {
            return;
        }
        for task in &run.tasks {
            let line = task_line(task, run.run.wakes_at.as_deref(), now);
            self.set(&task.id, &line);
        }
    }

    /// No more is to come: spinners stop where they are.
    pub(super) fn finish(&self) {
        if let Self::Moving { bars, .. } = self {
            for bar in bars.values() {
                bar.abandon();
            }
        }
    }

    fn set(&mut self, task: &str, line: &str) {
        let Self::Moving { lines, bars } = self else { return };
        let bar = bars.entry(task.to_owned()).or_insert_with(|| {
            let bar = lines.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {prefix}  {msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(visible(task));
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_message(line.to_owned());
        if line.starts_with(['✓', '✗', '–']) {
            bar.abandon();
        }
    }
}

/// Where a task stands: its state, its attempts, what it waits for and why.
fn task_line(task: &view::Task, wakes_at: Option<&str>, now: Timestamp) -> String {
    let last = task.attempts.last();
    let attempt = last.map_or(1, |last| last.attempt);
    let took = last.and_then(|last| last.duration_ms).map(took).unwrap_or_default();
    let tries = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
    let failure =
        last.and_then(|last| last.failure.as_ref()).map(|failure| failure.message.as_str()).unwrap_or_default();
    let line = match task.status.as_str() {
        "succeeded" => format!("✓ {took}{tries}"),
        "failed" => format!("✗ {failure}{tries}"),
        "skipped" => "– skipped".to_owned(),
        "started" => format!("running{tries}"),
        "retrying" => {
            let again = last.and_then(|last| last.retry_at.as_deref()).map(|at| age_of(at, now)).unwrap_or_default();
            format!("attempt {attempt} failed, again {again}: {failure}")
        }
        "waiting" => format!("waits, goes on {}", wakes_at.map(|at| age_of(at, now)).unwrap_or_default()),
        _ => String::new(),
    };
    shortened(&visible(&line).replace('\n', " "), LINE_CHARS)
}

/// An event in words; nothing for those that only the engine cares about.
fn event_line(event: &view::Event) -> Option<String> {
    let detail = &event.detail;
    let task = text(detail, "task");
    let line = match event.event.as_str() {
        "attempt_started" => format!("{task}: attempt {}", number(detail, "attempt")),
        "attempt_ended" => ended_line(task, detail),
        "task_skipped" => format!("{task}: skipped"),
        "opened" => match detail["items"].as_u64() {
            Some(items) => format!("{task}: {}", count(usize::try_from(items).unwrap_or(usize::MAX), "item")),
            None => return None,
        },
        "cancel_requested" => format!("cancel: {}", text(detail, "reason")),
        _ => return None,
    };
    Some(visible(&line))
}

/// Events hold instants as milliseconds since the Unix epoch.
fn instant(value: &Value) -> Option<Timestamp> {
    value.as_i64().map(Timestamp::from_millis)
}

fn ended_line(task: &str, detail: &Value) -> String {
    let took = took(number(detail, "duration_ms"));
    let call = match (&detail["exchange"]["request"], detail["exchange"]["response"]["status"].as_u64()) {
        (Value::Null, _) => String::new(),
        (request, Some(status)) => format!(" ({} {} → {status})", text(request, "method"), text(request, "url")),
        (request, None) => format!(" ({} {} → no answer)", text(request, "method"), text(request, "url")),
    };
    let (failed, paused) = (&detail["result"]["failed"], &detail["result"]["paused"]);
    if let Some(until) = instant(&paused["until"]) {
        return match paused["why"].as_str() {
            Some(_) => format!("{task}: waits until {until}"),
            None => format!("{task}: not over after {took}{call}; it goes on at {until}"),
        };
    }
    if !failed.is_object() {
        return format!("{task}: succeeded after {took}{call}");
    }
    let again = match instant(&failed["retry_at"]) {
        Some(at) => format!("tried again at {at}"),
        None => "not tried again".to_owned(),
    };
    format!("{task}: failed after {took}{call}: {}; {again}", text(&failed["failure"], "message"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::failure::{Failure, Fault};

    const NOW: Timestamp = Timestamp::from_secs(1_795_338_000);

    #[track_caller]
    fn check_task(status: &str, attempt: u32, failure: Option<&str>, expected: &str) {
        let attempt = view::Attempt {
            attempt,
            idempotency_key: String::new(),
            started_at: String::new(),
            ended_at: None,
            duration_ms: Some(12),
            output: None,
            paused: None,
            kept: Vec::new(),
            failure: failure.map(|message| Failure::new("http.status", Fault::Far, message)),
            retry_at: Some("2026-11-22T09:00:04.000Z".to_owned()),
            exchange: None,
        };
        let task = view::Task { id: "push".to_owned(), status: status.to_owned(), attempts: vec![attempt] };
        assert_eq!(task_line(&task, Some("2026-11-22T09:01:00.000Z"), NOW), expected);
    }

    #[test]
    fn a_task_in_one_line() {
        check_task("started", 1, None, "running");
        check_task("started", 2, None, "running, attempt 2");
        check_task("succeeded", 2, None, "✓ 12 ms, attempt 2");
        check_task("failed", 1, Some("`erp` answered\n500"), "✗ `erp` answered 500");
        check_task("retrying", 1, Some("`erp` answered 503"), "attempt 1 failed, again in 4 s: `erp` answered 503");
        check_task("waiting", 1, None, "waits, goes on in 60 s");
        check_task("skipped", 1, None, "– skipped");
    }

    #[track_caller]
    fn check_event(event: &str, detail: Value, expected: Option<&str>) {
        let event = view::Event { seq: 1, at: String::new(), event: event.to_owned(), detail };
        assert_eq!(event_line(&event).as_deref(), expected);
    }

    #[test]
    fn an_event_in_one_line() {
        check_event("claimed", json!({ "worker": "w" }), None);
        check_event("attempt_started", json!({ "task": "push", "attempt": 2, "key": "k" }), Some("push: attempt 2"));
        check_event("task_skipped", json!({ "task": "push" }), Some("push: skipped"));
        check_event(
            "attempt_ended",
            json!({ "task": "push", "attempt": 1, "duration_ms": 3, "result": { "succeeded": { "output": 1 } } }),
            Some("push: succeeded after 3 ms"),
        );
        let exchange = json!({ "request": { "method": "GET", "url": "http://erp/" }, "response": { "status": 503 } });
        let failed = json!({ "failed": { "failure": { "message": "no" }, "retry_at": null } });
        check_event(
            "attempt_ended",
            json!({ "task": "push", "duration_ms": 3, "result": failed, "exchange": exchange }),
            Some("push: failed after 3 ms (GET http://erp/ → 503): no; not tried again"),
        );
        let paused = |why| json!({ "paused": { "until": 1_795_338_000_000_i64, "why": why } });
        check_event(
            "attempt_ended",
            json!({ "task": "nap", "duration_ms": 0, "result": paused(json!("delay")) }),
            Some("nap: waits until 2026-11-22T09:00:00.000Z"),
        );
        check_event(
            "attempt_ended",
            json!({ "task": "ask", "duration_ms": 3, "result": paused(json!({ "poll": { "said": "202" } })) }),
            Some("ask: not over after 3 ms; it goes on at 2026-11-22T09:00:00.000Z"),
        );
        check_event("opened", json!({ "task": "each", "items": 2 }), Some("each: 2 items"));
        check_event("opened", json!({ "task": "group" }), None);
        check_event("suspended", json!({ "until": 1, "reason": "drained" }), None);
    }
}
