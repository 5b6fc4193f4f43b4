//! `http_request`: one call to a far end.

use async_trait::async_trait;
use schemars::schema_for;
use serde_json::Value;

use super::http::{Answer, Call, Page, Paginate, RawAnswer, RawCall, RawPages, joined_schema, masked, remember, send};
use super::{Attempted, Done, Effect, Task, TaskContext, TaskKind, WithProblem};
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;
use crate::expr::Place;
use crate::outbound::Response;

pub(super) const KIND: TaskKind = TaskKind {
    name: "http_request",
    summary: "Makes one HTTP call, or reads page after page; the output is `{ status, headers, body }`.",
    connects: true,
    failures: &["http", "connection", "token", "rate", "secret"],
    schema: || {
        let parts = [schema_for!(RawCall), schema_for!(RawAnswer), schema_for!(RawPages)];
        joined_schema("Settings of an `http_request` task.", parts)
    },
    parse,
};

#[derive(Debug)]
struct HttpRequest {
    call: Call,
    answer: Answer,
    paginate: Option<Paginate>,
}

fn parse(with: &Value, connected: bool) -> Result<Box<dyn Task>, Vec<WithProblem>> {
    let call = Call::read(with, connected);
    let paginate = call.as_ref().map_or(Ok(None), |call| Paginate::read(with, call.method()));
    match (call, Answer::read(with), paginate) {
        (Ok(call), Ok(answer), Ok(paginate)) => Ok(Box::new(HttpRequest { call, answer, paginate })),
        (call, answer, paginate) => {
            Err([call.err(), answer.err(), paginate.err()].into_iter().flatten().flatten().collect())
        }
    }
}

#[async_trait]
impl Task for HttpRequest {
    fn effect(&self) -> Effect {
        self.call.effect()
    }

    fn names(&self) -> Vec<Place> {
        let pages = self.paginate.as_ref().map(Paginate::names).unwrap_or_default();
        [self.call.names(), self.answer.names(), pages].concat()
    }

    fn secrets(&self) -> Vec<(String, SecretRef)> {
        self.call.secrets()
    }

    fn of_answer(&self) -> Vec<Place> {
        let pages = self.paginate.as_ref().map(Paginate::of_answer).unwrap_or_default();
        [self.answer.of_answer(), pages].concat()
    }

    fn may_redact(&self) -> bool {
        true
    }

    async fn attempt(&self, ctx: &TaskContext<'_>) -> Attempted {
        let mut masker = Masker::over(ctx.client.known(ctx.secrets));
        let mut request = match self.call.request(ctx, &mut masker).await {
            Ok(request) => request,
            Err(failure) => return Err(masked(failure, &masker)).into(),
        };
        let method = request.method.clone();
        let Some(paginate) = &self.paginate else {
            let judge = |response: &Response, masker: &Masker| {
                self.answer.judge(ctx, &method, response, masker).map(Done::Output)
            };
            return send(ctx, request, &mut masker, judge).await;
        };
        let (called, position) = (request.url.clone(), paginate.position(ctx));
        position.apply(&mut request);
        let mut next = None;
        let judge = |response: &Response, masker: &Masker| {
            let output = self.answer.judge(ctx, &method, response, masker)?;
            let page = Page { response, output: &output, masker, called: &called, ctx };
            let (done, found) = paginate.take_in(ctx, &position, &page)?;
            next = found;
            Ok(done)
        };
        let attempted = send(ctx, request, &mut masker, judge).await;
        remember(attempted, &position, next.as_ref())
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
    fn pages_are_checked() {
        let with = |method: &str, paginate: Value| json!({"path": "/a", "method": method, "paginate": paginate});
        let items = "${{ response.body }}";
        check(&with("GET", json!({"style": "page", "items": items})), true, &[]);
        check(
            &with("PUT", json!({"style": "cursor", "items": "all", "first": 1})),
            true,
            &[
                "/paginate/items: `items` is one whole expression",
                "/paginate: `style: cursor` wants `next`",
                "/paginate/first: `first` does nothing with this `style`",
                "/paginate: `PUT` does not read, so it has no pages",
            ],
        );
        let mut keyed = with("POST", json!({"style": "link", "items": items, "into": "page"}));
        keyed["idempotency_key"] = json!({"header": "Idempotency-Key"});
        check(
            &keyed,
            true,
            &[
                "/paginate/into: `into` does nothing with this `style`",
                "/idempotency_key: with one idempotency key all pages would be the same request",
            ],
        );
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
