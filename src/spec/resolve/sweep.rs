//! `sweep` of a route: a schedule of its own, whose slots ask the platform what changed.

use std::sync::Arc;

use serde_json::{Value, json};

use super::desk::{Desk, below};
use super::route::made_name;
use super::schedule::{When, rule};
use super::scope::{Scope, Where};
use super::task::with_problem;
use crate::domain::duration;
use crate::domain::retry::{Backoff, RetryPolicy};
use crate::domain::schedule::{Catchup, Overlap, Schedule, State};
use crate::domain::sweep::{Distances, SUFFIX};
use crate::expr::{Expression, Mapping, Template};
use crate::id::{ConnectionName, Revision, RouteName, ScheduleName, TaskId, WorkflowName};
use crate::limits;
use crate::outbound::Redaction;
use crate::spec::raw;
use crate::spec::source_map::Path;
use crate::spec::structure::Item;
use crate::tasks::plan::{
    Condition, KindTask, Parts, Plan, PlannedTask, RoutePlan, SchedulePlan, SweepPlan, TaskList, Work,
};
use crate::tasks::sweep::{ITEM, KIND, List, Of, SWEEP, Sweep};
use crate::tasks::{self, TaskKind};

/// The task that tells people what was missing, and the one that tells them of a failure.
const TELL: &str = "tell";
const TELL_FAILURE: &str = "tell_failure";

/// Makes the schedule of a route's sweep. `None` when there is none, or when something about it or the route is wrong.
pub(in crate::spec) fn resolve_sweep(
    desk: &mut Desk<'_>,
    item: &Item<raw::Route>,
    route: Option<&RoutePlan>,
    revision: &Revision,
) -> Option<SchedulePlan> {
    let route_raw = item.raw.as_ref()?;
    let raw = route_raw.sweep.as_ref()?;
    let path = item.path.with("sweep");
    let errors = desk.errors();
    tell_key(desk, &item.path, route_raw, raw);
    let when = When {
        what: "the sweep",
        cron: raw.cron.as_deref(),
        every: raw.every.as_ref(),
        timezone: raw.timezone.as_deref(),
    };
    let rule = rule(desk, &path, when);
    let connection = connection(desk, &path.with("list"), raw);
    let list = list(desk, &path.with("list"), raw);
    let of_item = Scope::of_trigger(Where::SweepItem);
    let time = expression(desk, &path, "time", &raw.time);
    let key = raw.key.as_ref().map(|key| expression(desk, &path, "key", key));
    let own = Value::String(format!("${{{{ {ITEM} }}}}"));
    let body = desk.mapping(&path.with("body"), raw.body.as_ref().unwrap_or(&own), &of_item);
    let headers = desk.mapping(&path.with("headers"), &Value::Object(raw.headers.clone()), &of_item);
    let distances = distances(desk, &item.path, route_raw, raw);
    if let Some(channel) = &raw.alert {
        desk.channel(&path.with("alert"), channel);
    }
    let name = name(desk, &item.path, route_raw);
    if desk.errors() > errors {
        return None;
    }
    let (route_plan, (schedule_name, workflow)) = (route?, name?);
    let sweep = Sweep {
        of: Of { route: route_plan.name.clone(), terms: terms(route_raw, raw) },
        list: list?,
        time: time?,
        key: match key {
            Some(key) => Some(key?),
            None => None,
        },
        body: body?,
        headers: headers?,
        distances,
        items_max: u64::from(raw.max_items.unwrap_or(limits::SWEEP_ITEMS_DEFAULT)),
    };
    let of = sweep.of.clone();
    let plan = plan(workflow.clone(), revision, sweep, connection, raw.alert.as_deref())?;
    let schedule = Schedule {
        name: schedule_name,
        rule: rule?,
        overlap: Overlap::Skip,
        // A sweep looks at everything since the last one, so one makes up for all that were missed.
        catchup: Catchup::Latest,
        catchup_window: limits::CATCHUP_WINDOW,
        jitter: std::time::Duration::ZERO,
        state: if route_plan.enabled { State::Active } else { State::Disabled },
    };
    Some(SchedulePlan {
        schedule,
        revision: revision.clone(),
        workflow,
        inputs: Mapping::parse(&json!({})).ok()?,
        alert_if_missed: raw.alert.clone(),
        sweep: Some(SweepPlan { of, plan: Arc::new(plan) }),
        parts: Parts::from([("sweep", Revision::of(format!("{raw:?}").as_bytes()))]),
    })
}

/// The schedule and the workflow of a sweep are named after its route.
fn name(desk: &mut Desk<'_>, path: &Path, raw: &raw::Route) -> Option<(ScheduleName, WorkflowName)> {
    let route = raw.name.clone().unwrap_or_else(|| made_name(&raw.path));
    // A route whose name is wrong by itself is told already.
    RouteName::new(&route).ok()?;
    let name = format!("{route}{SUFFIX}");
    if let (Ok(schedule), Ok(workflow)) = (ScheduleName::new(&name), WorkflowName::new(&name)) {
        return Some((schedule, workflow));
    }
    let message = format!("the schedule of this sweep would be named `{name}`, which is too long");
    let problem = desk.problem("spec.name", message, desk.map.key(path, "sweep"));
    desk.push(problem.help("give the route a shorter `name`"));
    None
}

/// A sweep knows an object by what a webhook and a list both say of it.
fn tell_key(desk: &mut Desk<'_>, path: &Path, route: &raw::Route, raw: &raw::Sweep) {
    const HELP: &str = "write `dedupe: { key: \"${{ body.id }}/${{ body.updated_at }}\" }`, of members that both have";
    let key = route.dedupe.as_ref().and_then(|dedupe| dedupe.key.as_deref()).unwrap_or("delivery_id");
    let why = match key {
        "delivery_id" => "the id of a delivery, which no listed object has",
        "body" => "the bytes of a body, which a list never repeats",
        text => return tell_key_names(desk, path, text, raw),
    };
    let message = format!("a sweep cannot know what was delivered: `dedupe.key` is {why}");
    let key_path = path.with("dedupe").with("key");
    let written = route.dedupe.as_ref().is_some_and(|dedupe| dedupe.key.is_some());
    let span = if written { desk.map.value(&key_path) } else { desk.map.key(path, "sweep") };
    let problem = desk.problem("spec.sweep", message, span).label("everything would run twice");
    desk.push(problem.help(HELP));
}

/// What the key reads must be there for a listed object too.
fn tell_key_names(desk: &mut Desk<'_>, path: &Path, text: &str, raw: &raw::Sweep) {
    let Ok(template) = Template::parse(text) else { return };
    let path = path.with("dedupe").with("key");
    for name in template.names() {
        let (message, help) = match (name.path.first().map(String::as_str), name.path.get(1)) {
            (Some("query" | "delivery"), _) => (
                format!("`{}` is known of a webhook only, and the route has a sweep", name.path.join(".")),
                "read `body`, which a listed object has too".to_owned(),
            ),
            (Some("headers"), Some(header)) if !raw.headers.keys().any(|known| known.eq_ignore_ascii_case(header)) => (
                format!("a listed object has no header `{header}`, and the route has a sweep"),
                format!("say under `sweep.headers` what it would be: `{header}: …`"),
            ),
            _ => continue,
        };
        let span = desk.map.inside(&path, text, &name.range);
        let problem = desk.problem("spec.sweep", message, span).help(help);
        desk.push(problem);
    }
}

fn distances(desk: &mut Desk<'_>, path: &Path, route: &raw::Route, raw: &raw::Sweep) -> Distances {
    let here = path.with("sweep");
    let none = raw.settle.as_ref().is_some_and(|settle| settle.0 == "0s");
    let settle = raw.settle.as_ref().filter(|_| !none);
    let settle = desk.duration(&here.with("settle"), settle);
    let settle = settle.unwrap_or(if none { std::time::Duration::ZERO } else { limits::SWEEP_SETTLE });
    let lookback = desk.duration(&here.with("lookback"), raw.lookback.as_ref()).unwrap_or(limits::SWEEP_LOOKBACK);
    let window = route.dedupe.as_ref().and_then(|dedupe| dedupe.window.as_ref());
    let remembered = window.and_then(|window| duration::parse(&window.0).ok()).unwrap_or(limits::DEDUPE_WINDOW);
    if lookback + settle >= remembered {
        let (longest, window) = (duration::format(lookback + settle), duration::format(remembered));
        let message = format!("the sweep looks back `{longest}`, and deliveries are remembered for `{window}`");
        let key = if raw.lookback.is_some() { "lookback" } else { "list" };
        let problem = desk.problem("spec.sweep", message, desk.map.key(&here, key));
        desk.push(
            problem.help(
                "make `dedupe.window` longer than `lookback` and `settle` together, by the longest pause to bridge",
            ),
        );
    }
    Distances { settle, lookback, remembered }
}

fn connection(desk: &mut Desk<'_>, path: &Path, raw: &raw::Sweep) -> Option<ConnectionName> {
    let name = raw.list.connection.as_ref()?;
    let here = path.with("connection");
    if let Some(known) = desk.connections.filter(|known| !known.contains(name.as_str())) {
        let known: Vec<&str> = known.iter().map(ConnectionName::as_str).collect();
        desk.unknown("spec.unknown_connection", format!("there is no connection `{name}`"), &here, name, &known);
        return None;
    }
    desk.name(&here, ConnectionName::new(name))
}

fn list(desk: &mut Desk<'_>, path: &Path, raw: &raw::Sweep) -> Option<List> {
    let with = Value::Object(raw.list.with.clone());
    let list = match List::read(&with, raw.list.connection.is_some()) {
        Ok(list) => list,
        Err(problems) => {
            for problem in problems {
                with_problem(desk, path, &with, problem);
            }
            return None;
        }
    };
    let scope = Scope::of_trigger(Where::SweepList);
    let names = list.names();
    desk.places(path, &with, &names, &scope);
    desk.places(path, &with, &list.of_answer(), &Scope { response: true, ..scope });
    let secrets = list.secrets();
    let declared: Vec<&str> = secrets.iter().map(|(pointer, _)| pointer.as_str()).collect();
    desk.no_secrets(path, &with, &declared);
    for (pointer, reference) in &secrets {
        let (place, _) = below(path, &with, pointer);
        desk.uses_secret(&place.with("secret_ref"), reference.clone());
    }
    if !names.iter().any(|place| place.name.path.first().is_some_and(|root| root == SWEEP)) {
        let message = "the list does not look at `sweep.since`, so each sweep reads everything";
        let problem = desk.problem("spec.sweep", message, desk.map.entry(path)).warning();
        desk.push(
            problem.help(
                "ask the platform for what changed since then: `query: { updated_at_min: \"${{ sweep.since }}\" }`",
            ),
        );
    }
    Some(list)
}

/// One whole expression over `item`.
fn expression(desk: &mut Desk<'_>, path: &Path, key: &str, text: &str) -> Option<Template> {
    let here = path.with(key);
    let template = desk.template(&here, text, &Scope::of_trigger(Where::SweepItem))?;
    if template.is_constant() {
        let sentence = "this is the same for every object";
        desk.bad_value(&here, sentence, format!("write an expression, such as `{key}: ${{{{ {ITEM}.id }}}}`"));
        return None;
    }
    Some(template)
}

/// What the keys of webhooks and of listed objects are made of, and how long they are remembered.
fn terms(route: &raw::Route, raw: &raw::Sweep) -> Revision {
    Revision::of(format!("{:?}", (&route.path, &route.dedupe, &raw.key, &raw.body, &raw.headers)).as_bytes())
}

/// The workflow that a sweep is: it lists and brings in, and tells people when that found something or failed.
fn plan(
    name: WorkflowName,
    revision: &Revision,
    sweep: Sweep,
    connection: Option<ConnectionName>,
    alert: Option<&str>,
) -> Option<Plan> {
    let route = sweep.of.route.clone();
    let retry = RetryPolicy {
        retries: limits::SWEEP_RETRIES,
        delay: limits::SWEEP_RETRY_DELAY,
        backoff: Backoff::Exponential,
        ..RetryPolicy::default()
    };
    let sweep = KindTask { connection, retry, ..work(&KIND, Box::new(sweep)) };
    let mut all = vec![task(KIND.name, None, sweep)?];
    let mut on_failure = TaskList::default();
    if let Some(channel) = alert {
        let found = json!({
            "channel": channel,
            "level": "warning",
            "title": format!("{route}: ${{{{ tasks.sweep.missing }}}} webhooks never came"),
            "text": format!(
                "对账补回 / swept in: ${{{{ tasks.sweep.missing }}}} of ${{{{ tasks.sweep.listed }}}}, \
                 ${{{{ tasks.sweep.since }}}} … ${{{{ tasks.sweep.until }}}}\n\n`clawhook runs list --trigger sweep --source {route}`"
            ),
        });
        let missing = Expression::parse("tasks.sweep.missing > 0").ok()?;
        all.push(task(TELL, Some(Condition { expression: missing, of_item: false }), notify(&found)?)?);
        let failed = json!({
            "channel": channel,
            "title": format!("{route}: the sweep failed"),
            "text": "对账失败 / ${{ failure.message }}",
        });
        on_failure = TaskList::in_order(vec![task(TELL_FAILURE, None, notify(&failed)?)?]);
    }
    Some(Plan {
        name,
        revision: revision.clone(),
        description: None,
        labels: Vec::new(),
        inputs: Vec::new(),
        concurrency: None,
        timeout: limits::SWEEP_TIMEOUT,
        tasks: TaskList::in_order(all),
        on_failure,
        on_success: TaskList::default(),
        finally: TaskList::default(),
        callback: None,
        outputs: vec![("sweep".to_owned(), Mapping::parse(&json!("${{ tasks.sweep }}")).ok()?)],
    })
}

fn notify(with: &Value) -> Option<KindTask> {
    let kind = tasks::kind("notify")?;
    Some(work(kind, (kind.parse)(with, false).ok()?))
}

fn work(kind: &'static TaskKind, task: Box<dyn tasks::Task>) -> KindTask {
    KindTask {
        kind,
        task,
        connection: None,
        retry: RetryPolicy::default(),
        timeout: limits::TASK_TIMEOUT,
        poll: None,
        redact: Redaction::default(),
    }
}

fn task(id: &str, condition: Option<Condition>, work: KindTask) -> Option<PlannedTask> {
    let id = TaskId::new(id).ok()?;
    Some(PlannedTask { id, condition, each: None, continue_on_error: false, work: Work::Task(Box::new(work)) })
}
