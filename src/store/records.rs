//! Exports the records of finished runs, of whatever backend, to a container of Blob Storage:
//! `runs/{workflow}/{yyyy}/{mm}/{dd}/{run_id}.json`, by the day (UTC) on which the run was accepted.
//!
//! It looks at the store now and then, as any reader, and keeps in a mark how far it has come. So it never holds a run
//! up, a crash or an outage loses nothing, and a record that is written twice is the same. Bodies of deliveries stay
//! behind: inputs, outputs, exchanges and everything else in the log is masked, bodies are as they came.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::azure_blob::container::{Container, Only};
use super::{BlobPlace, Error, JournalQuery, RunQuery, Store};
use crate::azure::Azure;
use crate::clock::{Clock, Timestamp};
use crate::domain::event::Entry;
use crate::domain::journal::JournalKind;
use crate::domain::run::{Run, RunHead};
use crate::domain::secret::Secrets;
use crate::domain::state::State;
use crate::id::RunId;
use crate::limits;

const DOING: &str = "exporting records";
/// The mark that says how far the export has come.
const MARK: &str = "records";
/// What the audit journal says before a run is resumed.
const RESUME: &str = "run.resume";

/// The export of finished runs.
#[derive(Debug)]
pub struct Records {
    store: Arc<dyn Store>,
    container: Container,
    clock: Arc<dyn Clock>,
    /// Tells gateways apart, so that one of them exports.
    by: String,
}

/// How far the export has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    /// Runs up to this one are exported, but for `open`.
    to: Option<RunId>,
    /// Runs that had not ended when they were passed.
    #[serde(default)]
    open: BTreeSet<RunId>,
    /// Runs that somebody wanted to resume, and when: they end again.
    #[serde(default)]
    again: BTreeMap<RunId, Timestamp>,
    /// The newest resume that was looked at, in the audit journal.
    #[serde(default)]
    audit: i64,
    /// Who exports, and until when.
    #[serde(default)]
    by: String,
    #[serde(default)]
    until: Timestamp,
}

/// What one look did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Records that were written.
    pub records: usize,
    /// There is more to do.
    pub more: bool,
}

impl Records {
    /// Nothing is called yet.
    pub fn new(
        place: BlobPlace,
        azure: Arc<Azure>,
        secrets: Arc<dyn Secrets>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let container = Container::new(place, azure, secrets, Vec::new());
        Self { store, container, clock, by: format!("{:016x}", rand::random::<u64>()) }
    }

    /// Exports until it is stopped. While the container is away it tries again, less and less often.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = Duration::from_secs(1);
        let mut opened = false;
        loop {
            let work = async {
                if !opened {
                    self.container.open().await?;
                }
                self.export().await
            };
            let done = tokio::select! {
                () = stop.cancelled() => return,
                done = work => done,
            };
            pause = match done {
                Ok(done) => {
                    opened = true;
                    if done.more { Duration::ZERO } else { limits::RECORDS_POLL }
                }
                Err(error) => {
                    metrics::counter!("clawhook_records_failures_total").increment(1);
                    tracing::warn!(%error, "records of finished runs could not be exported; they wait, and so does nothing else");
                    (pause.max(Duration::from_secs(1)) * 2).min(limits::RECORDS_RETRY_MAX)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look: writes the records that are owed. Another gateway's turn is left to it.
    pub async fn export(&self) -> Result<Exported, Error> {
        let mut progress = self.progress().await?;
        let mut noted = progress.clone();
        if !self.take_turn(&mut progress).await? {
            return Ok(Exported::default());
        }
        let mut exported = Exported::default();
        self.look_for_resumes(&mut progress).await?;
        exported.records += self.export_old(&mut progress).await?;
        let (new, more) = self.new_runs(&progress).await?;
        exported.more = more;
        for part in new.chunks(limits::RECORDS_PER_NOTE) {
            if progress.open.len() >= limits::RECORDS_OPEN_MAX {
                break;
            }
            let ended: Vec<_> = part.iter().filter(|(_, ended)| *ended).map(|(id, _)| *id).collect();
            exported.records += self.write_all(ended).await?;
            progress.open.extend(part.iter().filter(|(_, ended)| !ended).map(|(id, _)| *id));
            progress.to = part.last().map(|(id, _)| *id).or(progress.to);
            self.note(&progress).await?;
            noted = progress.clone();
        }
        if progress != noted {
            self.note(&progress).await?;
        }
        if exported.records > 0 {
            metrics::counter!("clawhook_records_exported_total").increment(exported.records as u64);
        }
        Ok(exported)
    }

    async fn progress(&self) -> Result<Progress, Error> {
        let marks = self.store.marks(MARK).await?;
        let Some((_, mark)) = marks.into_iter().find(|(name, _)| name == MARK) else { return Ok(Progress::default()) };
        serde_json::from_str(&mark)
            .map_err(|error| Error::Failed { doing: DOING, why: format!("the mark `{MARK}` cannot be read: {error}") })
    }

    async fn note(&self, progress: &Progress) -> Result<(), Error> {
        let mark = serde_json::to_string(progress).map_err(|error| broken(&error))?;
        self.store.set_mark(MARK, Some(&mark)).await
    }

    /// Whether it is for this gateway to export. No guarantee rests on it: it only saves double work.
    async fn take_turn(&self, progress: &mut Progress) -> Result<bool, Error> {
        let now = self.clock.now();
        if self.store.exclusive() {
            return Ok(true);
        }
        if progress.by != self.by && progress.until > now {
            return Ok(false);
        }
        if progress.by != self.by || progress.until < now.plus(limits::RECORDS_TURN / 2) {
            (progress.by, progress.until) = (self.by.clone(), now.plus(limits::RECORDS_TURN));
            self.note(progress).await?;
        }
        Ok(true)
    }

    /// Runs that were exported and go on. Their resume is in the audit journal before it is in their log.
    async fn look_for_resumes(&self, progress: &mut Progress) -> Result<(), Error> {
        let mut query = JournalQuery {
            kind: JournalKind::Audit,
            subject: None,
            cause: None,
            what: Some(RESUME.to_owned()),
            before: None,
            limit: limits::PAGE_MAX,
        };
        let (seen, mut newest) = (progress.audit, progress.audit);
        loop {
            let page = self.store.journal(&query).await?;
            for row in page.iter().filter(|row| row.id > seen) {
                newest = newest.max(row.id);
                if let Ok(run) = row.entry.subject.parse::<RunId>() {
                    let at = progress.again.entry(run).or_insert(row.entry.at);
                    *at = row.entry.at.max(*at);
                }
            }
            match page.last() {
                Some(last) if last.id > seen && page.len() == query.limit => query.before = Some(last.id),
                _ => break,
            }
        }
        progress.audit = newest;
        Ok(())
    }

    /// Runs that had not ended when they were passed, or that were resumed.
    async fn export_old(&self, progress: &mut Progress) -> Result<usize, Error> {
        let mut due = Vec::new();
        if !progress.open.is_empty() {
            let running = self.open_runs().await?;
            due.extend(progress.open.iter().filter(|run| !running.contains(run)).copied());
        }
        let given_up = self.clock.now().minus(limits::RECORDS_RESUME_MAX);
        let mut settled = Vec::new();
        for (run, asked) in &progress.again {
            match self.head(*run).await? {
                // It ended after it was asked for: that is the end to show.
                Some(head) if head.ended_at.is_some_and(|ended| ended >= *asked) => due.push(*run),
                Some(head) if head.ended_at.is_none() => {}
                _ if *asked > given_up => continue,
                _ => {}
            }
            settled.push(*run);
            if !due.contains(run) {
                progress.open.insert(*run);
            }
        }
        let written = self.write_all(due.clone()).await?;
        for run in settled {
            progress.again.remove(&run);
        }
        for run in due {
            progress.open.remove(&run);
        }
        Ok(written)
    }

    /// Runs above the mark, oldest first, each with whether it has ended; and whether there are more.
    async fn new_runs(&self, progress: &Progress) -> Result<(Vec<(RunId, bool)>, bool), Error> {
        // Where several gateways write, a list may still lack the youngest.
        let now = self.clock.now();
        let until = if self.store.exclusive() { None } else { Some(now.minus(limits::RECORDS_LAG)) };
        let since = progress.to.map(RunId::made_at);
        let mut query = RunQuery { since, until, limit: limits::PAGE_MAX, ..RunQuery::default() };
        let (mut runs, mut more) = (VecDeque::new(), false);
        loop {
            let page = self.store.runs(&query).await?;
            for head in page.iter().filter(|head| progress.to.is_none_or(|to| head.id > to)) {
                runs.push_front((head.id, head.state.is_ended()));
            }
            while runs.len() > limits::RECORDS_PER_LOOK_MAX {
                runs.pop_back();
                more = true;
            }
            match page.last() {
                Some(last) if page.len() == query.limit => query.before = Some(last.id),
                _ => return Ok((runs.into(), more)),
            }
        }
    }

    async fn open_runs(&self) -> Result<HashSet<RunId>, Error> {
        let states: Vec<_> = State::ALL.into_iter().filter(|state| !state.is_ended()).collect();
        let mut query = RunQuery { states, limit: limits::PAGE_MAX, ..RunQuery::default() };
        let mut open = HashSet::new();
        loop {
            let page = self.store.runs(&query).await?;
            open.extend(page.iter().map(|head| head.id));
            match page.last() {
                Some(last) if page.len() == query.limit => query.before = Some(last.id),
                _ => return Ok(open),
            }
        }
    }

    async fn head(&self, run: RunId) -> Result<Option<RunHead>, Error> {
        let after = RunId::from_u64(run.as_u64() + 1);
        let query = RunQuery { before: Some(after), since: Some(run.made_at()), limit: 1, ..RunQuery::default() };
        Ok(self.store.runs(&query).await?.pop().filter(|head| head.id == run))
    }

    async fn write_all(&self, runs: Vec<RunId>) -> Result<usize, Error> {
        let writes = stream::iter(runs).map(|run| self.write(run)).buffer_unordered(limits::RECORDS_CALLS_MAX);
        writes.try_fold(0, |count, written| async move { Ok(count + usize::from(written)) }).await
    }

    /// Writes one record; false when the run is gone.
    async fn write(&self, id: RunId) -> Result<bool, Error> {
        let log = match self.store.log(id).await {
            Ok(log) => log,
            Err(Error::NoRun(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let run = match Run::fold(id, log.iter().cloned()) {
            Ok(run) => run,
            Err(error) => {
                tracing::error!(run.id = %id, %error, "run {id} cannot be read; it has no record");
                return Ok(false);
            }
        };
        let bytes = serde_json::to_vec(&record(&run, &log)?).map_err(|error| broken(&error))?;
        let name = path(&run);
        let put = self.container.put(DOING, &name, Bytes::from(bytes), Only::Always, [].into());
        put.await.map_err(|trouble| trouble.into_error(DOING))?;
        Ok(true)
    }
}

/// Where the record of a run goes.
fn path(run: &Run) -> String {
    let day = run.id.made_at().to_utc().format("%Y/%m/%d");
    format!("runs/{}/{day}/{}.json", run.accepted.workflow, run.id)
}

/// What is on record. Members are added, never renamed: others read them.
fn record(run: &Run, log: &[Entry]) -> Result<Value, Error> {
    let head = run.head();
    let mut events = Vec::with_capacity(log.len());
    for entry in log {
        let event = serde_json::to_value(&entry.event).map_err(|error| broken(&error))?;
        events.push(json!({ "seq": entry.seq.0, "at": entry.at.to_string(), "event": event }));
    }
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    let inputs = run.prepared.as_ref().map(|prepared| &prepared.inputs).or(run.accepted.inputs.as_ref());
    Ok(json!({
        "version": 1,
        "run_id": head.id.to_string(),
        "workflow": head.workflow.as_str(),
        "revision": head.revision.as_str(),
        "status": head.state.as_str(),
        "trigger": head.trigger.as_str(),
        "source": head.source,
        "accepted_at": head.accepted_at.to_string(),
        "started_at": time(head.started_at),
        "ended_at": time(head.ended_at),
        "labels": head.labels,
        "attempts": head.attempts,
        "retried": head.retried,
        "suspected_replay_of": head.suspected_replay_of.map(|of| of.to_string()),
        "inputs": inputs,
        "outputs": run.outputs,
        "failure": head.failure,
        "events": events,
    }))
}

fn broken(error: &serde_json::Error) -> Error {
    Error::Failed { doing: DOING, why: error.to_string() }
}
