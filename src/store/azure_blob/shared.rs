//! What all gateways of a container share beside the runs: documents, marks, and the state of workflows. Each is a small
//! blob that is read, changed, and written back only if nobody else wrote it meanwhile.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::Error;
use super::container::{Only, Trouble};
use super::logs::{Committed, Read};
use super::{Core, names, small};
use crate::clock::Timestamp;
use crate::id::{Revision, RunId, Seq, WorkflowName};
use crate::limits;

/// The marks as they were read last.
#[derive(Debug, Default)]
pub(super) struct Marks {
    etag: Option<String>,
    values: BTreeMap<String, String>,
}

/// The state of a workflow. Each member knows which event wrote it, so that it does not matter in which order, and how
/// often, commits arrive.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct StateBlob {
    members: BTreeMap<String, Member>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Member {
    /// Null when it was removed.
    value: Value,
    at: Timestamp,
    run: RunId,
    seq: Seq,
}

impl StateBlob {
    /// Adds what an event committed, where nothing later did; false when that changed nothing.
    fn add(&mut self, committed: &Committed) -> bool {
        let before = self.clone();
        let when = (committed.at, committed.run, committed.seq);
        for (name, value) in &committed.changes {
            let (at, run, seq) = when;
            let member = Member { value: value.clone(), at, run, seq };
            match self.members.get(name) {
                Some(known) if (known.at, known.run, known.seq) >= when => {}
                _ => drop(self.members.insert(name.clone(), member)),
            }
        }
        let old = committed.at.minus(limits::BLOB_REMOVED_STATE_KEPT);
        self.members.retain(|_, member| !member.value.is_null() || member.at > old);
        *self != before
    }

    fn values(self) -> Map<String, Value> {
        let values = self.members.into_iter().filter(|(_, member)| !member.value.is_null());
        values.map(|(name, member)| (name, member.value)).collect()
    }
}

impl Core {
    /// Keeps a file's text under its content hash.
    pub(super) async fn put_document(&self, revision: &Revision, text: &str) -> Result<(), Error> {
        let doing = "keeping a document";
        let name = revision.as_str().to_owned();
        let known = self.index.call(doing, {
            let name = name.clone();
            move |index| small::document(index, &name)
        });
        if known.await?.is_some() {
            return Ok(());
        }
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        match self.container.put(doing, &names::document(&name), bytes, Only::New, HashMap::new()).await {
            Ok(_) | Err(Trouble::Exists) => {}
            Err(trouble) => return Err(trouble.into_error(doing)),
        }
        let text = text.to_owned();
        self.index.call(doing, move |index| small::put_document(index, &name, &text)).await
    }

    /// The text behind a content hash.
    pub(super) async fn document(&self, revision: &Revision) -> Result<Option<String>, Error> {
        let doing = "reading a document";
        let name = revision.as_str().to_owned();
        let known = self.index.call(doing, {
            let name = name.clone();
            move |index| small::document(index, &name)
        });
        if let Some(text) = known.await? {
            return Ok(Some(text));
        }
        let found = self.container.get(doing, &names::document(&name), 0).await;
        let Some(blob) = found.map_err(|trouble| trouble.into_error(doing))? else { return Ok(None) };
        let text = String::from_utf8(blob.bytes.to_vec())
            .map_err(|error| Error::Failed { doing, why: format!("the document {name} is damaged: {error}") })?;
        let kept = text.clone();
        self.index.call(doing, move |index| small::put_document(index, &name, &kept)).await?;
        Ok(Some(text))
    }

    /// The marks whose names start so.
    pub(super) async fn marks(&self, prefix: &str) -> Result<Vec<(String, String)>, Error> {
        let mut marks = self.marks.lock().await;
        self.read_marks("reading marks", &mut marks).await?;
        let wanted = marks.values.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(wanted.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// Sets a mark, or removes it.
    pub(super) async fn set_mark(&self, name: &str, value: Option<&str>) -> Result<(), Error> {
        let doing = "setting a mark";
        let mut marks = self.marks.lock().await;
        if marks.etag.is_none() {
            self.read_marks(doing, &mut marks).await?;
        }
        for _ in 0..limits::BLOB_CONFLICTS_MAX {
            let mut values = marks.values.clone();
            match value {
                Some(value) => values.insert(name.to_owned(), value.to_owned()),
                None => values.remove(name),
            };
            if values == marks.values && value.is_none() {
                // It may be there by now; only what was read this moment tells.
                self.read_marks(doing, &mut marks).await?;
                if !marks.values.contains_key(name) {
                    return Ok(());
                }
                continue;
            }
            let bytes = to_bytes(doing, &values)?;
            let only = marks.etag.clone().map_or(Only::New, Only::Same);
            match self.container.put(doing, names::MARKS, bytes, only, HashMap::new()).await {
                Ok(etag) => {
                    *marks = Marks { etag: Some(etag), values };
                    return Ok(());
                }
                Err(Trouble::Exists | Trouble::Unmet) => self.read_marks(doing, &mut marks).await?,
                Err(trouble) => {
                    // Whether it was written is not known.
                    *marks = Marks::default();
                    return Err(trouble.into_error(doing));
                }
            }
        }
        Err(Trouble::Unmet.into_error(doing))
    }

    async fn read_marks(&self, doing: &'static str, marks: &mut Marks) -> Result<(), Error> {
        let found = self.container.get(doing, names::MARKS, 0).await.map_err(|trouble| trouble.into_error(doing))?;
        *marks = match found {
            Some(blob) => Marks { etag: Some(blob.etag), values: from_bytes(doing, &blob.bytes)? },
            None => Marks::default(),
        };
        Ok(())
    }

    /// The state of a workflow: what stands in its blob, and what this gateway committed and could not write there yet.
    pub(super) async fn state(&self, workflow: &WorkflowName) -> Result<Map<String, Value>, Error> {
        let doing = "reading a workflow's state";
        let name = workflow.as_str().to_owned();
        let owed = self.index.call(doing, move |index| small::owed_states(index, Some(&name))).await?;
        let (_, mut state) = self.read_state(doing, workflow).await?;
        for owed in &owed {
            state.add(owed);
        }
        Ok(state.values())
    }

    async fn read_state(
        &self,
        doing: &'static str,
        workflow: &WorkflowName,
    ) -> Result<(Option<String>, StateBlob), Error> {
        let found = self.container.get(doing, &names::state(workflow), 0).await;
        match found.map_err(|trouble| trouble.into_error(doing))? {
            Some(blob) => Ok((Some(blob.etag), from_bytes(doing, &blob.bytes)?)),
            None => Ok((None, StateBlob::default())),
        }
    }

    /// Writes committed state into its workflow's blob; doing it again changes nothing.
    pub(super) async fn pay_state(&self, owed: &Committed) -> Result<(), Error> {
        let doing = "writing a workflow's state";
        for _ in 0..limits::BLOB_CONFLICTS_MAX {
            let (etag, mut state) = self.read_state(doing, &owed.workflow).await?;
            if state.add(owed) {
                let only = etag.map_or(Only::New, Only::Same);
                let bytes = to_bytes(doing, &state)?;
                match self.container.put(doing, &names::state(&owed.workflow), bytes, only, HashMap::new()).await {
                    Ok(_) => {}
                    Err(Trouble::Exists | Trouble::Unmet) => continue,
                    Err(trouble) => return Err(trouble.into_error(doing)),
                }
            }
            let (run, seq) = (owed.run, owed.seq);
            return self.index.call(doing, move |index| small::paid_state(index, run, seq)).await;
        }
        Err(Trouble::Unmet.into_error(doing))
    }

    /// Writes everything that this gateway owes.
    pub(super) async fn pay_states(&self) -> Result<(), Error> {
        let owed = self.index.call("writing state", |index| small::owed_states(index, None)).await?;
        for owed in owed {
            self.pay_state(&owed).await?;
        }
        Ok(())
    }

    /// Writes whatever state a log commits: for runs whose gateway may have died in between.
    pub(super) async fn pay_states_of(&self, read: &Read) -> Result<(), Error> {
        for committed in &read.states {
            self.pay_state(committed).await?;
        }
        Ok(())
    }
}

fn to_bytes(doing: &'static str, value: &impl Serialize) -> Result<Bytes, Error> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::Failed { doing, why: error.to_string() })?;
    Ok(bytes.into())
}

fn from_bytes<T: for<'de> Deserialize<'de>>(doing: &'static str, bytes: &Bytes) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Failed { doing, why: format!("a blob is damaged: {error}") })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use serde_json::json;

    fn committed(at: i64, run: u64, changes: &Value) -> Committed {
        Committed {
            run: RunId::from_u64(run),
            seq: Seq(3),
            at: Timestamp::from_secs(at),
            workflow: WorkflowName::new("orders").unwrap(),
            changes: changes.as_object().cloned().unwrap(),
        }
    }

    #[test]
    fn the_order_and_number_of_arrivals_do_not_matter() {
        let commits = [
            committed(1, 1, &json!({"a": 1, "b": 1})),
            committed(2, 2, &json!({"a": null, "c": 2.50})),
            committed(2, 3, &json!({"c": 3})),
        ];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut state = StateBlob::default();
            for place in order.into_iter().chain(order) {
                state.add(&commits[place]);
            }
            assert_eq!(Value::from(state.values()), json!({"b": 1, "c": 3}), "{order:?}");
        }
    }

    #[test]
    fn what_changes_nothing_is_not_written() {
        let mut state = StateBlob::default();
        assert!(state.add(&committed(1, 1, &json!({"a": 1}))));
        assert!(!state.add(&committed(1, 1, &json!({"a": 1}))));
        assert!(!state.add(&committed(0, 1, &json!({"a": 2}))));
    }
}
