//! `paginate`: one call that goes on until the far end has no more pages.
//!
//! Each page is an attempt of its own, so retries, time limits, quotas and records are those of a single call, and a page
//! that failed is tried again where it was. The position is the checkpoint of the task; the items read so far are kept
//! by the client, in memory. After a restart of the process they are gone, and the task begins at the first page: only
//! reading methods can be paginated, so that this repeats nothing but reading.

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::answer::{RESPONSE, is_of_answer};
use super::{link, printed};
use crate::domain::attempt::Pause;
use crate::domain::failure::{Failure, Fault, Sent};
use crate::domain::masking::Masker;
use crate::expr::{Context, Kind, Place, Template};
use crate::limits;
use crate::outbound::{Request, Response};
use crate::tasks::{Attempted, Done, TaskContext, WithProblem, expression_failure, read_with};

/// Settings of a call that reads many pages.
#[derive(Debug, Deserialize, JsonSchema)]
pub(in crate::tasks) struct RawPages {
    /// Reads page after page; the output is then `{ items, pages, status }`.
    paginate: Option<RawPaginate>,
}

/// How pages follow each other.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawPaginate {
    /// How the next page is named.
    style: Style,
    /// The query parameter that names the page: `page`, `offset` or `cursor` when left out.
    into: Option<String>,
    /// Where the answer holds the next cursor, for `style: cursor`. None, or an empty one, ends the pages; one that
    /// begins with `?` takes the place of the whole query.
    next: Option<String>,
    /// The list of a page's items in its answer.
    items: String,
    /// Ends the pages when true, after the page that says so.
    until: Option<String>,
    /// The number of the first page, for `style: page`: 1 when left out.
    first: Option<u32>,
    /// The most pages; more fail the task. 100 when left out.
    #[schemars(range(min = 1, max = 10_000))]
    max_pages: Option<u32>,
}

/// How the next page is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Style {
    /// By its number, until a page has no items.
    Page,
    /// By the number of items before it, until a page has no items.
    Offset,
    /// By a cursor in the answer before.
    Cursor,
    /// By a `Link` header with `rel="next"` (RFC 8288). It cannot lead away from the connection.
    Link,
}

/// How pages follow each other, read from the settings.
#[derive(Debug)]
pub(in crate::tasks) struct Paginate {
    style: Style,
    into: String,
    next: Option<Template>,
    items: Template,
    until: Option<Template>,
    first: u32,
    pages_max: u32,
}

/// What a task remembers between two pages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::tasks) struct Position {
    /// Pages that were read.
    pages: u32,
    /// Where the next one is.
    at: Option<Target>,
}

/// A page that was taken in.
#[derive(Debug)]
pub(in crate::tasks) struct Turned {
    pub(in crate::tasks) items: Vec<Value>,
    /// Where the next page is; the pages end here when there is none.
    pub(in crate::tasks) next: Option<Target>,
}

/// Where a page is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::tasks) enum Target {
    /// At the call's own URL, with this query parameter.
    Parameter(String, String),
    /// At the call's own path, with this query.
    Query(String),
    /// At this URL.
    Url(String),
}

impl Paginate {
    /// Reads the settings from a task's `with`, when there are any.
    pub(in crate::tasks) fn read(raw: &Value, method: &Method) -> Result<Option<Self>, Vec<WithProblem>> {
        let RawPages { paginate: Some(with) } = read_with(raw)? else { return Ok(None) };
        let mut problems = Vec::new();
        let mut expression = |key: &str, text: &str| match Template::parse(text) {
            Ok(template) if template.is_expression() => Some(template),
            Ok(_) => {
                let message = format!("`{key}` is one whole expression");
                let help = format!("write `{key}: ${{{{ response.body.… }}}}`");
                problems.push(WithProblem::new(format!("/paginate/{key}"), message).help(help));
                None
            }
            Err(error) => {
                problems.push(WithProblem::from(error).under(&format!("/paginate/{key}")));
                None
            }
        };
        let items = expression("items", &with.items);
        let next = with.next.as_deref().and_then(|text| expression("next", text));
        let until = with.until.as_deref().and_then(|text| expression("until", text));
        if (with.style == Style::Cursor) != with.next.is_some() {
            let (message, help) = match with.style {
                Style::Cursor => ("`style: cursor` wants `next`", "say where the answer holds the next cursor"),
                _ => ("`next` goes with `style: cursor` only", "remove it, or change the `style`"),
            };
            problems.push(WithProblem::new("/paginate", message).help(help));
        }
        for (key, given, styles) in [
            ("first", with.first.is_some(), &[Style::Page][..]),
            ("into", with.into.is_some(), &[Style::Page, Style::Offset, Style::Cursor]),
        ] {
            if given && !styles.contains(&with.style) {
                let message = format!("`{key}` does nothing with this `style`");
                problems.push(WithProblem::new(format!("/paginate/{key}"), message).help("remove it"));
            }
        }
        if ![Method::GET, Method::POST].contains(method) {
            let message = format!("`{method}` does not read, so it has no pages");
            problems.push(
                WithProblem::new("/paginate", message).help("pages are read by `GET`, or by a `POST` that searches"),
            );
        }
        if raw.get("idempotency_key").is_some() {
            let message = "with one idempotency key all pages would be the same request";
            problems.push(WithProblem::new("/idempotency_key", message).help("remove it: reading needs none"));
        }
        let Some(items) = items.filter(|_| problems.is_empty()) else { return Err(problems) };
        let into = with.into.unwrap_or_else(|| {
            let name = match with.style {
                Style::Page => "page",
                Style::Offset => "offset",
                Style::Cursor | Style::Link => "cursor",
            };
            name.to_owned()
        });
        Ok(Some(Self {
            style: with.style,
            into,
            next,
            items,
            until,
            first: with.first.unwrap_or(1),
            pages_max: with.max_pages.unwrap_or(limits::PAGES_DEFAULT),
        }))
    }

    /// What its expressions look up, the answer itself left out.
    pub(in crate::tasks) fn names(&self) -> Vec<Place> {
        self.places().into_iter().filter(|place| !is_of_answer(place)).collect()
    }

    /// What its expressions look up in the answer.
    pub(in crate::tasks) fn of_answer(&self) -> Vec<Place> {
        self.places().into_iter().filter(is_of_answer).collect()
    }

    fn places(&self) -> Vec<Place> {
        let parts = [("next", self.next.as_ref()), ("items", Some(&self.items)), ("until", self.until.as_ref())];
        let of = |(key, template): (&str, Option<&Template>)| {
            let names = template.into_iter().flat_map(Template::names);
            names.map(|name| Place { pointer: format!("/paginate/{key}"), name }).collect::<Vec<_>>()
        };
        parts.into_iter().flat_map(of).collect()
    }

    /// Where the task stands: behind the pages that it remembers, or at the beginning.
    pub(in crate::tasks) fn position(&self, ctx: &TaskContext<'_>) -> Position {
        let known = ctx.checkpoint.and_then(|left| serde_json::from_value::<Position>(left.clone()).ok());
        let known = known.filter(|known| ctx.client.gathered().has(ctx.idempotency_key, known.pages).is_some());
        known.unwrap_or_else(|| self.first_page())
    }

    /// The first page.
    pub(in crate::tasks) fn first_page(&self) -> Position {
        Position { pages: 0, at: self.beginning() }
    }

    fn beginning(&self) -> Option<Target> {
        match self.style {
            Style::Page => Some(Target::Parameter(self.into.clone(), self.first.to_string())),
            Style::Offset => Some(Target::Parameter(self.into.clone(), "0".to_owned())),
            Style::Cursor | Style::Link => None,
        }
    }

    /// Takes a page in: the task is over with it, or goes on at the next one.
    pub(in crate::tasks) fn take_in(
        &self,
        ctx: &TaskContext<'_>,
        position: &Position,
        page: &Page<'_>,
    ) -> Result<(Done, Option<Position>), Failure> {
        let gathered = ctx.client.gathered();
        let before =
            if position.pages == 0 { 0 } else { gathered.has(ctx.idempotency_key, position.pages).unwrap_or(0) };
        let Turned { items, next } = self.turn(position, page, before)?;
        let next = self.position_of(position, next).inspect_err(|_| {
            gathered.take(ctx.idempotency_key);
        })?;
        let bytes = serde_json::to_vec(&items).map_or(0, |text| text.len());
        let pages = position.pages + 1;
        let all = gathered.add(ctx.idempotency_key, position.pages, items, bytes);
        if all > limits::TASK_OUTPUT_BYTES_MAX {
            gathered.take(ctx.idempotency_key);
            let message =
                format!("the items of {pages} pages have {all} bytes, more than {}", limits::TASK_OUTPUT_BYTES_MAX);
            let failure = Failure::new("task.output_too_large", Fault::Config, message).sent(Sent::Maybe);
            return Err(failure.help("take only what is needed into `items`, or ask for less"));
        }
        if next.is_some() {
            return Ok((next_page(ctx, pages), next));
        }
        let items = gathered.take(ctx.idempotency_key).items;
        Ok((Done::Output(json!({ "items": items, "pages": pages, "status": page.output["status"] })), None))
    }

    /// What the page at `position` holds, behind `before` items of other pages, and where the next one is.
    pub(in crate::tasks) fn turn(
        &self,
        position: &Position,
        page: &Page<'_>,
        before: usize,
    ) -> Result<Turned, Failure> {
        let values = page.ctx.values.clone().with(RESPONSE, page.output.clone());
        let failed = |error| expression_failure(&error).sent(Sent::Maybe);
        let Value::Array(items) = self.items.eval(&values).map_err(failed)? else {
            return Err(bad(
                "`items` of `paginate` is no list in this answer",
                "say where the list is; `| default([])`",
            ));
        };
        let said_last = self.until.as_ref().map(|until| until.is_true(&values)).transpose().map_err(failed)?;
        let next = match said_last {
            Some(true) => None,
            _ => self.next(page, &values, before, items.len(), position)?,
        };
        Ok(Turned { items, next })
    }

    /// The position of the page behind the one at `position`, when there is one and it may still be read.
    pub(in crate::tasks) fn position_of(
        &self,
        position: &Position,
        next: Option<Target>,
    ) -> Result<Option<Position>, Failure> {
        let pages = position.pages + 1;
        if next.is_some() && pages >= self.pages_max {
            let message = format!("there are more than {} pages", self.pages_max);
            return Err(bad(&message, "raise `max_pages`, ask for larger pages, or for less"));
        }
        Ok(next.map(|at| Position { pages, at: Some(at) }))
    }

    fn next(
        &self,
        page: &Page<'_>,
        values: &Context,
        before: usize,
        count: usize,
        position: &Position,
    ) -> Result<Option<Target>, Failure> {
        let parameter = |value: String| Target::Parameter(self.into.clone(), value);
        let next = match self.style {
            Style::Page | Style::Offset if count == 0 => None,
            Style::Page => Some(parameter((u64::from(self.first) + u64::from(position.pages) + 1).to_string())),
            Style::Offset => Some(parameter((before + count).to_string())),
            Style::Cursor => {
                let cursor = match self.next.as_ref().map(|next| next.eval(values)) {
                    None => Value::Null,
                    Some(Ok(cursor)) => cursor,
                    // The last page often has no such member at all.
                    Some(Err(error)) if error.kind == Kind::Undefined => Value::Null,
                    Some(Err(error)) => return Err(expression_failure(&error).sent(Sent::Maybe)),
                };
                match printed(&cursor) {
                    cursor if cursor.is_empty() => None,
                    cursor if cursor.starts_with('?') => Some(Target::Query(cursor)),
                    cursor => Some(parameter(cursor)),
                }
            }
            Style::Link => {
                let headers = page.response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("link"));
                match link::next(headers.map(|(_, value)| value.as_str())) {
                    None => None,
                    Some(link) => Some(page.linked(link)?),
                }
            }
        };
        if next.is_some() && next == position.at {
            return Err(bad(
                "the far end names the page that was just read as the next one",
                "check `next`, or the far end",
            ));
        }
        Ok(next)
    }
}

/// A page that was read and found good.
pub(in crate::tasks) struct Page<'p> {
    pub(in crate::tasks) response: &'p Response,
    /// `{ status, headers, body }`, secrets masked.
    pub(in crate::tasks) output: &'p Value,
    pub(in crate::tasks) masker: &'p Masker,
    /// The URL of the call as its settings say.
    pub(in crate::tasks) called: &'p Url,
    pub(in crate::tasks) ctx: &'p TaskContext<'p>,
}

impl Page<'_> {
    /// The URL of a link, when it stays where the call went.
    fn linked(&self, link: &str) -> Result<Target, Failure> {
        let help = "a next page is behind the `base_url` of the connection, or on the host of the `url`";
        let url = self.response.url.join(link).map_err(|_| bad("the `Link` to the next page is no URL", help))?;
        if !self.may_follow(&url) {
            return Err(bad("the `Link` to the next page leads to another place", help));
        }
        if self.masker.mask(url.as_str()) != url.as_str() {
            return Err(bad("the `Link` to the next page holds a secret, which is not kept", help));
        }
        Ok(Target::Url(url.into()))
    }

    fn may_follow(&self, url: &Url) -> bool {
        match self.ctx.connection {
            Some(connection) => connection.base_url.holds(url),
            None => url.origin() == self.called.origin(),
        }
    }
}

impl Position {
    /// Pages that were read before.
    pub(in crate::tasks) fn pages(&self) -> u32 {
        self.pages
    }

    /// Makes `request` ask for the page at this position.
    pub(in crate::tasks) fn apply(&self, request: &mut Request) {
        match &self.at {
            None => {}
            Some(Target::Parameter(name, value)) => {
                let mut pairs: Vec<_> =
                    request.url.query_pairs().into_owned().filter(|(there, _)| there != name).collect();
                pairs.push((name.clone(), value.clone()));
                request.url.query_pairs_mut().clear().extend_pairs(pairs);
            }
            Some(Target::Query(query)) => request.url.set_query(query.strip_prefix('?')),
            Some(Target::Url(url)) => {
                if let Ok(url) = Url::parse(url) {
                    request.url = url;
                }
            }
        }
    }
}

/// Keeps what a task remembers with how its attempt ended: a page that failed is read again from where it is.
pub(in crate::tasks) fn remember(mut attempted: Attempted, old: &Position, new: Option<&Position>) -> Attempted {
    let kept = new.unwrap_or(old);
    attempted.checkpoint = match attempted.result {
        Ok(Done::Output(_)) => None,
        Ok(Done::Later { .. }) | Err(_) => serde_json::to_value(kept).ok(),
    };
    attempted
}

/// The task goes on at once with the page behind `pages` others.
pub(in crate::tasks) fn next_page(ctx: &TaskContext<'_>, pages: u32) -> Done {
    Done::Later { at: ctx.clock.now(), why: Pause::Page { number: pages + 1 } }
}

fn bad(message: &str, help: &str) -> Failure {
    Failure::new("http.pages", Fault::Config, message).help(help).sent(Sent::Maybe)
}
