//! One route: the path, who may call it, what it makes of a delivery.

use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::desk::{Desk, entry};
use super::scope::{Scope, Where};
use super::{Callees, redact, subscription, verify};
use crate::expr::Mapping;
use crate::id::{Revision, RouteName, WorkflowName};
use crate::limits;
use crate::spec::raw;
use crate::spec::source_map::Path;
use crate::spec::structure::Item;
use crate::spec::words;
use crate::tasks::plan::{Dedupe, DedupeKey, Parts, RateLimit, RoutePlan};

/// What a sender is told on success when the route does not say.
const STATUS: u16 = 202;

/// Schemes that sign a body and neither the time nor the id: whoever saw one delivery can bring it again under a new
/// id, so a known body under a new id is suspect. `generic_hmac` belongs here unless its template holds the time. The
/// schemes that sign a time refuse an old delivery themselves, and those that sign nothing (a password, a token) cannot
/// tell a replay from an order that looks like another.
const GUARDED: &[&str] =
    &["shopify", "github", "woocommerce", "generic_hmac", "tiktok_shop", "shopee", "lazada", "walmart_hmac"];

/// Makes a route runnable. `None` when it is not; why is told.
pub(in crate::spec) fn resolve_route(
    desk: &mut Desk<'_>,
    item: &Item<raw::Route>,
    callees: Callees<'_>,
    revision: &Revision,
) -> Option<RoutePlan> {
    let raw = item.raw.as_ref()?;
    let path = &item.path;
    let errors = desk.errors();
    let scope = Scope::of_trigger(Where::Route);
    check_path(desk, &path.with("path"), &raw.path);
    let name = name(desk, path, raw);
    let workflow = workflow(desk, path, &raw.workflow, callees);
    let verify = verify::resolve(desk, &path.with("verify"), &raw.verify, &raw.workflow);
    let subscription = subscription::resolve(desk, path, raw, verify.as_ref());
    let filter = match &raw.filter {
        Some(raw::Condition::Fixed(true)) => None,
        filter => desk.condition(&path.with("filter"), filter.as_ref(), &scope),
    };
    let guarded = is_guarded(&raw.verify);
    let dedupe = dedupe(desk, path, raw.dedupe.as_ref(), &scope, limits::DEDUPE_WINDOW, guarded);
    let limits = Limits::resolve(desk, &path.with("limits"), raw.limits.as_ref());
    let allow_ip = networks(desk, &path.with("allow_ip"), raw.allow_ip.as_deref());
    let redact = redact::paths(desk, &path.with("redact"), &raw.redact);
    let inputs = inputs(desk, path, &raw.inputs, &raw.workflow, callees, &scope);
    if let Some(inputs) = &inputs {
        tell_redacted(desk, &path.with("inputs"), &raw.redact, &raw.inputs, inputs);
    }
    if desk.errors() > errors {
        return None;
    }
    Some(RoutePlan {
        name: name?,
        revision: revision.clone(),
        path: raw.path.clone(),
        verify: verify?,
        filter,
        dedupe,
        body_bytes_max: limits.body_bytes_max,
        rate: limits.rate,
        concurrency: limits.concurrency,
        allow_ip,
        redact,
        respond_status: raw.respond.as_ref().and_then(|respond| respond.status).unwrap_or(STATUS),
        workflow: workflow?,
        inputs: inputs?,
        subscription,
        enabled: raw.enabled,
        paused: raw.paused,
        parts: parts(raw),
    })
}

/// What is written, key by key.
fn parts(raw: &raw::Route) -> Parts {
    let written = [
        ("path", format!("{:?}", raw.path)),
        ("verify", format!("{:?}", raw.verify)),
        ("filter", format!("{:?}", raw.filter)),
        ("dedupe", format!("{:?}", raw.dedupe)),
        ("limits", format!("{:?}", raw.limits)),
        ("allow_ip", format!("{:?}", raw.allow_ip)),
        ("redact", format!("{:?}", raw.redact)),
        ("respond", format!("{:?}", raw.respond)),
        ("workflow", format!("{:?}", raw.workflow)),
        ("inputs", format!("{:?}", raw.inputs)),
        ("sweep", format!("{:?}", raw.sweep)),
        ("subscription", format!("{:?}", raw.subscription)),
        ("enabled", format!("{:?}", raw.enabled)),
        ("paused", format!("{:?}", raw.paused)),
    ];
    written.into_iter().map(|(key, text)| (key, Revision::of(text.as_bytes()))).collect()
}

fn check_path(desk: &mut Desk<'_>, path: &Path, text: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~!$&'()+,;=:@".contains(c);
    let (sentence, help) = if let Some((before, _)) = text.split_once(['?', '#']) {
        (
            "a path has no query and no fragment".to_owned(),
            format!("write `{}` and look at `query` in `filter`", entry(path, before)),
        )
    } else if !text.starts_with('/') {
        let text = text.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or(text, |(_, path)| path);
        ("a path starts with `/`".to_owned(), format!("write `{}`", entry(path, &format!("/{text}"))))
    } else if let Some(c) = text.chars().find(|c| !plain(*c)) {
        let help = "use letters, digits, `-`, `_`, `.`, `~` and `/`; a path has no wildcards".to_owned();
        (format!("the character `{c}` cannot stand in a path"), help)
    } else if text.len() > 1 && text[1..].split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        (
            "a path has no empty, `.` or `..` part and no `/` at its end".to_owned(),
            format!("write it like `{}`", entry(path, "/hooks/shopify/orders")),
        )
    } else {
        return;
    };
    desk.bad_value(path, &sentence, help);
}

/// The route's own name, or one made from its path: `/hooks/shopify/us` is `hooks-shopify-us`.
fn name(desk: &mut Desk<'_>, path: &Path, raw: &raw::Route) -> Option<RouteName> {
    let (place, text) = match &raw.name {
        Some(name) => (path.with("name"), name.clone()),
        None => (path.with("path"), made_name(&raw.path)),
    };
    if raw.name.is_none() && RouteName::new(&text).is_err() {
        let problem = desk.at("spec.name", "no name can be made from this path", &place);
        desk.push(problem.help("add a `name:`"));
        return None;
    }
    desk.name(&place, RouteName::new(&text))
}

/// The name of a route that has none.
pub(super) fn made_name(path: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    path.chars().map(plain).collect::<String>().trim_matches(['-', '.', '_']).to_owned()
}

pub(super) fn workflow(desk: &mut Desk<'_>, path: &Path, name: &str, callees: Callees<'_>) -> Option<WorkflowName> {
    let here = path.with("workflow");
    if let Some(callees) = callees
        && !callees.iter().any(|callee| callee.name == name)
    {
        let known: Vec<&str> = callees.iter().map(|callee| callee.name.as_str()).collect();
        desk.unknown("spec.unknown_workflow", format!("there is no workflow `{name}`"), &here, name, &known);
        return None;
    }
    desk.name(&here, WorkflowName::new(name))
}

/// The inputs that a trigger gives, held against those that the workflow declares.
pub(super) fn inputs(
    desk: &mut Desk<'_>,
    path: &Path,
    given: &Map<String, Value>,
    workflow: &str,
    callees: Callees<'_>,
    scope: &Scope<'_>,
) -> Option<Mapping> {
    let here = path.with("inputs");
    check_inputs(desk, path, given, workflow, callees);
    desk.mapping(&here, &Value::Object(given.clone()), scope)
}

/// Tells inputs that a workflow does not take, and those that it needs and does not get.
pub(super) fn check_inputs(
    desk: &mut Desk<'_>,
    path: &Path,
    given: &Map<String, Value>,
    workflow: &str,
    callees: Callees<'_>,
) {
    let callee = callees.and_then(|callees| callees.iter().find(|callee| callee.name == workflow));
    let Some(callee) = callee else { return };
    let here = path.with("inputs");
    let known: Vec<&str> = callee.inputs.iter().map(|(name, _)| name.as_str()).collect();
    for (name, value) in given {
        let Some((_, declared)) = callee.inputs.iter().find(|(known, _)| known == name) else {
            let message = format!("the workflow `{}` has no input `{name}`", callee.name);
            let problem = desk.problem("spec.unknown_input", message, desk.map.key(&here, name));
            let problem = match words::similar(name, known.iter().copied()) {
                Some(right) => problem.label(format!("did you mean `{right}`?")).help(format!("write `{right}:`")),
                None if known.is_empty() => problem.help("it declares none; remove the line, or declare it there"),
                None => problem.help(format!("it has {}", words::listed(&known, "and"))),
            };
            desk.push(problem);
            continue;
        };
        let Some(declared) = declared else { continue };
        let is_constant = value.as_str().is_none_or(|text| !text.contains("${{"));
        if is_constant && !value.is_null() && !declared.of.admits(value) {
            let of = declared.of.as_str();
            let sentence = format!("`{}` takes the type `{of}`, found {}", declared.name, words::found(value));
            desk.bad_value(&here.with(name.as_str()), &sentence, format!("write a value of type `{of}`"));
        }
    }
    for (name, declared) in &callee.inputs {
        let required = declared.as_ref().is_some_and(|input| input.required && input.default.is_none());
        if required && !given.contains_key(name) {
            let message = format!("the workflow `{}` requires the input `{name}`", callee.name);
            let span = if given.is_empty() { desk.map.key(path, "workflow") } else { desk.map.key(path, "inputs") };
            let problem = desk.problem("spec.missing_input", message, span).label(format!("`{name}` is not given"));
            let help = if given.is_empty() {
                format!("add `inputs: {{ {name}: … }}`")
            } else {
                format!("add `{name}: …` under `inputs`")
            };
            desk.push(problem.help(help));
        }
    }
}

/// `window_usual` and `guarded` rule when the file does not.
pub(super) fn dedupe(
    desk: &mut Desk<'_>,
    path: &Path,
    dedupe: Option<&raw::Dedupe>,
    scope: &Scope<'_>,
    window_usual: Duration,
    guarded: bool,
) -> Dedupe {
    let path = path.with("dedupe");
    let window = dedupe.and_then(|dedupe| desk.duration(&path.with("window"), dedupe.window.as_ref()));
    let key = dedupe.and_then(|dedupe| dedupe.key.as_deref());
    let key = key.and_then(|key| dedupe_key(desk, &path.with("key"), key, scope)).unwrap_or(DedupeKey::DeliveryId);
    let guard = dedupe.and_then(|dedupe| dedupe.replay_guard);
    let replay_guard = match guard {
        Some(guard) => guard == raw::ReplayGuard::Body,
        None => guarded,
    };
    Dedupe { key, window: window.unwrap_or(window_usual), replay_guard }
}

fn dedupe_key(desk: &mut Desk<'_>, path: &Path, text: &str, scope: &Scope<'_>) -> Option<DedupeKey> {
    const WORDS: &[&str] = &["delivery_id", "body"];
    match text {
        "delivery_id" => Some(DedupeKey::DeliveryId),
        "body" => Some(DedupeKey::Body),
        text if text.contains("{{") => desk.template(path, text, scope).map(DedupeKey::Expression),
        text => {
            let message = format!("`{text}` would be the same key for every delivery");
            let problem = desk.at("spec.value", message, path);
            let problem = match words::similar(text, WORDS.iter().copied()) {
                Some(right) => problem.label(format!("did you mean `{right}`?")).help(format!("write `key: {right}`")),
                None => problem.help("write `delivery_id`, `body`, or an expression such as `${{ body.id }}`"),
            };
            desk.push(problem);
            None
        }
    }
}

/// Whether suspected replays are flagged when the route does not say.
fn is_guarded(verify: &raw::Verify) -> bool {
    let raw::Verify::Preset(raw::VerifyPreset { preset, parameters }) = verify else { return false };
    let template = parameters.get("template").and_then(Value::as_str).unwrap_or_default();
    GUARDED.contains(&preset.as_str()) && !template.contains("{timestamp}")
}

/// Tells inputs that read what is blanked before they are made.
pub(super) fn tell_redacted(
    desk: &mut Desk<'_>,
    path: &Path,
    redact: &[String],
    given: &Map<String, Value>,
    inputs: &Mapping,
) {
    let given = Value::Object(given.clone());
    for place in inputs.names() {
        let Some((root, keys)) = place.name.path.split_first() else { continue };
        let Some(blanked) = redact::hit(redact, keys).filter(|_| root == "body") else { continue };
        let span = desk.blame(path, &given, &place.pointer, Some(&place.name.range));
        let message = format!("`redact` blanks `{blanked}` before this input is made of it");
        let problem = desk.problem("spec.redacted", message, span).label("this is `[redacted]`").warning();
        desk.push(problem.help("take it out of `redact`, or do without it here"));
    }
}

struct Limits {
    body_bytes_max: usize,
    rate: Option<RateLimit>,
    concurrency: Option<NonZeroU32>,
}

impl Limits {
    fn resolve(desk: &mut Desk<'_>, path: &Path, raw: Option<&raw::RouteLimits>) -> Self {
        let size = raw.and_then(|raw| raw.max_body.as_ref());
        let size = desk.size(&path.with("max_body"), size, limits::BODY_BYTES_CEILING);
        let rate = desk.rate_limit(path, raw.and_then(|raw| raw.rate.as_ref()), raw.and_then(|raw| raw.burst));
        let concurrency = Desk::count(raw.and_then(|raw| raw.concurrency));
        Self { body_bytes_max: size.unwrap_or(desk.body_bytes_max), rate, concurrency }
    }
}

fn networks(desk: &mut Desk<'_>, path: &Path, raw: Option<&[String]>) -> Vec<IpNet> {
    let Some(raw) = raw else { return Vec::new() };
    if raw.is_empty() {
        let problem = desk.at("spec.no_effect", "an empty list lets everyone call", path).warning();
        desk.push(problem.help("name the addresses that may call, or remove the line"));
    }
    raw.iter().enumerate().filter_map(|(index, text)| desk.network(&path.with(index), text)).collect()
}
