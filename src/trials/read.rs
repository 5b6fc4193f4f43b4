//! Tests as people write them into scripts that can be played; everything that is wrong is told at its place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path as FilePath, PathBuf};

use serde::Deserialize as _;
use serde_json::Value;

use super::call::{Likeness, Pattern};
use super::exchange::{Answer, Exchange, Unfit, stays_inside};
use super::play::{Decision, Script, Start};
use super::stage::{Fault, Mishap, Props};
use crate::clock::Timestamp;
use crate::domain::approval::Verdict;
use crate::domain::step::StepId;
use crate::id::{ConnectionName, RouteName, ScheduleName, WorkflowName};
use crate::spec::diagnostic::Problem;
use crate::spec::raw;
use crate::spec::source_map::{Path, SourceMap};
use crate::spec::structure::{Item, TrialsFile};
use crate::spec::{Desk, SourceFile, reader, yaml};
use crate::tasks::plan::Catalog;

/// Where the clock of a test begins that says nothing about it: 1 January 2026, 09:00 UTC.
const CLOCK: Timestamp = Timestamp::from_secs(1_767_258_000);

/// A file of tests, ready to be played.
#[derive(Debug)]
pub struct TrialFile {
    /// The name that reports call it by.
    pub name: String,
    pub(super) map: SourceMap,
    pub(super) cases: Vec<Case>,
}

/// One test, ready to be played.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) path: Path,
    pub(super) raw: raw::Trial,
    pub(super) script: Script,
}

impl TrialFile {
    /// The names of its tests, in order.
    pub fn tests(&self) -> impl Iterator<Item = &str> {
        self.cases.iter().map(|case| case.raw.name.as_str())
    }
}

/// Reads files of tests, held against the workflows, routes and schedules that they are about. `base` is what the names
/// of the files begin from.
pub(super) fn read(
    files: &[SourceFile],
    base: &FilePath,
    around: &Around<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<TrialFile> {
    let mut known = Known { base, fixtures: HashMap::new() };
    files.iter().filter_map(|file| read_one(file, &mut known, around, problems)).collect()
}

/// What tests are held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) connections: &'a BTreeSet<ConnectionName>,
}

/// Files of fixtures, each read once.
struct Known<'a> {
    base: &'a FilePath,
    fixtures: HashMap<PathBuf, Option<Vec<Exchange>>>,
}

fn read_one(
    file: &SourceFile,
    known: &mut Known<'_>,
    around: &Around<'_>,
    problems: &mut Vec<Problem>,
) -> Option<TrialFile> {
    let source = yaml::decode(&file.name, &file.bytes).map_err(|problem| problems.push(*problem)).ok()?;
    let TrialsFile { map, head, tests } = reader().trials(&source, problems)?;
    let mut secrets = Vec::new();
    let folder = known.base.join(&file.name).parent().map(FilePath::to_owned).unwrap_or_default();
    let mut table =
        Table { desk: Desk::bare(&map, problems, &mut secrets), around: *around, folder, tasks: BTreeSet::new() };
    let head = head?;
    let workflow = table.workflow(&head.workflow)?;
    let clock = table.moment(&Path::root().with("clock"), head.clock.as_deref());
    let shared = table.fixtures(&Path::root().with("fixtures"), &head.fixtures, known);
    let mut names = BTreeMap::new();
    let cases: Vec<_> = tests
        .into_iter()
        .filter_map(|item| {
            if let Some(name) = item.text("name")
                && let Some(first) = names.insert(name.to_owned(), item.path.clone())
            {
                table.twice(&item.path.with("name"), &first.with("name"), name);
            }
            table.case(item, &workflow, clock, &shared, known)
        })
        .collect();
    Some(TrialFile { name: file.name.clone(), map, cases })
}

/// One file of tests on the table.
struct Table<'a> {
    desk: Desk<'a>,
    around: Around<'a>,
    folder: PathBuf,
    /// The tasks that the tests may name.
    tasks: BTreeSet<String>,
}

impl Table<'_> {
    fn workflow(&mut self, name: &str) -> Option<WorkflowName> {
        let path = Path::root().with("workflow");
        let workflows = &self.around.catalog.workflows;
        let found = WorkflowName::new(name).ok().filter(|name| workflows.contains_key(name));
        let Some(name) = found else {
            let names: Vec<&str> = workflows.keys().map(WorkflowName::as_str).collect();
            self.desk.unknown("spec.unknown_workflow", format!("there is no workflow `{name}`"), &path, name, &names);
            return None;
        };
        let plan = &workflows[&name];
        let others = plan.all_tasks().any(|task| task.type_name() == "workflow");
        let plans = workflows.values().filter(|other| others || other.name == name);
        self.tasks = plans.flat_map(|plan| plan.all_tasks()).map(|task| task.id.to_string()).collect();
        Some(name)
    }

    fn twice(&mut self, path: &Path, first: &Path, name: &str) {
        let first = self.desk.map.value(first);
        let problem = self.desk.at("spec.duplicate_name", format!("two tests are called `{name}`"), path);
        self.desk.push(problem.label("second time").related(first, "first time").help("give one another name"));
    }

    fn moment(&mut self, path: &Path, text: Option<&str>) -> Option<Timestamp> {
        let at = Timestamp::parse_rfc3339(text?);
        if at.is_none() {
            let sentence = format!("`{}` is not a time with a zone", text.unwrap_or_default());
            self.desk.bad_value(path, &sentence, "write it like `2026-11-01T08:00:00+08:00`");
        }
        at
    }

    fn case(
        &mut self,
        item: Item<raw::Trial>,
        workflow: &WorkflowName,
        clock: Option<Timestamp>,
        shared: &[Exchange],
        known: &mut Known<'_>,
    ) -> Option<Case> {
        let errors = self.desk.errors();
        let (path, raw) = (item.path, item.raw?);
        let clock = self.moment(&path.with("clock"), raw.clock.as_deref()).or(clock).unwrap_or(CLOCK);
        let start = self.start(&path, &raw, workflow, clock);
        let mut exchanges = self.fixtures(&path.with("fixtures"), &raw.fixtures, known);
        exchanges.extend(shared.iter().cloned());
        let faults = raw.faults.iter().enumerate();
        let faults = faults.filter_map(|(place, raw)| self.fault(&path.with("faults").with(place), raw)).collect();
        let decisions = raw.decide.iter().enumerate();
        let decisions = decisions.map(|(place, raw)| self.decision(&path.with("decide").with(place), raw)).collect();
        self.keys(&path.with("stub"), raw.stub.keys());
        self.expect(&path.with("expect"), &raw.expect);
        let script = Script {
            workflow: workflow.clone(),
            clock,
            start: start?,
            state: raw.state.clone(),
            props: Props {
                exchanges,
                faults,
                stubs: raw.stub.iter().map(|(task, output)| (task.clone(), output.clone())).collect(),
            },
            decisions,
            until_it_waits: raw.expect.run == Some(raw::ExpectRun::Waiting),
        };
        (self.desk.errors() == errors).then_some(Case { path, raw, script })
    }

    fn start(&mut self, path: &Path, raw: &raw::Trial, workflow: &WorkflowName, clock: Timestamp) -> Option<Start> {
        let given =
            [("inputs", raw.inputs.is_some()), ("delivery", raw.delivery.is_some()), ("slot", raw.slot.is_some())];
        let mut given = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key);
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            let span = self.desk.map.key(path, second);
            let message = format!("a test begins once, and here are `{first}` and `{second}`");
            let problem = self.desk.problem("spec.value", message, span);
            self.desk.push(problem.help(format!("remove `{second}`, or make two tests of it")));
            return None;
        }
        if let Some(delivery) = &raw.delivery {
            return self.delivery(&path.with("delivery"), delivery, workflow);
        }
        if let Some(slot) = &raw.slot {
            return self.slot(&path.with("slot"), slot, workflow, clock);
        }
        Some(Start::Inputs(raw.inputs.clone().unwrap_or_default()))
    }

    fn delivery(&mut self, path: &Path, raw: &raw::TrialDelivery, workflow: &WorkflowName) -> Option<Start> {
        let routes = &self.around.catalog.routes;
        let route = RouteName::new(&raw.route).ok().and_then(|name| routes.get(&name));
        let Some(route) = route else {
            let names: Vec<&str> = routes.keys().map(RouteName::as_str).collect();
            let message = format!("there is no route `{}`", raw.route);
            self.desk.unknown("trial.unknown", message, &path.with("route"), &raw.route, &names);
            return None;
        };
        if route.workflow != *workflow {
            let message = format!("the route `{}` starts `{}`", raw.route, route.workflow);
            let problem = self.desk.at("trial.unknown", message, &path.with("route"));
            self.desk.push(problem.help(format!("name a route that starts `{workflow}`")));
            return None;
        }
        let answer = raw::FixtureRespond {
            headers: raw.headers.clone(),
            json: raw.json.clone(),
            text: raw.text.clone(),
            body_file: raw.body_file.clone(),
            ..raw::FixtureRespond::default()
        };
        let answer = self.answer(path, &answer)?;
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Some(Start::Delivery {
            path: route.path.clone(),
            headers: answer.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            query: raw.query.clone().unwrap_or_default(),
            body: answer.body,
        })
    }

    fn slot(&mut self, path: &Path, raw: &raw::TrialSlot, workflow: &WorkflowName, clock: Timestamp) -> Option<Start> {
        let schedules = &self.around.catalog.schedules;
        let found =
            ScheduleName::new(&raw.schedule).ok().and_then(|name| schedules.get(&name).map(|plan| (name, plan)));
        let Some((schedule, plan)) = found else {
            let names: Vec<&str> = schedules.keys().map(ScheduleName::as_str).collect();
            let message = format!("there is no schedule `{}`", raw.schedule);
            self.desk.unknown("trial.unknown", message, &path.with("schedule"), &raw.schedule, &names);
            return None;
        };
        if plan.workflow != *workflow {
            let message = format!("the schedule `{schedule}` starts `{}`", plan.workflow);
            let problem = self.desk.at("trial.unknown", message, &path.with("schedule"));
            self.desk.push(problem.help(format!("name a schedule that starts `{workflow}`")));
            return None;
        }
        let given = self.moment(&path.with("due"), raw.due.as_deref());
        let due = given.unwrap_or(clock);
        let rule = &plan.schedule.rule;
        let next = rule.next_after(due.minus(std::time::Duration::from_millis(1))).map(|slot| slot.due);
        if next != Some(due) {
            let place = if raw.due.is_some() { path.with("due") } else { path.with("schedule") };
            let problem = self.desk.at("trial.unknown", format!("`{schedule}` has no slot at {due}"), &place);
            let help = next
                .map_or("the schedule has no slot after it".to_owned(), |next| format!("the next is `due: {next}`"));
            self.desk.push(problem.help(help));
            return None;
        }
        Some(Start::Slot { schedule, due })
    }

    fn fixtures(&mut self, path: &Path, raw: &raw::FixtureList, known: &mut Known<'_>) -> Vec<Exchange> {
        let mut exchanges = Vec::new();
        let alone = self.desk.map.value(path) == self.desk.map.value(&path.with(0));
        for (place, value) in raw.0.iter().enumerate() {
            let here = if alone { path.clone() } else { path.with(place) };
            if let Value::String(name) = value {
                exchanges.extend(self.file(&here, name, known));
            } else if let Ok(raw) = raw::Exchange::deserialize(value) {
                let (line, _) = self.desk.map.source().position(self.desk.map.entry(&here).start);
                let name = self.desk.map.source().name().to_owned();
                exchanges.extend(self.exchange(&here, &raw, format!("{name}:{line}")));
            }
        }
        exchanges
    }

    /// The exchanges of a file of fixtures.
    fn file(&mut self, path: &Path, name: &str, known: &mut Known<'_>) -> Vec<Exchange> {
        let file = self.folder.join(name);
        if let Some(there) = known.fixtures.get(&file) {
            return there.clone().unwrap_or_default();
        }
        let source = if stays_inside(name) {
            SourceFile::read(&file, known.base).map_err(|error| format!("`{name}` cannot be read: {error}"))
        } else {
            Err(format!("`{name}` leads out of the folder"))
        };
        let source = match source {
            Ok(source) => source,
            Err(message) => {
                let help = "name a file beside this one, such as `fixtures/orders.yaml`; `clawhook record` makes one";
                let problem = self.desk.at("trial.fixture", message, path).help(help);
                self.desk.push(problem);
                known.fixtures.insert(file, None);
                return Vec::new();
            }
        };
        let read = self.read_file(&source, &file);
        known.fixtures.insert(file, Some(read.clone()));
        read
    }

    fn read_file(&mut self, file: &SourceFile, path: &FilePath) -> Vec<Exchange> {
        let decoded = yaml::decode(&file.name, &file.bytes).map_err(|problem| self.desk.push(*problem)).ok();
        let read = decoded.and_then(|source| reader().fixtures(&source, self.desk.problems));
        let Some(read) = read else { return Vec::new() };
        let mut secrets = Vec::new();
        let mut table = Table {
            desk: Desk::bare(&read.map, self.desk.problems, &mut secrets),
            around: self.around,
            folder: path.parent().map(FilePath::to_owned).unwrap_or_default(),
            tasks: BTreeSet::new(),
        };
        let exchange = |item: &Item<raw::Exchange>| {
            let (line, _) = read.map.source().position(read.map.entry(&item.path).start);
            table.exchange(&item.path, item.raw.as_ref()?, format!("{}:{line}", file.name))
        };
        read.exchanges.iter().filter_map(exchange).collect()
    }

    fn exchange(&mut self, path: &Path, raw: &raw::Exchange, place: String) -> Option<Exchange> {
        let pattern = self.pattern(&path.with("request"), &raw.request);
        let answer = self.answer(&path.with("respond"), &raw.respond);
        let like = Likeness {
            json: raw.json.clone(),
            contains: raw.contains.clone(),
            headers: raw.headers.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect(),
        };
        let times = raw.times.unwrap_or(raw::Times::Count(1));
        Some(Exchange { pattern: pattern?, like, answer: answer?, times, place })
    }

    fn answer(&mut self, path: &Path, raw: &raw::FixtureRespond) -> Option<Answer> {
        let read = Answer::read(raw, &self.folder);
        read.map_err(|unfit| self.unfit(path, unfit)).ok()
    }

    fn unfit(&mut self, path: &Path, Unfit { key, message, help }: Unfit) {
        let problem = self.desk.at("trial.fixture", message, &path.with(key)).help(help);
        self.desk.push(problem);
    }

    fn pattern(&mut self, path: &Path, raw: &raw::CallText) -> Option<Pattern> {
        let pattern = match Pattern::parse(raw) {
            Ok(pattern) => pattern,
            Err(unreadable) => {
                let problem = self.desk.at("spec.value", unreadable.message, path).help(unreadable.help);
                self.desk.push(problem);
                return None;
            }
        };
        if let Some(name) = pattern.connection().filter(|name| !self.around.connections.contains(*name)) {
            let names: Vec<&str> = self.around.connections.iter().map(ConnectionName::as_str).collect();
            let message = format!("there is no connection `{name}`");
            self.desk.unknown("spec.unknown_connection", message, path, name.as_str(), &names);
            return None;
        }
        Some(pattern)
    }

    fn fault(&mut self, path: &Path, raw: &raw::TrialFault) -> Option<Fault> {
        self.task(&path.with("task"), &raw.task);
        let what = match &raw.respond {
            raw::FaultText::Named(name) => Mishap::Named(*name),
            raw::FaultText::Status(status) => Mishap::Answer(Answer::of_status(*status)),
            raw::FaultText::Answer(answer) => Mishap::Answer(self.answer(&path.with("respond"), answer)?),
        };
        let times = raw.times.unwrap_or(raw::Times::Count(1));
        Some(Fault { task: raw.task.clone(), attempt: raw.attempt.unwrap_or(1), times, what })
    }

    fn decision(&mut self, path: &Path, raw: &raw::TrialDecision) -> Decision {
        self.task(&path.with("task"), &raw.task);
        Decision {
            task: raw.task.clone(),
            by: raw.by.clone().unwrap_or_else(|| "tester".to_owned()),
            verdict: match raw.decision {
                raw::DecisionText::Approve => Verdict::Approve,
                raw::DecisionText::Reject => Verdict::Reject,
            },
            form: raw.form.clone(),
            comment: raw.comment.clone(),
            after: self.desk.duration(&path.with("after"), raw.after.as_ref()).unwrap_or_default(),
        }
    }

    /// Tasks that are the keys of the map at `path` must be there.
    fn keys<'k>(&mut self, path: &Path, tasks: impl Iterator<Item = &'k String>) {
        for text in tasks {
            let task = text.parse::<StepId>().map_or_else(|_| text.clone(), |step| step.task().to_string());
            if self.tasks.contains(&task) {
                continue;
            }
            let span = self.desk.map.key(path, text);
            let names: Vec<String> = self.tasks.iter().map(|task| format!("`{task}`")).collect();
            let problem = self.desk.problem("trial.unknown", format!("there is no task `{task}`"), span);
            self.desk.push(problem.help(format!("the tasks are {}", names.join(", "))));
        }
    }

    /// A task that is named at `path` must be there.
    fn task(&mut self, path: &Path, text: &str) {
        let task = text.parse::<StepId>().map(|step| step.task().to_string());
        match task {
            Ok(task) if self.tasks.contains(&task) => {}
            Ok(task) => {
                let names: Vec<String> = self.tasks.iter().cloned().collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                self.desk.unknown("trial.unknown", format!("there is no task `{task}`"), path, &task, &names);
            }
            Err(error) => {
                let problem = self.desk.at("trial.unknown", error.to_string(), path);
                self.desk.push(problem.help("write the task's id, or an item of a loop as `returns[3]/refund`"));
            }
        }
    }

    fn expect(&mut self, path: &Path, raw: &raw::Expect) {
        self.keys(&path.with("attempts"), raw.attempts.keys());
        self.keys(&path.with("tasks"), raw.tasks.keys());
        if let Some(task) = raw.failure.as_ref().and_then(|failure| failure.task.as_ref()) {
            self.task(&path.with("failure").with("task"), task);
        }
        for (place, text) in raw.order.iter().enumerate() {
            let here = path.with("order").with(place);
            if text.contains(' ') {
                self.pattern(&here, &raw::CallText(text.clone()));
            } else {
                self.task(&here, text);
            }
        }
        let Some(calls) = &raw.calls else { return };
        let path = path.with("calls");
        for text in calls.count.keys() {
            if let Err(unreadable) = Pattern::parse(&raw::CallText(text.clone())) {
                let span = self.desk.map.key(&path.with("count"), text);
                let problem = self.desk.problem("spec.value", unreadable.message, span).help(unreadable.help);
                self.desk.push(problem);
            }
        }
        for (place, text) in calls.none_to.iter().enumerate() {
            self.pattern(&path.with("none_to").with(place), text);
        }
        for (place, call) in calls.to.iter().enumerate() {
            self.pattern(&path.with("to").with(place).with("request"), &call.request);
        }
    }
}
