//! The judging of an answer: which statuses are wanted, what else makes it a failure, and what later tasks see of it.

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::failures::{at_connection, quoted};
use crate::domain::body;
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::domain::masking::Masker;
use crate::expr::{Place, Template};
use crate::outbound::{Response, retry_after};
use crate::tasks::{TaskContext, WithProblem, expression_failure, read_with};

/// Settings of what counts as a good answer.
#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::tasks) struct RawAnswer {
    /// Statuses that count as success: numbers, or hundreds such as `2xx`. `[2xx]` when left out.
    accept_status: Option<Vec<RawStatus>>,
    /// Fails the attempt when true, for APIs that answer 200 with an error; sees `response.status`, `.headers`, `.body`.
    fail_if: Option<String>,
}

/// `200`, or `2xx`.
#[derive(Debug, Clone, Copy)]
struct RawStatus(Accept);

/// What counts as a good answer.
#[derive(Debug)]
pub(in crate::tasks) struct Answer {
    accept: Vec<Accept>,
    fail_if: Option<Template>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accept {
    Code(u16),
    Hundred(u16),
}

/// The name under which expressions see the answer.
pub(in crate::tasks) const RESPONSE: &str = "response";

impl Default for Answer {
    fn default() -> Self {
        Self { accept: vec![Accept::Hundred(2)], fail_if: None }
    }
}

impl Answer {
    /// Reads the keys of an answer from a task's `with`. Keys that are not its own are left to others.
    pub(in crate::tasks) fn read(raw: &Value) -> Result<Self, Vec<WithProblem>> {
        let with: RawAnswer = read_with(raw)?;
        let fail_if = with.fail_if.as_deref().map(|text| match Template::parse(text) {
            Ok(template) if template.is_expression() => Ok(template),
            Ok(_) => {
                let help = "write `${{ response.body.errcode != 0 }}`";
                Err(WithProblem::new("/fail_if", "`fail_if` is one whole expression").help(help))
            }
            Err(error) => Err(WithProblem::from(error).under("/fail_if")),
        });
        let accept = with.accept_status.map(|list| list.into_iter().map(|RawStatus(accept)| accept).collect());
        Ok(Self {
            accept: accept.unwrap_or_else(|| vec![Accept::Hundred(2)]),
            fail_if: fail_if.transpose().map_err(|problem| vec![problem])?,
        })
    }

    /// What its expressions look up, the answer itself left out.
    pub(in crate::tasks) fn names(&self) -> Vec<Place> {
        self.places().filter(|place| !is_of_answer(place)).collect()
    }

    /// What its expressions look up in the answer.
    pub(in crate::tasks) fn of_answer(&self) -> Vec<Place> {
        self.places().filter(is_of_answer).collect()
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let names = self.fail_if.iter().flat_map(Template::names);
        names.map(|name| Place { pointer: "/fail_if".to_owned(), name })
    }

    /// Whether the answer is what was wanted: its `{ status, headers, body }` with secrets masked, or why not.
    pub(in crate::tasks) fn judge(
        &self,
        ctx: &TaskContext<'_>,
        method: &Method,
        response: &Response,
        masker: &Masker,
    ) -> Result<Value, Failure> {
        let status = response.status.as_u16();
        let content_type = response.header("content-type").unwrap_or_default();
        let mut output = json!({
            "status": status,
            "headers": joined(&response.headers),
            "body": body::read(content_type, &response.body),
        });
        if !masker.is_empty() {
            output = masker.mask_json(output);
        }
        let far = |code, what: String| {
            let fault = if matches!(status, 401 | 403) { Fault::Config } else { Fault::Far };
            let after = response.header("retry-after").and_then(|text| retry_after(text, ctx.clock.now()));
            // Behind a redirect a status says nothing of the call that was sent first.
            let class = if response.redirects.is_empty() { Class::Status(status) } else { Class::Other };
            let failure = Failure::new(code, fault, what).retriable(class, after).sent(Sent::Maybe);
            at_connection(failure.at(response.url.host_str().unwrap_or("-")), ctx)
        };
        let shown = masker.mask(response.url.path()).into_owned();
        if !self.accept.iter().any(|accept| accept.covers(status)) {
            let what = format!("`{method} {shown}` was answered {}{}", response.status, quoted(&output["body"]));
            let failure = far("http.status", what);
            return Err(match status {
                401 | 403 => failure.help("check the credentials of the connection, and what they may do"),
                _ => failure,
            });
        }
        if let Some(condition) = &self.fail_if {
            let values = ctx.values.clone().with(RESPONSE, output.clone());
            if condition.is_true(&values).map_err(|error| expression_failure(&error).sent(Sent::Maybe))? {
                let what = format!(
                    "`{method} {shown}` was answered {} but `fail_if` says it failed{}",
                    response.status,
                    quoted(&output["body"])
                );
                return Err(far("http.fail_if", what));
            }
        }
        Ok(output)
    }
}

/// Whether an expression looks at the answer there.
pub(super) fn is_of_answer(place: &Place) -> bool {
    place.name.path.first().is_some_and(|root| root == RESPONSE)
}

/// Headers as expressions see them: one member a name, repeats as a list (RFC 9110 section 5.3).
pub(in crate::tasks) fn joined(headers: &[(String, String)]) -> Value {
    let mut members = Map::new();
    for (name, value) in headers {
        match members.get_mut(name) {
            Some(Value::String(list)) => {
                list.push_str(", ");
                list.push_str(value);
            }
            _ => {
                members.insert(name.clone(), Value::String(value.clone()));
            }
        }
    }
    Value::Object(members)
}

impl JsonSchema for RawStatus {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "a status such as `200`, or a hundred of them such as `2xx`",
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "string", "pattern": "^[1-5]xx$" },
            ],
            "examples": [200, "2xx"],
        })
    }
}

impl<'de> Deserialize<'de> for RawStatus {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let code = || value.as_u64().and_then(|code| u16::try_from(code).ok()).map(Accept::Code);
        let hundred = || value.as_str()?.strip_suffix("xx")?.parse().ok().map(Accept::Hundred);
        code().or_else(hundred).map(Self).ok_or_else(|| serde::de::Error::custom("a status is `200` or `2xx`"))
    }
}

impl Accept {
    fn covers(self, status: u16) -> bool {
        match self {
            Self::Code(code) => code == status,
            Self::Hundred(hundred) => status / 100 == hundred,
        }
    }
}
