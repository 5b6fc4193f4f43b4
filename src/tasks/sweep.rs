//! A sweep: asks a platform what changed lately, and brings in what no webhook brought.
//!
//! Nobody writes it in a workflow: `sweep` of a route makes a schedule whose runs do this one task. Each page is an attempt
//! of its own, and its objects are accepted before the next page is asked for, so a sweep holds one page in memory, and
//! one that is cut off goes on at its page. The accept is that of webhooks, under the same keys: what came meanwhile is
//! known, and what comes later is a duplicate.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use schemars::Schema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::http::{Answer, Call, Page, Paginate, Position, Turned, masked, next_page, send};
use super::{Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem, names_of, printed};
use crate::clock::Timestamp;
use crate::domain::attempt::Exchange;
use crate::domain::failure::{Failure, Fault};
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::domain::sweep::{Age, Distances, Tally, Window};
use crate::expr::{Context, Mapping, Place, Template};
use crate::id::{Revision, RouteName, RunId};
use crate::outbound::Response;

/// Not in the table of kinds: nobody writes it in a workflow.
pub static KIND: TaskKind = TaskKind {
    name: "sweep",
    summary: "Asks a platform what changed lately, and brings in what no webhook brought.",
    connects: true,
    failures: &["sweep", "http", "connection", "token", "rate", "secret"],
    schema: Schema::default,
    parse: |_, _| Err(Vec::new()),
};

/// The name under which expressions see the time that is looked at: `since` and `until`.
pub const SWEEP: &str = "sweep";
/// The name under which expressions see one listed object.
pub const ITEM: &str = "item";

/// The door for what did not come by itself.
#[async_trait]
pub trait Entrance: Send + Sync + fmt::Debug {
    /// What a sweep that begins now looks at.
    async fn begin(&self, sweep: &Of, distances: Distances) -> Result<Window, Failure>;

    /// Takes listed objects in as if their webhooks had come. When this returns `Ok`, the runs of those that were missing
    /// are on disk.
    async fn enter(&self, sweep: &Of, by: RunId, objects: Vec<Object>) -> Result<Tally, Failure>;

    /// Tells what was found. After a `whole` sweep the next one begins where it ended.
    async fn end(&self, sweep: &Of, by: RunId, window: &Window, tally: &Tally, whole: bool) -> Result<(), Failure>;
}

/// Whose sweep it is.
#[derive(Debug, Clone)]
pub struct Of {
    pub route: RouteName,
    /// What keys are made of; see [`crate::domain::sweep::Mark`].
    pub terms: Revision,
}

/// A listed object in the form of a delivery.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its key by `sweep.key`, when that is set.
    pub key: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// The call that lists, read from its settings.
#[derive(Debug)]
pub struct List {
    call: Call,
    answer: Answer,
    paginate: Paginate,
}

impl List {
    /// Reads `sweep.list`, which fits the schema of `http_request` already.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(with: &Value, connected: bool) -> Result<Self, Vec<WithProblem>> {
        let call = Call::read(with, connected);
        let paginate = call.as_ref().map_or(Ok(None), |call| Paginate::read(with, call.method()));
        match (call, Answer::read(with), paginate) {
            (Ok(call), Ok(answer), Ok(Some(paginate))) => Ok(Self { call, answer, paginate }),
            (Ok(_), Ok(_), Ok(None)) => {
                let problem = WithProblem::new("", "a list is read page after page, and here is no `paginate`");
                Err(vec![problem.help("add `paginate: { style: link, items: \"${{ response.body.orders }}\" }`")])
            }
            (call, answer, paginate) => {
                Err([call.err(), answer.err(), paginate.err()].into_iter().flatten().flatten().collect())
            }
        }
    }

    /// What its expressions look up, the answer left out.
    pub fn names(&self) -> Vec<Place> {
        [self.call.names(), self.answer.names(), self.paginate.names()].concat()
    }

    /// What its expressions look up in the answer.
    pub fn of_answer(&self) -> Vec<Place> {
        [self.answer.of_answer(), self.paginate.of_answer()].concat()
    }

    /// The secrets that it names, and where.
    pub fn secrets(&self) -> Vec<(String, SecretRef)> {
        self.call.secrets()
    }
}

/// A sweep, made ready to run.
#[derive(Debug)]
pub struct Sweep {
    pub of: Of,
    pub list: List,
    /// When an object became what it is.
    pub time: Template,
    /// The key of an object; what `dedupe.key` makes of its body when absent.
    pub key: Option<Template>,
    /// The body that its webhook would have.
    pub body: Mapping,
    /// The headers that its webhook would have.
    pub headers: Mapping,
    pub distances: Distances,
    /// Objects that one sweep looks at.
    pub items_max: u64,
}

/// Where a sweep stands between two pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stand {
    window: Window,
    position: Position,
    tally: Tally,
}

#[async_trait]
impl Task for Sweep {
    fn effect(&self) -> Effect {
        // It reads; and what it accepts, it accepts once.
        Effect::Call { repeatable: true }
    }

    fn names(&self) -> Vec<Place> {
        let key = self.key.iter().flat_map(Template::names);
        let key = key.map(|name| Place { pointer: "/key".to_owned(), name });
        [self.list.names(), names_of("/body", &self.body), names_of("/headers", &self.headers), key.collect()].concat()
    }

    fn secrets(&self) -> Vec<(String, SecretRef)> {
        self.list.secrets()
    }

    fn of_answer(&self) -> Vec<Place> {
        self.list.of_answer()
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let Some(entrance) = ctx.runs.entrance() else {
            let failure =
                Failure::new("sweep.changed", Fault::Here, "this gateway has no door to bring deliveries in by");
            return Err(failure.help("sweeps run in `clawhook serve`")).into();
        };
        let known = ctx.checkpoint.and_then(|left| serde_json::from_value::<Stand>(left.clone()).ok());
        let stand = match known {
            Some(stand) => stand,
            None => match entrance.begin(&self.of, self.distances).await {
                Ok(window) => Stand { window, position: self.list.paginate.first_page(), tally: Tally::default() },
                Err(failure) => return Err(failure).into(),
            },
        };
        if stand.window.is_empty() {
            let told = entrance.end(&self.of, ctx.run, &stand.window, &stand.tally, true).await;
            return told.map(|()| Done::Output(output(&stand))).into();
        }
        let seen = json!({ "since": stand.window.since.to_string(), "until": stand.window.until.to_string() });
        let values = ctx.values.clone().with(SWEEP, seen);
        let ctx = TaskContext { values: &values, ..*ctx };
        let (turned, exchange) = match self.ask(&ctx, &stand).await {
            Ok(answered) => answered,
            Err(attempted) => return keep(*attempted, &stand),
        };
        let (result, left) = match self.take_in(&ctx, entrance.as_ref(), stand.clone(), turned).await {
            Ok((done, left)) => (Ok(done), left),
            Err(failure) => (Err(failure), stand),
        };
        keep(Attempted { result, exchange, checkpoint: None }, &left)
    }
}

impl Sweep {
    /// Asks for the page where the sweep stands; or answers with how the attempt ended without one.
    async fn ask(
        &self,
        ctx: &TaskContext<'_>,
        stand: &Stand,
    ) -> Result<(Turned, Option<Box<Exchange>>), Box<Attempted>> {
        let list = &self.list;
        let mut masker = Masker::over(ctx.client.known(ctx.secrets));
        let mut request = match list.call.request(ctx, &mut masker).await {
            Ok(request) => request,
            Err(failure) => return Err(Box::new(Err(masked(failure, &masker)).into())),
        };
        let (method, called) = (request.method.clone(), request.url.clone());
        stand.position.apply(&mut request);
        let mut turned = None;
        let judge = |response: &Response, masker: &Masker| {
            let output = list.answer.judge(ctx, &method, response, masker)?;
            let page = Page { response, output: &output, masker, called: &called, ctx };
            let before = usize::try_from(stand.tally.listed).unwrap_or(usize::MAX);
            turned = Some(list.paginate.turn(&stand.position, &page, before)?);
            Ok(Done::Output(Value::Null))
        };
        let mut attempted = send(ctx, request, &mut masker, judge).await;
        // The route's `redact` promises that nothing of an object is kept but what it leaves; the list knows no such rule.
        let response = attempted.exchange.as_mut().and_then(|exchange| exchange.response.as_mut());
        if let Some(response) = response.filter(|response| response.status < 300) {
            response.body = None;
        }
        match (turned, &attempted.result) {
            (Some(turned), Ok(Done::Output(_))) => Ok((turned, attempted.exchange)),
            _ => Err(Box::new(attempted)),
        }
    }

    /// Brings a page in; the sweep is over with it, or goes on at the next one.
    async fn take_in(
        &self,
        ctx: &TaskContext<'_>,
        entrance: &dyn Entrance,
        stand: Stand,
        turned: Turned,
    ) -> Result<(Done, Stand), Failure> {
        let Stand { window, position, mut tally } = stand;
        let objects = turned.items.into_iter().filter_map(|item| self.object(ctx.values, item, &window, &mut tally));
        let objects: Vec<_> = objects.collect();
        let entered = entrance.enter(&self.of, ctx.run, objects).await?;
        tally.add(entered);
        let stand = |position| Stand { window, position, tally: tally.clone() };
        let next = self.list.paginate.position_of(&position, turned.next);
        let next = match next {
            Ok(Some(_)) if tally.listed >= self.items_max => Err(too_many(tally.listed)),
            next => next,
        };
        let over = match next {
            Ok(Some(next)) => {
                let pages = next.pages();
                return Ok((next_page(ctx, pages), stand(next)));
            }
            Ok(None) if tally.refused > 0 => Err(refused(&tally)),
            Ok(None) => Ok(()),
            Err(failure) => Err(failure),
        };
        entrance.end(&self.of, ctx.run, &window, &tally, over.is_ok()).await?;
        over.map(|()| {
            let stand = stand(position);
            (Done::Output(output(&stand)), stand)
        })
    }

    /// A listed object in the form of a delivery, when it is to be held against those that came.
    fn object(&self, values: &Context, item: Value, window: &Window, tally: &mut Tally) -> Option<Object> {
        tally.listed += 1;
        let number = tally.listed;
        let values = values.clone().with(ITEM, item);
        match self.made_of(&values, window) {
            Ok((Age::Due, object)) => return object,
            Ok((Age::Young, _)) => tally.young += 1,
            Ok((Age::Old, _)) => tally.old += 1,
            Err(why) => tally.refuse(format!("object {number}: {why}")),
        }
        None
    }

    fn made_of(&self, values: &Context, window: &Window) -> Result<(Age, Option<Object>), String> {
        let time = self.time.eval(values).map_err(|error| format!("`time` failed: {error}"))?;
        let at = moment(&time).ok_or_else(|| format!("`time` gave `{}`, which is no time", printed(&time)))?;
        let age = window.place(at);
        if age != Age::Due {
            return Ok((age, None));
        }
        let key = match &self.key {
            None => None,
            Some(key) => match printed(&key.eval(values).map_err(|error| format!("`key` failed: {error}"))?) {
                key if key.is_empty() => return Err("`key` gave nothing".to_owned()),
                key => Some(key),
            },
        };
        let body = self.body.eval(values).map_err(|error| format!("`body` failed: {error}"))?;
        let headers = self.headers.eval(values).map_err(|error| format!("`headers` failed: {error}"))?;
        let headers = headers.as_object().into_iter().flatten();
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), printed(value))).collect();
        Ok((age, Some(Object { key, headers, body: body.to_string().into() })))
    }
}

/// RFC 3339 with a zone, or milliseconds since the Unix epoch.
fn moment(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => Timestamp::parse_rfc3339(text),
        Value::Number(number) => number.as_i64().map(Timestamp::from_millis),
        _ => None,
    }
}

/// Keeps where the sweep stands: a page that failed is asked for again.
fn keep(mut attempted: Attempted, stand: &Stand) -> Attempted {
    attempted.checkpoint = match attempted.result {
        Ok(Done::Output(_)) => None,
        Ok(Done::Later { .. }) | Err(_) => serde_json::to_value(stand).ok(),
    };
    attempted
}

fn output(stand: &Stand) -> Value {
    let Stand { window, tally, .. } = stand;
    json!({
        "since": window.since.to_string(),
        "until": window.until.to_string(),
        "listed": tally.listed,
        "missing": tally.missing,
        "known": tally.known,
        "filtered": tally.filtered,
        "young": tally.young,
        "old": tally.old,
    })
}

fn too_many(listed: u64) -> Failure {
    Failure::new("sweep.too_many", Fault::Config, format!("the list goes on after {listed} objects"))
        .help("let the list begin at `sweep.since`, sweep more often, or raise `max_items`; the next sweep begins where this one did")
}

fn refused(tally: &Tally) -> Failure {
    let why = tally.first_refused.as_deref().unwrap_or("an object cannot be read");
    let message = format!("{} of {} objects could not be compared: {why}", tally.refused, tally.listed);
    Failure::new("sweep.item", Fault::Config, message)
        .help("mend `time`, `key`, `body` or `dedupe.key`; all others were brought in, and the next sweep begins where this one did")
}

/// The door that an engine was given.
pub type SharedEntrance = Arc<dyn Entrance>;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(with: &Value, expected: &[&str]) {
        let problems = List::read(with, true).err().unwrap_or_default();
        let told: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_list_has_pages() {
        let items = "${{ response.body.orders }}";
        check(&json!({"path": "/orders", "paginate": {"style": "link", "items": items}}), &[]);
        check(&json!({"path": "/orders"}), &[": a list is read page after page, and here is no `paginate`"]);
        check(
            &json!({"path": "/orders", "paginate": {"style": "cursor", "items": items}}),
            &["/paginate: `style: cursor` wants `next`"],
        );
    }

    #[test]
    fn times_are_texts_with_a_zone_or_milliseconds() {
        let at = Some(Timestamp::from_millis(1_795_338_000_000));
        for (value, expected) in [
            (json!("2026-11-22T17:00:00+08:00"), at),
            (json!(1_795_338_000_000_i64), at),
            (json!("2026-11-22T17:00:00"), None),
            (json!(null), None),
        ] {
            assert_eq!(moment(&value), expected, "{value}");
        }
    }
}
