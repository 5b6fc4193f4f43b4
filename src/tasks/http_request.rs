//! `http_request`: one call to a far end.

use async_trait::async_trait;
use schemars::schema_for;
use serde_json::Value;

use super::http::{Answer, Call, RawAnswer, RawCall, joined_schema, masked, send};
use super::{Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem};
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::expr::Place;
use crate::outbound::Response;

pub(super) const KIND: TaskKind = TaskKind {
    name: "http_request",
    summary: "Makes one HTTP call; the output is `{ status, headers, body }`.",
    connects: true,
    schema: || joined_schema("Settings of an `http_request` task.", [schema_for!(RawCall), schema_for!(RawAnswer)]),
    parse,
};

#[derive(Debug)]
struct HttpRequest {
    call: Call,
    answer: Answer,
}

fn parse(with: &Value, connected: bool) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    match (Call::read(with, connected), Answer::read(with)) {
        (Ok(call), Ok(answer)) => Ok(Box::new(HttpRequest { call, answer })),
        (call, answer) => Err([call.err(), answer.err()].into_iter().flatten().flatten().collect()),
    }
}

#[async_trait]
impl Task for HttpRequest {
    fn effect(&self) -> Effect {
        self.call.effect()
    }

    fn names(&self) -> Vec<Place> {
        [self.call.names(), self.answer.names()].concat()
    }

    fn secrets(&self) -> Vec<(String, SecretRef)> {
        self.call.secrets()
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let mut masker = Masker::over(ctx.client.known(ctx.secrets));
        let request = match self.call.request(ctx, &mut masker).await {
            Ok(request) => request,
            Err(failure) => return Err(masked(failure, &masker)).into(),
        };
        let method = request.method.clone();
        let judge =
            |response: &Response, masker: &Masker| self.answer.judge(ctx, &method, response, masker).map(Done::Output);
        send(ctx, request, &mut masker, judge).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(with: &Value, connected: bool, expected: &[&str]) {
        let problems = match (KIND.parse)(with, connected) {
            Ok(_) => Vec::new(),
            Err(problems) => problems,
        };
        let told: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn settings_are_checked_together() {
        check(&json!({"path": "/a", "json": {"a": "${{ inputs.a }}"}, "accept_status": [200, "4xx"]}), true, &[]);
        check(&json!({"url": "https://a.example/"}), false, &[]);
        check(&json!({"url": "https://a.example/"}), true, &[": a task with a connection names a `path`"]);
        check(&json!({"path": "/a"}), false, &[": a task without a connection names a `url`"]);
        check(
            &json!({"path": "/a", "json": 1, "form": {}, "fail_if": "yes", "max_response": "8"}),
            true,
            &[": a request has one body, and here are several", "/fail_if: `fail_if` is one whole expression"],
        );
        check(
            &json!({"path": "/${{ ", "headers": {"a b": "x"}}),
            true,
            &["/path: this expression is never closed", "/headers/a b: `a b` cannot be the name of a header"],
        );
    }
}
