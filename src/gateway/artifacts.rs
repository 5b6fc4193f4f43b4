//! Artifacts of runs: listed, and read.

use serde_json::Value;

use super::{Caller, Error, Gateway, Scope, view};
use crate::artifacts::{self, Handle, Reader};
use crate::domain::attempt::AttemptResult;
use crate::domain::event::Event;
use crate::id::RunId;

impl Gateway {
    /// The artifacts that a run's log refers to, in the order of their making.
    pub async fn artifacts(&self, caller: &Caller, run: RunId) -> Result<view::Artifacts, Error> {
        let handles = self.handles(caller, run).await?;
        Ok(view::Artifacts { items: handles.iter().map(Handle::to_value).collect() })
    }

    /// Begins to read an artifact of a run.
    pub async fn artifact(&self, caller: &Caller, run: RunId, id: &str) -> Result<(Handle, Reader), Error> {
        let handles = self.handles(caller, run).await?;
        let none = || Error::NotFound { what: "artifact", name: id.chars().take(80).collect() };
        let handle = handles.into_iter().find(|handle| handle.artifact.to_string() == id).ok_or_else(none)?;
        match self.engine().artifacts().reader(&handle).await {
            Ok(reader) => Ok((handle, reader)),
            Err(artifacts::Error::Missing { .. }) => Err(none()),
            Err(error) => Err(Error::Unavailable(error.to_string())),
        }
    }

    async fn handles(&self, caller: &Caller, run: RunId) -> Result<Vec<Handle>, Error> {
        caller.require(Scope::RunsRead)?;
        let log = self.engine().store().log(run).await?;
        let mut found = Vec::new();
        let mut look = |value: &Value| Handle::all_in(value, run, &mut found);
        for entry in &log {
            if let Event::AttemptEnded(ended) = &entry.event {
                if let AttemptResult::Succeeded { output } = &ended.result {
                    look(output);
                }
                if let Some(checkpoint) = &ended.checkpoint {
                    look(checkpoint);
                }
            }
        }
        Ok(found)
    }
}
