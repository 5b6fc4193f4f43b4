//! Fills a store with runs that have ended, through the same two writes that a gateway uses.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clawhook::clock::{Clock, SystemClock, Timestamp};
use clawhook::domain::attempt::{AttemptEnded, AttemptResult};
use clawhook::domain::delivery::{Delivery, DeliveryKey, RouteRef};
use clawhook::domain::event::{Accepted, Entry, Event, Finished, Prepared};
use clawhook::domain::failure::{Class, Failure, Fault};
use clawhook::domain::run::Run;
use clawhook::domain::step::StepId;
use clawhook::domain::trigger::Trigger;
use clawhook::id::{AttemptNumber, Revision, RouteName, RunId, Seq, TaskId, WorkflowName};
use clawhook::store::sqlite::Sqlite;
use clawhook::store::{Acceptance, Append, NewRun, Receipt, Store};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Map, Value, json};

use crate::Result;

/// The cause of every failed run.
pub(crate) const CAUSE: &str = "http_status/erp/503";
/// One run in this many failed; no multiple of the number of workflows, so that each has some.
const FAILED_EVERY: usize = 21;
const WORKFLOWS: usize = 10;
/// Writes in flight at one time: what a group commit takes.
const WRITES: usize = 512;

/// Writes this many ended runs into the store at `path`.
pub(crate) async fn fill(path: &Path, runs: usize) -> Result<()> {
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(path)?);
    stream::iter(0..runs)
        .map(|number| {
            let store = Arc::clone(&store);
            async move { one(&*store, number).await }
        })
        .buffer_unordered(WRITES)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    store.close().await;
    Ok(())
}

async fn one(store: &dyn Store, number: usize) -> Result<()> {
    let at = SystemClock.now();
    let accepted = accepted(number)?;
    let body = Bytes::from(format!(r##"{{"id":{number},"name":"#{number}"}}"##));
    let acceptance = Acceptance {
        key: DeliveryKey::of_delivery("/hooks/fill", number.to_string().as_bytes()),
        window: Duration::from_hours(72),
        replay_guard: None,
        at,
        runs: vec![NewRun { accepted: accepted.clone(), body: body.clone() }],
    };
    let run = match store.accept(acceptance).await? {
        Receipt::New(runs) => runs.into_iter().next().ok_or("a receipt without a run")?,
        Receipt::Duplicate(_) => return Err("the store was filled before".into()),
    };
    let events = events(number, at)?;
    let first = Entry { seq: Seq(0), at, event: Event::Accepted(Box::new(accepted)), body };
    let head = fold(run, first, &events, at)?.head();
    Ok(store.append(Append { run, after: Seq(1), at, events, head, state: None }).await?)
}

fn fold(run: RunId, first: Entry, events: &[Event], at: Timestamp) -> Result<Run> {
    let rest = events.iter().zip(1..).map(|(event, seq)| Entry {
        seq: Seq(seq),
        at,
        event: event.clone(),
        body: Bytes::new(),
    });
    Ok(Run::fold(run, std::iter::once(first).chain(rest))?)
}

fn accepted(number: usize) -> Result<Accepted> {
    let delivery = Delivery {
        id: Some(format!("fill-{number}")),
        method: "POST".into(),
        path: "/hooks/fill".into(),
        query: String::new(),
        headers: vec![("content-type".into(), "application/json".into())],
        remote: "127.0.0.1".into(),
        verified_by: "generic_hmac".into(),
        swept_by: None,
    };
    let route = RouteRef { name: RouteName::new("fill")?, revision: Revision::of(b"route") };
    Ok(Accepted {
        workflow: WorkflowName::new(&format!("workflow-{}", number % WORKFLOWS))?,
        revision: Revision::of(b"workflow"),
        trigger: Trigger::Delivery { route, delivery: Box::new(delivery) },
        inputs: None,
        state: None,
        held: false,
        stripped: false,
        route_concurrency: None,
    })
}

/// What follows the first event: one task, tried once.
fn events(number: usize, at: Timestamp) -> Result<Vec<Event>> {
    let task = StepId::from(&TaskId::new("push")?);
    let labels =
        BTreeMap::from([("order".to_owned(), format!("#{number}")), ("team".to_owned(), "order-ops".to_owned())]);
    let inputs = Map::from_iter([("order".to_owned(), json!({ "id": number }))]);
    let (result, finished) = if number.is_multiple_of(FAILED_EVERY) {
        let failure = Failure::new("http_status", Fault::Far, "`erp` answered 503")
            .retriable(Class::Status(503), None)
            .at("erp")
            .in_task(task.clone());
        let result = AttemptResult::Failed { failure: Box::new(failure.clone()), retry_at: None };
        (result, Finished::Failed { failure })
    } else {
        let outputs = Map::from_iter([("id".to_owned(), json!(format!("ERP-{number}")))]);
        (
            AttemptResult::Succeeded { output: Value::Object(outputs.clone()) },
            Finished::Succeeded { outputs, state: Map::new() },
        )
    };
    Ok(vec![
        Event::Claimed { worker: "fill".into(), lease_until: at.plus(Duration::from_secs(30)) },
        Event::Prepared(Box::new(Prepared { inputs, labels, state: Map::new() })),
        Event::AttemptStarted { task: task.clone(), attempt: AttemptNumber::FIRST, key: format!("fill-{number}") },
        Event::AttemptEnded(Box::new(AttemptEnded {
            task,
            attempt: AttemptNumber::FIRST,
            duration_ms: 12,
            result,
            exchange: None,
            checkpoint: None,
            kept: Vec::new(),
        })),
        Event::Finished(Box::new(finished)),
    ])
}
