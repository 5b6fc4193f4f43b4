//! What a task gave and is too large for the log of its run. An attempt that succeeded writes such parts to artifacts
//! before its end is on record, and the record has their handles instead. The worker goes on with the whole values; the
//! next one, after a crash or a pause, reads them back before it makes the scopes.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::flight::Ticket;
use super::sizes::size_of_json;
use super::{Driver, Lost, RESPONSE};
use crate::artifacts::{self, Artifacts, Handle, Label};
use crate::domain::attempt::{AttemptEnded, AttemptResult};
use crate::domain::event::{Event, WaitReason};
use crate::domain::failure::{Class, Failure, Fault, Retry};
use crate::domain::run::{Run, TaskState};
use crate::domain::state::State;
use crate::domain::step::StepId;
use crate::engine::{Engine, step};
use crate::id::RunId;
use crate::limits;
use crate::tasks::Effect;
use crate::tasks::plan::Plan;

/// One part of an output, written aside.
#[derive(Debug)]
pub(super) struct Kept {
    /// Where it stands in the output, as a JSON pointer.
    pointer: String,
    handle: Handle,
}

/// Whole outputs of which the log has handles only.
pub(super) type Full = HashMap<StepId, Arc<Value>>;

/// What text is kept as; anything else is kept as JSON.
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Writes what is too large of an output that is final. What cannot be written stays where it is: a run does not fail
/// because its record is long.
pub(super) async fn keep(engine: &Engine, ticket: &Ticket<'_>, output: &Value) -> Vec<Kept> {
    let parts = &engine.0.parts;
    let reachable = parts.store.exclusive() || parts.artifacts.store().shared();
    let of_the_engine = matches!(ticket.task.task.effect(), Effect::SetState | Effect::Stop);
    let size = size_of_json(output);
    if size > limits::TASK_OUTPUT_BYTES_MAX || !reachable || of_the_engine || !parts.artifacts.keeps_outputs() {
        return Vec::new();
    }
    let bytes_max = parts.artifacts.inline_bytes_max().max(limits::OUTPUT_KEPT_BYTES_MIN);
    let pointers = large(output, bytes_max);
    if pointers.is_empty() || !is_final(ticket, output) {
        return Vec::new();
    }
    let mut kept = Vec::new();
    for pointer in pointers {
        let Some(value) = output.pointer(&pointer) else { continue };
        let written = tokio::time::timeout(limits::OUTPUT_KEEP_MAX, write(&parts.artifacts, ticket.run, value)).await;
        match written.map_err(|_| "it took too long".to_owned()).and_then(|written| written.map_err(|e| e.to_string()))
        {
            Ok(handle) => kept.push(Kept { pointer, handle }),
            Err(why) => {
                let (run, step) = (ticket.run, &ticket.step);
                tracing::warn!(
                    run.id = %run, task.id = %step, why,
                    "what task `{step}` of run {run} gave at `{pointer}` is large and stays in its record: no artifact took it"
                );
            }
        }
    }
    kept
}

/// The parts of an output that are larger than this, as JSON pointers: members, or the whole when it has none. What is
/// in an artifact already stays a handle, and what is hardly larger than one stays where it is.
fn large(output: &Value, bytes_max: usize) -> Vec<String> {
    let is_large = |value: &Value| size_of_json(value) > bytes_max && !matches!(Handle::read(value), Some(Ok(_)));
    let Value::Object(members) = output else {
        return if is_large(output) { vec![String::new()] } else { Vec::new() };
    };
    let large = members.iter().filter(|(_, value)| is_large(value));
    // RFC 6901 section 3.
    large.map(|(name, _)| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect()
}

/// With `poll`, most answers are looked at and forgotten.
fn is_final(ticket: &Ticket<'_>, output: &Value) -> bool {
    let Some(poll) = &ticket.task.poll else { return true };
    let values = ticket.values.clone().with(RESPONSE, output.clone());
    poll.until.is_true(&values).unwrap_or(false)
}

async fn write(artifacts: &Artifacts, run: RunId, value: &Value) -> Result<Handle, artifacts::Error> {
    let json;
    let (bytes, media_type) = match value {
        Value::String(text) => (text.as_bytes(), TEXT),
        value => {
            json = value.to_string();
            (json.as_bytes(), JSON)
        }
    };
    let mut writer = artifacts.writer(run, bytes.len() as u64).await?;
    writer.write(bytes).await?;
    writer.publish(Label { media_type: media_type.to_owned(), ..Label::default() }).await
}

/// An output as the log has it: handles in place of what was written aside.
fn in_log(output: &Value, kept: &[Kept]) -> Value {
    let aside = |pointer: &str| kept.iter().find(|kept| kept.pointer == pointer).map(|kept| kept.handle.to_value());
    if let Some(handle) = aside("") {
        return handle;
    }
    let Value::Object(members) = output else { return output.clone() };
    let member = |(name, value): (&String, &Value)| {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        (name.clone(), aside(&pointer).unwrap_or_else(|| value.clone()))
    };
    Value::Object(members.iter().map(member).collect())
}

/// Reads what was written aside of everything that the run's tasks gave.
async fn read(artifacts: &Artifacts, run: &Run) -> Result<Full, (StepId, Failure)> {
    let kept = run.tasks.iter().filter_map(|(step, record)| match &record.state {
        TaskState::Succeeded { output } if !record.kept.is_empty() => {
            Some(read_output(artifacts.clone(), step.clone(), output.clone(), record.kept.clone()))
        }
        _ => None,
    });
    // Collected first: a stream that borrows the run could not be sent to another thread.
    let reads: Vec<_> = kept.collect();
    stream::iter(reads).buffer_unordered(limits::OUTPUT_READS_MAX).try_collect().await
}

async fn read_output(
    artifacts: Artifacts,
    step: StepId,
    mut output: Value,
    pointers: Vec<String>,
) -> Result<(StepId, Arc<Value>), (StepId, Failure)> {
    for pointer in &pointers {
        let read = match output.pointer_mut(pointer) {
            Some(part) => read_part(&artifacts, part).await.map(|value| *part = value),
            None => Err(damaged("its record has nothing there".to_owned())),
        };
        if let Err(failure) = read {
            let failure = told(&step, pointer, failure);
            return Err((step, failure));
        }
    }
    Ok((step, Arc::new(output)))
}

async fn read_part(artifacts: &Artifacts, handle: &Value) -> Result<Value, Failure> {
    let handle = match Handle::read(handle) {
        Some(Ok(handle)) => handle,
        Some(Err(why)) => return Err(damaged(why)),
        None => return Err(damaged("its record names no artifact there".to_owned())),
    };
    let bytes = tokio::time::timeout(limits::OUTPUT_READ_MAX, read_bytes(artifacts, &handle)).await;
    let bytes = bytes
        .unwrap_or_else(|_| Err(artifacts::Error::Failed { doing: "read an", why: "it took too long".to_owned() }));
    let bytes = bytes.map_err(|error| error.failure())?;
    let value = if handle.media_type == TEXT {
        String::from_utf8(bytes).map(Value::String).map_err(|error| error.to_string())
    } else {
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    };
    value
        .map_err(|why| damaged(format!("artifact `{}` does not read as {}: {why}", handle.artifact, handle.media_type)))
}

async fn read_bytes(artifacts: &Artifacts, handle: &Handle) -> Result<Vec<u8>, artifacts::Error> {
    let mut reader = artifacts.reader(handle).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn damaged(why: String) -> Failure {
    Failure::new("artifact.damaged", Fault::Here, why)
}

/// The failure of a run that cannot go on without this part.
fn told(step: &StepId, pointer: &str, mut failure: Failure) -> Failure {
    failure.message = format!("what task `{step}` gave at `{pointer}` cannot be read: {}", failure.message);
    let help =
        "nothing was sent: put the artifact back and resume the run, or replay it, which does all of its tasks anew";
    failure.help(help).in_task(step.clone())
}

/// What a worker finds of what was written aside.
pub(super) enum Found {
    /// All of it.
    All(Full),
    /// Not now; the run waits.
    Later(StepId, Failure),
    /// It will not be found.
    Never(Failure),
}

impl Driver<'_> {
    /// Reads back what the run's tasks gave, before the run is claimed: so no lease runs out over it.
    pub(super) async fn find_kept(&self, plan: &Plan) -> Result<Found, Lost> {
        let read = tokio::select! {
            biased;
            () = self.hold.cancel.cancelled() => return Err(Lost),
            () = self.engine.0.halt.cancelled() => return Err(Lost),
            read = read(&self.engine.0.parts.artifacts, self.log.run()) => read,
        };
        Ok(match read {
            Ok(full) => Found::All(full),
            Err((step, failure))
                if failure.retry != Retry::Never && self.now() < step::deadline(plan, self.log.run()) =>
            {
                Found::Later(step, failure)
            }
            Err((_, mut failure)) => {
                (failure.retry, failure.class) = (Retry::Never, Class::Other);
                Found::Never(failure)
            }
        })
    }

    /// The run waits until its place for artifacts may be there again.
    pub(super) async fn wait_for_kept(&mut self, task: StepId, failure: Failure) -> Result<State, Lost> {
        let until = self.now().plus(limits::OUTPUT_READ_AGAIN);
        self.log.push(Event::Suspended { until, reason: WaitReason::Unread { task, why: failure.message } })?;
        self.log.flush().await?;
        Ok(self.log.run().state)
    }

    /// The end of an attempt: later tasks see all that it gave, the log what it can hold.
    pub(super) fn put_end(&mut self, mut ended: AttemptEnded, kept: &[Kept]) -> Result<(), Lost> {
        if let AttemptResult::Succeeded { output } = &mut ended.result
            && !kept.is_empty()
        {
            let whole = Arc::new(std::mem::take(output));
            *output = in_log(&whole, kept);
            ended.kept = kept.iter().map(|kept| kept.pointer.clone()).collect();
            self.scopes.set_full(&ended.task, whole);
        } else if let Some(value) = crate::engine::values::task_result(&ended.result) {
            self.scopes.set(&ended.task, value);
        }
        self.log.push(Event::AttemptEnded(Box::new(ended)))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_large(output: &Value, expected: &[&str]) {
        assert_eq!(large(output, 10), expected, "{output}");
    }

    #[test]
    fn members_are_kept_and_what_has_none_is_kept_whole() {
        let long = "x".repeat(20);
        check_large(&json!({ "status": 200, "body": long, "headers": {} }), &["/body"]);
        check_large(&json!({ "a/b~c": [long], "small": 1 }), &["/a~1b~0c"]);
        check_large(&json!([long, 1]), &[""]);
        check_large(&json!(long), &[""]);
        check_large(&json!({ "a": "12345678", "b": "12345678" }), &[]);
        let artifact = format!("art_{}_{}", RunId::from_u64(7).to_string().trim_start_matches("run_"), "0".repeat(32));
        let handle = json!({ "artifact": artifact, "media_type": "text/csv", "bytes": 3, "sha256": "00" });
        check_large(&json!({ "file": handle, "like_one": { "artifact": long } }), &["/like_one"]);
        check_large(&json!(null), &[]);
    }

    /// Writes an output aside and reads it back from what the log has.
    async fn round(artifacts: &Artifacts, run: RunId, output: &Value) -> (Value, Value) {
        let mut kept = Vec::new();
        for pointer in large(output, 10) {
            let handle = write(artifacts, run, output.pointer(&pointer).unwrap()).await.unwrap();
            kept.push(Kept { pointer, handle });
        }
        let logged = in_log(output, &kept);
        let mut whole = logged.clone();
        for kept in &kept {
            let part = whole.pointer_mut(&kept.pointer).unwrap();
            *part = read_part(artifacts, part).await.unwrap();
        }
        (logged, whole)
    }

    #[tokio::test]
    async fn what_is_written_aside_comes_back_to_the_last_digit() {
        let folder = tempfile::tempdir().unwrap();
        let (artifacts, run) = (Artifacts::in_folder(folder.path()), RunId::from_u64(7));
        let exact: Value = serde_json::from_str("[12345678901234567890.0100, 9007199254740993]").unwrap();
        for output in [
            json!({ "status": 200, "body": { "price": exact, "name": "订单 🙂 \u{0}" } }),
            json!({ "body": "a text, not \"JSON\"\n订单", "x/y": ["long enough"] }),
            json!(["long enough", exact]),
            json!("long enough by itself"),
        ] {
            let (logged, whole) = round(&artifacts, run, &output).await;
            assert_eq!(whole.to_string(), output.to_string());
            let mut handles = Vec::new();
            Handle::all_in(&logged, run, &mut handles);
            assert_eq!(handles.len(), large(&output, 10).len(), "{logged}");
        }
    }

    #[tokio::test]
    async fn what_is_gone_or_changed_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (artifacts, run) = (Artifacts::in_folder(folder.path()), RunId::from_u64(7));
        let handle = write(&artifacts, run, &json!("abcdef")).await.unwrap();
        let file = folder.path().join(run.to_string()).join(handle.artifact.to_string());
        for (bytes, code) in
            [(Some("abcdeX"), "artifact.damaged"), (Some("abc"), "artifact.damaged"), (None, "artifact.missing")]
        {
            match bytes {
                Some(bytes) => std::fs::write(&file, bytes).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            let failure = read_part(&artifacts, &handle.to_value()).await.unwrap_err();
            assert_eq!((failure.code.as_str(), failure.retry), (code, Retry::Never));
        }
        assert_eq!(read_part(&artifacts, &json!({ "n": 1 })).await.unwrap_err().code, "artifact.damaged");
        let folder_is_a_file = folder.path().join("stores");
        std::fs::write(&folder_is_a_file, "").unwrap();
        let away = Artifacts::in_folder(&folder_is_a_file);
        assert_eq!(read_part(&away, &handle.to_value()).await.unwrap_err().retry, Retry::Backoff, "the place is away");
    }
}
