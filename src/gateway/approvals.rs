//! Questions to people: listed, shown, decided.

use serde_json::{Map, Value, json};

use super::workflows::shown_input;
use super::{Caller, Error, Gateway, Scope, view};
use crate::domain::approval::{Decision, Verdict};
use crate::domain::input;
use crate::domain::run::{Run, TaskRecord, TaskState};
use crate::domain::state::State;
use crate::domain::step::StepId;
use crate::id::RunId;
use crate::limits;
use crate::store::RunQuery;
use crate::tasks::approval::Question;

/// A decision as a caller sends it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub verdict: Verdict,
    pub comment: Option<String>,
    pub form: Map<String, Value>,
}

impl Gateway {
    /// The questions that are open, newest run first.
    pub async fn approvals(&self, caller: &Caller) -> Result<view::Page<view::Approval>, Error> {
        caller.require(Scope::Approvals)?;
        let (mut items, mut before, mut seen) = (Vec::new(), None, 0);
        loop {
            let states = vec![State::Waiting, State::Running, State::Queued];
            let query = RunQuery { states, before, limit: limits::PAGE_MAX, ..RunQuery::default() };
            let heads = self.0.engine.store().runs(&query).await?;
            for head in heads.iter().filter(|head| head.approvals > 0) {
                let run = self.folded(head.id).await?;
                let open = run.tasks.iter().filter(|(_, record)| record.question().is_some());
                items.extend(open.filter_map(|(task, record)| shown(&run, task, record)));
            }
            seen += heads.len();
            before = heads.last().map(|head| head.id);
            let enough = items.len() >= limits::PAGE_MAX || seen >= limits::APPROVALS_LOOKED_THROUGH_MAX;
            if heads.len() < limits::PAGE_MAX || enough {
                return Ok(view::Page { items, next: None });
            }
        }
    }

    /// One question, open or not.
    pub async fn approval(&self, caller: &Caller, id: &str) -> Result<view::Approval, Error> {
        caller.require(Scope::Approvals)?;
        let (run, task) = read_id(id)?;
        let run = self.folded(run).await?;
        let record = run.tasks.get(&task);
        record.and_then(|record| shown(&run, &task, record)).ok_or_else(|| not_found(id))
    }

    /// Decides a question. Who says the same again changes nothing; who says something else before it is closed has
    /// changed their mind.
    pub async fn decide(&self, caller: &Caller, id: &str, answer: Answer) -> Result<view::Approval, Error> {
        caller.require(Scope::Approvals)?;
        let (run_id, task) = read_id(id)?;
        let run = self.folded(run_id).await?;
        let question = run.tasks.get(&task).and_then(|record| Question::of(record.checkpoint.as_ref()));
        let question = question.ok_or_else(|| not_found(id))?;
        if !question.approvers.is_empty() && !question.approvers.contains(&caller.name) {
            let message = format!("`{}` is not asked: {} may decide", caller.name, question.approvers.join(", "));
            return Err(Error::invalid("approval.not_asked", message));
        }
        let form = match answer.verdict {
            Verdict::Reject => answer.form,
            Verdict::Approve => input::fit(&question.fields(), answer.form)
                .map_err(|misfit| Error::invalid("inputs.misfit", format!("the form: {misfit}")))?,
        };
        let (by, comment, verdict) = (caller.name.clone(), answer.comment, answer.verdict);
        let detail = json!({ "verdict": verdict, "comment": comment });
        self.audit(caller, &format!("approval.{}", verdict.as_str()), id, detail).await?;
        let decision = Decision { by, at: self.0.clock.now(), verdict, comment, form };
        let run = self.0.engine.decide(run_id, &task, decision).await?;
        let record = run.tasks.get(&task);
        record.and_then(|record| shown(&run, &task, record)).ok_or_else(|| not_found(id))
    }

    async fn folded(&self, id: RunId) -> Result<Run, Error> {
        let log = self.0.engine.store().log(id).await?;
        Run::fold(id, log).map_err(|error| Error::Broken(error.to_string()))
    }
}

fn not_found(id: &str) -> Error {
    Error::NotFound { what: "approval", name: id.chars().take(limits::APPROVAL_TITLE_BYTES_MAX).collect() }
}

/// `run_01k4q8zr5m2c7:ask`, or `run_01k4q8zr5m2c7:returns:3:ask`.
fn read_id(id: &str) -> Result<(RunId, StepId), Error> {
    let parts = id.split_once(':').and_then(|(run, step)| Some((run.parse().ok()?, StepId::from_key(step)?)));
    parts.ok_or_else(|| not_found(id))
}

fn shown(run: &Run, task: &StepId, record: &TaskRecord) -> Option<view::Approval> {
    let question = Question::of(record.checkpoint.as_ref())?;
    let status = match &record.state {
        TaskState::Paused { .. } | TaskState::Started { .. } | TaskState::Retrying { .. } if !run.state.is_ended() => {
            "open"
        }
        TaskState::Succeeded { output } => output["decision"].as_str().unwrap_or("approved"),
        TaskState::Failed { failure } if failure.code == "approval.rejected" => "rejected",
        TaskState::Failed { failure } if failure.code == "approval.expired" => "expired",
        _ => "gone",
    };
    let decided = |decision: &Decision| view::Decided {
        by: decision.by.clone(),
        at: decision.at.to_string(),
        verdict: decision.verdict.as_str().to_owned(),
        comment: decision.comment.clone(),
        form: decision.form.clone(),
    };
    Some(view::Approval {
        id: format!("{}:{}", run.id, task.as_key()),
        run_id: run.id.to_string(),
        workflow: run.accepted.workflow.to_string(),
        task: task.to_string(),
        status: status.to_owned(),
        form: question.fields().iter().map(shown_input).collect(),
        title: question.title,
        text: question.text,
        details: question.details,
        approvers: question.approvers,
        quorum: question.quorum,
        asked_at: question.asked_at.to_string(),
        expires_at: question.expires_at.to_string(),
        channel: question.news.as_ref().map(|news| news.channel.to_string()),
        not_told: question.news.and_then(|news| news.trouble),
        decisions: record.decisions.iter().map(decided).collect(),
    })
}
