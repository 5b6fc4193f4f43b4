//! How much what a run holds would be as JSON.

use serde_json::Value;

use super::scopes::Scopes;
use crate::domain::run::Run;
use crate::domain::step::StepId;

/// What the items of a loop gave, bytes of JSON.
pub(super) fn gathered(run: &Run, scopes: &Scopes, of: &StepId) -> usize {
    let steps = run.tasks.keys().filter(|step| step.is_in(of));
    steps.map(|step| scopes.output(run, step).map_or(0, size_of_json)).sum()
}

/// About how many bytes of JSON a value makes, without writing it.
pub(super) fn size_of_json(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(number) => number.as_str().len(),
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size_of_json(item) + 1).sum::<usize>() + 2,
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len() + size_of_json(value) + 4).sum::<usize>() + 2
        }
    }
}
