//! One run in words: where it stands and why, what started it, and every attempt at every task.

use std::fmt::Write as _;

use serde_json::Value;

use super::output::{Paint, pretty, visible};
use super::words::{age_of, between, count, list, micros, number, size, text, took};
use crate::clock::Timestamp;

/// How much of bodies and values is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The first `LINES` lines.
    First,
    /// Everything that was kept.
    Whole,
}

/// Lines of a body or value that are shown when it is cut.
const LINES: usize = 24;
/// Characters of one line that are shown when it is cut.
const LINE_CHARS: usize = 200;

/// The whole page of a run.
pub(super) fn run(run: &Value, now: Timestamp, cut: Cut, paint: Paint) -> String {
    let mut page = Page { text: String::new(), run: text(run, "id").to_owned(), now, cut, paint };
    page.head(run);
    page.facts(run);
    if run["delivery"].is_object() {
        page.delivery(&run["delivery"]);
    }
    page.value("Inputs", &run["inputs"]);
    page.value("State as it was read", &run["state"]);
    let tasks = list(run, "tasks");
    if !tasks.is_empty() {
        page.title("Tasks");
        for task in tasks {
            page.task(task);
        }
    }
    page.value("Outputs", &run["outputs"]);
    if run["payloads_gone"] == true {
        page.line(0, "\nBodies, inputs and outputs were let go by `retention.payloads`; it cannot be run again.");
    }
    page.text
}

/// What `trigger` and `replay` gave.
pub(super) fn triggered(done: &Value) -> String {
    let id = text(done, "run_id");
    let mut words = format!("{id} {}", text(done, "status"));
    if done["duplicate"] == true {
        words.push_str(" (the idempotency key was known: this is the run it made then)");
    }
    if let Some(message) = done["failure"]["message"].as_str() {
        write!(words, "\n{}", visible(message)).ok();
    }
    if done["outputs"].is_object() {
        write!(words, "\n{}", pretty(&done["outputs"])).ok();
    }
    write!(words, "\nsee it with `clawhook runs show {id}`").ok();
    words
}

/// Labels of a run as one types them.
pub(super) fn labels(run: &Value) -> String {
    let Some(labels) = run["labels"].as_object() else { return String::new() };
    let label = |(name, value): (&String, &Value)| format!("{name}={}", value.as_str().unwrap_or_default());
    labels.iter().map(label).collect::<Vec<_>>().join(" ")
}

/// The first characters of a text, and a sign that there are more.
pub(super) fn shortened(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Whose side a failure is on, in words.
pub(super) fn whose_side(failure: &Value) -> String {
    let place = failure["place"].as_str().map(|place| format!(" (`{place}`)")).unwrap_or_default();
    match text(failure, "fault") {
        "config" => "our files or settings".to_owned() + &place,
        "sender" => "the sender".to_owned() + &place,
        "far" => "the far end".to_owned() + &place,
        _ => "this gateway".to_owned() + &place,
    }
}

struct Page {
    text: String,
    /// The run that it is of.
    run: String,
    now: Timestamp,
    cut: Cut,
    paint: Paint,
}

impl Page {
    fn line(&mut self, indent: usize, line: &str) {
        let margin = " ".repeat(indent);
        for line in visible(line).split('\n') {
            self.plain_line(&margin, line);
        }
    }

    /// A line that may carry colours.
    fn plain_line(&mut self, margin: &str, line: &str) {
        let line = format!("{margin}{line}");
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn title(&mut self, title: &str) {
        let title = self.paint.bold(title);
        self.plain_line("", "");
        self.plain_line("", &title);
    }

    fn fact(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            let name = self.paint.dim(&format!("{name:<10}"));
            let value = visible(value).replace('\n', " ");
            self.plain_line("  ", &format!("{name}{value}"));
        }
    }

    /// What it is, where it stands, and what that means for whoever looks.
    fn head(&mut self, run: &Value) {
        let status = text(run, "status");
        let id = self.paint.bold(text(run, "id"));
        let state = self.paint.state(status);
        self.plain_line("", &format!("{id}  {}  {state}", visible(text(run, "workflow"))));
        let sentence = self.sentence(run, status);
        self.line(0, &sentence);
        if run["failure"].is_object() && status == "failed" {
            self.failure(run);
        }
        if let Some(first) = run["suspected_replay_of"].as_str() {
            self.line(0, &format!("Suspected replay: {first} had the same signed body under another delivery id."));
        }
    }

    fn sentence(&self, run: &Value, status: &str) -> String {
        let attempts = count(usize::try_from(number(run, "attempts")).unwrap_or(usize::MAX), "attempt");
        let ended = age_of(text(run, "ended_at"), self.now);
        let took =
            run["started_at"].as_str().zip(run["ended_at"].as_str()).and_then(|(start, end)| between(start, end));
        let after = took.map(|took| format!(" after {took}")).unwrap_or_default();
        match (status, run["why_waiting"].as_str()) {
            ("succeeded", _) => format!("It did all its work {ended}{after}, with {attempts}."),
            ("failed", _) => format!("It failed {ended}{after}, with {attempts}."),
            ("cancelled", _) => {
                let by = run["cancel"]["by"].as_str().map(|by| format!(" by {}", visible(by))).unwrap_or_default();
                let why = run["cancel"]["reason"].as_str().map(|why| format!(": {}", visible(why))).unwrap_or_default();
                format!("It was cancelled {ended}{by}{after}, with {attempts}{why}.")
            }
            ("running", _) => format!("It is under way, with {attempts} so far."),
            ("queued", Some(why)) => format!("It has not started yet: {why}."),
            ("cancelling", Some(why)) => format!("It is being cancelled: {why}."),
            (_, Some(why)) => format!("It waits: {why}."),
            ("queued", None) => "It waits for a free worker.".to_owned(),
            (other, None) => format!("It is {other}."),
        }
    }

    fn failure(&mut self, run: &Value) {
        let failure = &run["failure"];
        let code = text(failure, "code");
        let task = failure["task"].as_str().map(|task| format!("In task `{task}`: ")).unwrap_or_default();
        self.line(0, "");
        self.line(2, &format!("{task}{}", text(failure, "message")));
        self.line(2, &format!("whose side: {}", whose_side(failure)));
        self.line(2, &format!("arrived:    {}", arrived(failure)));
        if let Some(help) = failure["help"].as_str() {
            self.line(2, &format!("help:       {help}"));
        }
        let id = text(run, "id").to_owned();
        self.line(2, &format!("then:       clawhook runs resume {id}   (goes on from the failed task)"));
        self.line(2, &format!("about it:   clawhook explain {code}"));
    }

    fn facts(&mut self, run: &Value) {
        self.line(0, "");
        self.fact("revision", text(run, "revision"));
        let due = run["slot_due"].as_str().map(|due| format!(", due {due}")).unwrap_or_default();
        self.fact("trigger", &format!("{} {}{due}", text(run, "trigger"), text(run, "source")));
        for (name, member) in
            [("accepted", "accepted_at"), ("started", "started_at"), ("ended", "ended_at"), ("goes on", "wakes_at")]
        {
            let at = text(run, member);
            let age = age_of(at, self.now);
            self.fact(name, &if at.is_empty() { String::new() } else { format!("{at} ({age})") });
        }
        self.fact("labels", &labels(run));
        self.fact("cause", text(run, "cause"));
    }

    fn delivery(&mut self, delivery: &Value) {
        self.title("Delivery");
        let query = match text(delivery, "query") {
            "" => String::new(),
            query => format!("?{query}"),
        };
        let id = delivery["id"].as_str().map(|id| format!(", delivery id {id}")).unwrap_or_default();
        self.line(2, &format!("{} {}{query}", text(delivery, "method"), text(delivery, "path")));
        let verified = match text(delivery, "verified_by") {
            "none" => "not verified (`verify: none`)".to_owned(),
            scheme => format!("verified as {scheme}"),
        };
        self.line(2, &format!("from {}, {verified}{id}", text(delivery, "remote")));
        self.headers(2, &delivery["headers"]);
        self.body(2, &delivery["body"]);
    }

    fn headers(&mut self, indent: usize, headers: &Value) {
        for header in headers.as_array().map(Vec::as_slice).unwrap_or_default() {
            let line =
                format!("{}: {}", header[0].as_str().unwrap_or_default(), header[1].as_str().unwrap_or_default());
            let line = if self.cut == Cut::First { shortened(&line, LINE_CHARS) } else { line };
            self.line(indent, &line);
        }
    }

    /// A kept body: JSON laid out, text as it is, binary by its size only.
    fn body(&mut self, indent: usize, body: &Value) {
        if !body.is_object() {
            return;
        }
        let bytes = size(number(body, "bytes"));
        let part = if body["cut"] == true { ", the first part was kept" } else { "" };
        if body["binary"] == true {
            return self.line(indent, &format!("body: {bytes}, not text{part}"));
        }
        self.line(indent, &format!("body: {bytes}{part}"));
        let kept = text(body, "text");
        match serde_json::from_str::<Value>(kept) {
            Ok(value) => self.block(indent + 2, &pretty(&value)),
            Err(_) => self.block(indent + 2, kept),
        }
    }

    fn value(&mut self, title: &str, value: &Value) {
        if value.as_object().is_some_and(|members| !members.is_empty()) {
            self.title(title);
            self.block(2, &pretty(value));
        }
    }

    fn block(&mut self, indent: usize, text: &str) {
        let lines: Vec<_> = text.lines().collect();
        let shown = if self.cut == Cut::First { lines.len().min(LINES) } else { lines.len() };
        for line in &lines[..shown] {
            let line = if self.cut == Cut::First { shortened(line, LINE_CHARS) } else { (*line).to_owned() };
            self.line(indent, &line);
        }
        if shown < lines.len() {
            self.line(indent, &format!("… {} more; `--full` shows them", count(lines.len() - shown, "line")));
        }
    }

    fn task(&mut self, task: &Value) {
        let status = text(task, "status");
        let attempts = list(task, "attempts");
        let mark = match status {
            "succeeded" => "✓",
            "failed" => "✗",
            "skipped" => "–",
            _ => "…",
        };
        let tries = if attempts.len() > 1 { format!(", {}", count(attempts.len(), "attempt")) } else { String::new() };
        let state = self.paint.state(status);
        let id = self.paint.bold(&visible(text(task, "id")));
        self.plain_line("  ", &format!("{mark} {id}  {state}{tries}"));
        for attempt in attempts {
            self.attempt(attempt);
        }
    }

    fn attempt(&mut self, attempt: &Value) {
        let took = match attempt["duration_ms"].as_u64() {
            Some(millis) => format!(", {}", took(millis)),
            None => ", not over".to_owned(),
        };
        self.line(6, &format!("attempt {} at {}{took}", number(attempt, "attempt"), text(attempt, "started_at")));
        let exchange = &attempt["exchange"];
        if exchange.is_object() {
            self.exchange(exchange, attempt);
        }
        let failure = &attempt["failure"];
        if failure.is_object() {
            self.line(8, &format!("failed: {} [{}]", text(failure, "message"), text(failure, "code")));
            match attempt["retry_at"].as_str() {
                Some(at) => self.line(8, &format!("next attempt at {at} ({})", age_of(at, self.now))),
                None => self.line(8, "not tried again"),
            }
        } else if let Some(why) = attempt["paused"].as_str() {
            let next = text(attempt, "retry_at");
            self.line(8, &format!("not over: {why}; it goes on at {next} ({})", age_of(next, self.now)));
        } else if !exchange.is_object() && !attempt["output"].is_null() {
            self.block(8, &pretty(&attempt["output"]));
        }
        for pointer in list(attempt, "kept") {
            self.kept(pointer.as_str().unwrap_or_default(), &attempt["output"]);
        }
    }

    /// Where a part of an output is that is too large for the record.
    fn kept(&mut self, pointer: &str, output: &Value) {
        let Some(handle) = output.pointer(pointer) else { return };
        let what = if pointer.is_empty() { "output".to_owned() } else { pointer.trim_start_matches('/').to_owned() };
        let (bytes, sha256) = (size(number(handle, "bytes")), text(handle, "sha256"));
        self.line(8, &format!("{what} is kept beside the record: {bytes}, SHA-256 {sha256}"));
        let command = format!("clawhook runs artifact {} {}", self.run, text(handle, "artifact"));
        self.line(10, &command);
    }

    fn exchange(&mut self, exchange: &Value, attempt: &Value) {
        let (request, response) = (&exchange["request"], &exchange["response"]);
        self.line(8, &format!("{} {}", text(request, "method"), text(request, "url")));
        self.headers(10, &request["headers"]);
        self.body(10, &request["body"]);
        if response.is_object() {
            self.line(8, &format!("answered {}", number(response, "status")));
            self.headers(10, &response["headers"]);
            self.body(10, &response["body"]);
            // A call that succeeded has the body in its output instead.
            let aside = list(attempt, "kept").iter().any(|pointer| pointer == "/body");
            if !response["body"].is_object() && !attempt["output"]["body"].is_null() && !aside {
                self.block(10, &pretty(&attempt["output"]["body"]));
            }
        } else {
            self.line(8, "no answer");
        }
        let line = timings(&exchange["timings"]);
        self.line(8, &line);
    }
}

/// Whether the request of a failed attempt may have reached the far end: what decides if a repeat is safe.
fn arrived(failure: &Value) -> &'static str {
    match text(failure, "sent") {
        "no" => "nothing was sent, so repeating it is safe",
        _ => "the request may have arrived; look there before repeating it by hand",
    }
}

/// Where the time of a call went.
fn timings(timings: &Value) -> String {
    let part = |name: &str, member: &str| format!("{name} {}", micros(number(timings, member)));
    let opening = if timings["reused"] == true {
        vec!["kept connection".to_owned()]
    } else {
        vec![part("DNS", "dns_us"), part("connect", "connect_us"), part("TLS", "tls_us")]
    };
    let rest = [part("first byte", "first_byte_us"), part("body", "body_us"), part("total", "total_us")];
    opening.into_iter().chain(rest).collect::<Vec<_>>().join(" · ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_338_000);

    fn fixture(name: &str) -> Value {
        let path = format!("{}/tests/pages/{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn a_run_that_failed() {
        insta::assert_snapshot!(run(&fixture("run-failed"), NOW, Cut::First, Paint(false)));
    }

    #[test]
    fn a_run_that_waits() {
        insta::assert_snapshot!(run(&fixture("run-waiting"), NOW, Cut::First, Paint(false)));
    }

    #[test]
    fn what_comes_from_outside_cannot_steer_the_terminal() {
        let mut hostile = fixture("run-failed");
        hostile["failure"]["message"] = Value::String("\u{1b}[2Jgone".to_owned());
        hostile["labels"]["order"] = Value::String("\u{1b}]0;title\u{7}".to_owned());
        hostile["workflow"] = Value::String("\u{1b}[31m".to_owned());
        assert!(!run(&hostile, NOW, Cut::Whole, Paint(false)).contains(['\u{1b}', '\u{7}']));
    }

    #[test]
    fn what_is_kept_aside_is_named() {
        let handle = serde_json::json!({ "artifact": "art_1_a", "media_type": "application/json", "bytes": 70_000, "sha256": "0f" });
        let mut attempt = serde_json::json!({
            "attempt": 1, "output": { "status": 200, "body": handle.clone() }, "kept": ["/body"],
            "exchange": { "request": { "method": "GET", "url": "/a" }, "response": { "status": 200 } },
        });
        let page = |attempt: &Value| {
            let shown = serde_json::json!({ "id": "run_1", "tasks": [{ "id": "pull", "attempts": [attempt] }] });
            run(&shown, NOW, Cut::First, Paint(false))
        };
        let shown = page(&attempt);
        assert!(shown.contains("body is kept beside the record: 68.3 KiB, SHA-256 0f\n"), "{shown}");
        assert!(shown.contains("  clawhook runs artifact run_1 art_1_a\n") && !shown.contains("media_type"), "{shown}");
        (attempt["output"], attempt["kept"]) = (handle, serde_json::json!([""]));
        assert!(page(&attempt).contains("output is kept beside the record"), "{shown}");
    }

    #[test]
    fn long_values_are_cut_and_said_to_be() {
        assert_eq!(shortened("订单同步", 2), "订单…");
        let rows: Vec<_> = (0..100).collect();
        let page = run(&serde_json::json!({ "inputs": { "rows": rows } }), NOW, Cut::First, Paint(false));
        assert!(page.contains("… 80 lines more; `--full` shows them"), "{page}");
    }
}
