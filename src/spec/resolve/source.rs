//! One source: what is asked and with which keys, and the routes that its deliveries take.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::Callees;
use super::desk::Desk;
use super::redact;
use super::route::{dedupe, inputs, tell_redacted, workflow};
use super::scope::{Scope, Where};
use crate::domain::duration;
use crate::id::{Revision, RouteName, SourceName};
use crate::limits;
use crate::outbound::parse_url;
use crate::spec::raw;
use crate::spec::source_map::Path;
use crate::spec::structure::Item;
use crate::tasks::plan::{AccessKeyId, Dedupe, Parts, RoutePlan, SourceKind, SourcePlan, Sqs, Unwrap, Verify};

/// What nobody is told: a source has no caller that waits for an answer.
const STATUS: u16 = 200;

/// Makes a source and its routes runnable. `None` when one of them is not; why is told.
pub(in crate::spec) fn resolve_source(
    desk: &mut Desk<'_>,
    item: &Item<raw::Source>,
    callees: Callees<'_>,
    revision: &Revision,
) -> Option<(SourcePlan, Vec<RoutePlan>)> {
    let raw = item.raw.as_ref()?;
    let path = &item.path;
    let errors = desk.errors();
    let name = desk.name(&path.with("name"), SourceName::new(&raw.name));
    let kind = kind(desk, path, raw);
    let own = Own { name: name.as_ref(), kind: kind.as_ref(), raw, revision };
    let routes: Vec<_> = raw
        .routes
        .iter()
        .enumerate()
        .filter_map(|(place, route)| own.route(desk, path, &path.with("routes").with(place), route, callees))
        .collect();
    if routes.len() > 1 {
        tell_unfiltered(desk, path, raw);
    }
    if desk.errors() > errors {
        return None;
    }
    let names = routes.iter().map(|route| route.name.clone()).collect();
    Some((SourcePlan { name: name?, kind: kind?, enabled: raw.enabled, routes: names }, routes))
}

/// What the routes of a source share.
struct Own<'o> {
    name: Option<&'o SourceName>,
    kind: Option<&'o SourceKind>,
    raw: &'o raw::Source,
    revision: &'o Revision,
}

impl Own<'_> {
    fn route(
        &self,
        desk: &mut Desk<'_>,
        source: &Path,
        path: &Path,
        raw: &raw::SourceRoute,
        callees: Callees<'_>,
    ) -> Option<RoutePlan> {
        let scope = Scope::of_trigger(Where::Route);
        let name = desk.name(&path.with("name"), RouteName::new(&raw.name));
        let workflow = workflow(desk, path, &raw.workflow, callees);
        let filter = match &raw.filter {
            Some(raw::Condition::Fixed(true)) => None,
            filter => desk.condition(&path.with("filter"), filter.as_ref(), &scope),
        };
        let dedupe = self.dedupe(desk, source, &scope);
        let redact = redact::paths(desk, &path.with("redact"), &raw.redact);
        let inputs = inputs(desk, path, &raw.inputs, &raw.workflow, callees, &scope);
        if let Some(inputs) = &inputs {
            tell_redacted(desk, &path.with("inputs"), &raw.redact, &raw.inputs, inputs);
        }
        Some(RoutePlan {
            name: name?,
            revision: self.revision.clone(),
            path: SourcePlan::path(self.name?),
            verify: Verify::Fetched(self.kind?.name()),
            filter,
            dedupe,
            body_bytes_max: limits::SQS_ANSWER_BYTES_MAX,
            rate: None,
            concurrency: Desk::count(raw.limits.as_ref().and_then(|limits| limits.concurrency)),
            allow_ip: Vec::new(),
            redact,
            respond_status: STATUS,
            workflow: workflow?,
            inputs: inputs?,
            enabled: raw.enabled,
            paused: raw.paused,
            subscription: None,
            parts: self.parts(raw),
        })
    }

    fn dedupe(&self, desk: &mut Desk<'_>, path: &Path, scope: &Scope<'_>) -> Dedupe {
        let raw = self.raw.dedupe.as_ref();
        let guarded = raw.is_some_and(|raw| raw.replay_guard == Some(raw::ReplayGuard::Body));
        dedupe(desk, path, raw, scope, limits::SQS_DEDUPE_WINDOW, guarded)
    }

    /// What is written, key by key: that of the source is said with each of its routes.
    fn parts(&self, raw: &raw::SourceRoute) -> Parts {
        let written = [
            ("source", format!("{:?}{:?}", self.raw.sqs, self.raw.enabled)),
            ("dedupe", format!("{:?}", self.raw.dedupe)),
            ("filter", format!("{:?}", raw.filter)),
            ("limits", format!("{:?}", raw.limits)),
            ("redact", format!("{:?}", raw.redact)),
            ("workflow", format!("{:?}", raw.workflow)),
            ("inputs", format!("{:?}", raw.inputs)),
            ("enabled", format!("{:?}", raw.enabled)),
            ("paused", format!("{:?}", raw.paused)),
        ];
        written.into_iter().map(|(key, text)| (key, Revision::of(text.as_bytes()))).collect()
    }
}

/// Tells several routes of which not all have a filter: every delivery starts those.
fn tell_unfiltered(desk: &mut Desk<'_>, path: &Path, raw: &raw::Source) {
    let Some(place) = raw.routes.iter().position(|route| route.filter.is_none()) else { return };
    let message = format!("the source `{}` has several routes, and not all have a filter", raw.name);
    let problem = desk.problem("spec.same_path", message, desk.map.entry(&path.with("routes").with(place))).warning();
    desk.push(problem.help("give each a `filter`, unless every delivery is meant to start this one"));
}

fn kind(desk: &mut Desk<'_>, path: &Path, raw: &raw::Source) -> Option<SourceKind> {
    if let Some(sqs) = &raw.sqs {
        return queue(desk, &path.with("sqs"), sqs).map(|sqs| SourceKind::Sqs(Arc::new(sqs)));
    }
    let message = "a source says where its deliveries are fetched";
    let problem = desk.problem("spec.missing_key", message, desk.map.entry(path));
    desk.push(problem.help("add `sqs: { queue_url: …, access_key_id: …, secret_access_key: { secret_ref: NAME } }`"));
    None
}

fn queue(desk: &mut Desk<'_>, path: &Path, raw: &raw::Sqs) -> Option<Sqs> {
    let url = queue_url(desk, &path.with("queue_url"), &raw.queue_url);
    let region = region(desk, path, raw, url.as_ref());
    let access_key_id = match &raw.access_key_id {
        raw::TextOrSecret::Text(text) if !is_key_id(text) => {
            let help = "write the id of the key, such as `AKIA…`, and its secret under `secret_access_key`";
            desk.bad_value(&path.with("access_key_id"), "an access key id is upper-case letters and digits", help);
            None
        }
        raw::TextOrSecret::Text(text) => Some(AccessKeyId::Plain(text.clone())),
        raw::TextOrSecret::Secret(secret) => desk.secret(&path.with("access_key_id"), secret).map(AccessKeyId::Secret),
    };
    let secret_access_key = desk.secret(&path.with("secret_access_key"), &raw.secret_access_key);
    let session_token = raw.session_token.as_ref().map(|token| desk.secret(&path.with("session_token"), token));
    let visibility = visibility(desk, &path.with("visibility_timeout"), raw.visibility_timeout.as_ref());
    let unwrap = raw.unwrap.map(|unwrap| match unwrap {
        raw::Unwrap::Sns => Unwrap::Sns,
        raw::Unwrap::Eventbridge => Unwrap::EventBridge,
    });
    Some(Sqs {
        queue_url: url?,
        region: region?,
        access_key_id: access_key_id?,
        secret_access_key: secret_access_key?,
        session_token: session_token.flatten(),
        unwrap,
        visibility: visibility?,
    })
}

fn is_key_id(text: &str) -> bool {
    (16..=128).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

fn queue_url(desk: &mut Desk<'_>, path: &Path, text: &str) -> Option<Url> {
    const HELP: &str = "write the URL that the console shows for the queue, such as \
                        `https://sqs.us-east-1.amazonaws.com/123456789012/spapi`";
    let url = match parse_url(text) {
        Ok(url) => url,
        Err(cause) => {
            desk.bad_value(path, &cause.to_string(), HELP);
            return None;
        }
    };
    let named = url.path_segments().is_some_and(|mut parts| parts.next_back().is_some_and(|name| !name.is_empty()));
    if !named || url.query().is_some() {
        desk.bad_value(path, "this is not the URL of a queue", HELP);
        return None;
    }
    let local = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        _ => url.host_str() == Some("localhost"),
    };
    if url.scheme() != "https" && !local {
        desk.bad_value(path, "messages would come over a line that anyone on it can read and change", HELP);
        return None;
    }
    Some(url)
}

/// The region that is written, or that the usual hosts name.
/// <https://docs.aws.amazon.com/general/latest/gr/sqs-service.html>
fn region(desk: &mut Desk<'_>, path: &Path, raw: &raw::Sqs, url: Option<&Url>) -> Option<String> {
    let is_region = |text: &str| {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        text.len() > 3 && text.len() < 40 && text.contains('-') && text.bytes().all(plain)
    };
    if let Some(region) = &raw.region {
        if !is_region(region) {
            desk.bad_value(&path.with("region"), "this is not a region", "write it like `region: us-east-1`");
            return None;
        }
        return Some(region.clone());
    }
    let host = url?.host_str()?.to_owned();
    let mut parts = host.split('.');
    let named = match (parts.next(), parts.next()) {
        (Some("sqs" | "sqs-fips"), Some(region)) | (Some(region), Some("queue")) => Some(region.to_owned()),
        _ => None,
    };
    let named = named.filter(|region| is_region(region) && host.contains(".amazonaws.com"));
    if named.is_none() {
        let message = format!("the region of `{host}` cannot be read from its name");
        let problem = desk.problem("spec.missing_key", message, desk.map.key(path, "queue_url"));
        desk.push(problem.help("add `region: us-east-1`, with the region of the queue"));
    }
    named
}

fn visibility(desk: &mut Desk<'_>, path: &Path, raw: Option<&raw::Duration>) -> Option<Duration> {
    let Some(_) = raw else { return Some(limits::SQS_VISIBILITY) };
    let time = desk.duration(path, raw)?;
    let (least, most) = (limits::SQS_VISIBILITY_MIN, limits::SQS_VISIBILITY_MAX);
    if time < least || time > most || time.subsec_nanos() != 0 {
        let (least, most) = (duration::format(least), duration::format(most));
        let sentence =
            format!("expected whole seconds between `{least}` and `{most}`, found `{}`", duration::format(time));
        desk.bad_value(path, &sentence, "write it like `visibility_timeout: 1m`");
        return None;
    }
    Some(time)
}
