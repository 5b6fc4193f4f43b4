//! One webhook, straight through: find the route, verify the raw bytes, accept once, answer. Nothing parses a body
//! before its signature was checked.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::Gateway;
use super::refusals::Refused;
use super::routes::{DELIVERIES, Door, KeysError, Ready, over_rate};
use crate::domain::body;
use crate::domain::delivery::{Delivery, DeliveryKey, RouteRef};
use crate::domain::event::Accepted;
use crate::domain::masking::Masker;
use crate::domain::trigger::Trigger;
use crate::engine::{AcceptError, Intake, values};
use crate::expr::{Context, JsonPath};
use crate::id::{RouteName, RunId};
use crate::limits;
use crate::signature::{self, Answer, Headers, Part, Proof, Verdict, ip_allow};
use crate::store;
use crate::tasks::plan::{DedupeKey, RoutePlan, Verify};

/// A request at the hooks door.
#[derive(Debug)]
pub struct Inbound<'a> {
    /// What the signature covers.
    pub request: signature::Inbound<'a>,
    /// The same bytes, to keep.
    pub body: Bytes,
    /// The far end of the connection.
    pub peer: IpAddr,
}

/// What a sender is told when all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// These runs are on disk; a duplicate gets the same answer. `answer` is the platform's own, where it has one.
    Accepted { status: u16, runs: Vec<RunId>, duplicate: bool, answer: Option<Answer> },
    /// No route's filter wanted it: counted, and nothing started.
    Filtered { status: u16, answer: Option<Answer> },
    /// The platform tried the address.
    Handshake(Answer),
}

/// What a sender is told when nothing was accepted. It never says which check failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    /// Our word for it, for the counter and the kept copy.
    pub code: &'static str,
    /// The protocol's own words, where it has some.
    pub answer: Option<Box<Answer>>,
}

/// The kinds of refusal, as the sender sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// There is no route at this path, or it is switched off.
    NoRoute,
    /// The sender did not prove who it is.
    Unverified,
    /// The sender's address may not call.
    Address,
    /// The body is longer than the route takes.
    TooLarge,
    /// Too many for now; come again after this long.
    Rate { retry_after: Duration },
    /// The gateway cannot keep it for now; come again.
    Unavailable { retry_after: Duration },
}

/// A route that let the request in.
pub(super) struct Admitted {
    pub(super) door: Arc<Door>,
    pub(super) proof: Proof,
    pub(super) ready: Option<Ready>,
    /// The deliveries in the request, when it is more than one or wraps one.
    pub(super) parts: Vec<Part>,
}

/// What became of a delivery at the filters of its routes.
enum Sorted {
    Wanted(Box<Wanted>),
    Filtered { status: u16, answer: Option<Answer> },
}

/// A delivery that some route wants, and what its sender will be told.
struct Wanted {
    name: RouteName,
    intake: Intake,
    status: u16,
    answer: Option<Answer>,
}

/// Headers that carry credentials: they are never kept.
const CREDENTIAL_HEADERS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

impl Gateway {
    /// Takes one delivery. When this returns `Accepted`, its runs are on disk.
    pub async fn receive(&self, inbound: Inbound<'_>) -> Result<Receipt, Refusal> {
        match self.receive_inner(&inbound).await {
            Ok((door, receipt)) => {
                door.taken.of(&receipt).increment(1);
                Ok(receipt)
            }
            Err(refused) => {
                count_refused(refused.route.as_ref(), refused.refusal.code);
                self.keep_refused(&inbound, &refused).await;
                Err(refused.refusal)
            }
        }
    }

    /// Counts and keeps a request whose body the door could not read; `code` says why.
    pub async fn refused_at_the_door(&self, inbound: &Inbound<'_>, code: &'static str) {
        let doors = self.0.doors.load();
        let route = doors.at(inbound.request.path).first().map(|door| door.plan.name.clone());
        count_refused(route.as_ref(), code);
        self.keep_refused(inbound, &Refused::new(route, RefusalKind::TooLarge, code, String::new())).await;
    }

    async fn keep_refused(&self, inbound: &Inbound<'_>, refused: &Refused) {
        let doors = self.0.doors.load();
        let doors = doors.at(inbound.request.path);
        self.0.refusals.keep(doors, self.0.secrets.as_ref(), inbound, refused).await;
    }

    async fn receive_inner(&self, inbound: &Inbound<'_>) -> Result<(Arc<Door>, Receipt), Refused> {
        let doors = self.0.doors.load();
        let doors = doors.at(inbound.request.path);
        let Some(first) = doors.iter().find(|door| door.plan.enabled) else {
            let code = if doors.is_empty() { "route.unknown" } else { "route.disabled" };
            return Err(Refused::new(None, RefusalKind::NoRoute, code, String::new()));
        };
        if let Some(wait) = self.0.global_rate.as_ref().and_then(over_rate) {
            let kind = RefusalKind::Rate { retry_after: wait };
            return Err(Refused::new(Some(first.plan.name.clone()), kind, "rate.global", String::new()));
        }
        let mut admitted = Vec::new();
        let mut refused = None;
        for door in doors.iter().filter(|door| door.plan.enabled) {
            match self.admit(door, inbound).await {
                Ok((Verdict::Handshake(answer), _)) => return Ok((Arc::clone(door), Receipt::Handshake(answer))),
                Ok((Verdict::HandshakeThen { answer, get, id }, _)) => {
                    self.confirm(&door.plan.name, get, &id);
                    return Ok((Arc::clone(door), Receipt::Handshake(answer)));
                }
                Ok((Verdict::Deliver(proof), ready)) => {
                    admitted.push(Admitted { door: Arc::clone(door), proof, ready, parts: Vec::new() });
                }
                Ok((Verdict::DeliverAll(parts), ready)) => {
                    admitted.push(Admitted { door: Arc::clone(door), proof: Proof::default(), ready, parts });
                }
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        if let (true, Some(refused)) = (admitted.is_empty(), refused) {
            return Err(refused);
        }
        let receipt = match admitted.iter().find(|one| !one.parts.is_empty()).map(|one| one.parts.clone()) {
            Some(parts) => self.accept_all(inbound, &admitted, &parts).await?,
            None => self.accept_opened(inbound, admitted).await?,
        };
        Ok((Arc::clone(first), receipt))
    }

    /// Accepts what a verifier took out of an envelope in place of the body, or else the body. From here on nobody can
    /// tell that there was an envelope.
    async fn accept_opened(&self, inbound: &Inbound<'_>, admitted: Vec<Admitted>) -> Result<Receipt, Refused> {
        let opened = admitted.iter().find_map(|one| Some((one, one.proof.message.clone()?)));
        let Some((one, message)) = opened else { return self.accept(inbound, admitted).await };
        let body = match &one.ready {
            Some(ready) if message.holds_secret => Bytes::from(ready.masker.mask_bytes(&message.body).into_owned()),
            _ => message.body,
        };
        let sent = inbound.request.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
        let content_type = ("content-type", message.content_type.as_bytes());
        let headers: Headers<'_> = sent.chain([content_type]).collect();
        let request = signature::Inbound { headers: &headers, body: &body, ..inbound.request.clone() };
        self.accept(&Inbound { request, body: body.clone(), peer: inbound.peer }, admitted).await
    }

    /// Everything about one route that can be checked without reading the body: size, address, rate, signature.
    async fn admit(&self, door: &Door, inbound: &Inbound<'_>) -> Result<(Verdict, Option<Ready>), Refused> {
        let plan = &door.plan;
        let refuse = |kind, code, why: String| Refused::new(Some(plan.name.clone()), kind, code, why);
        if inbound.body.len() > plan.body_bytes_max {
            return Err(refuse(RefusalKind::TooLarge, "body.too_large", format!("{} bytes", inbound.body.len())));
        }
        if !plan.allow_ip.is_empty() {
            let forwarded: Vec<_> = inbound.request.headers.get_all(ip_allow::FORWARDED_FOR).collect();
            let client = ip_allow::client_ip(inbound.peer, forwarded.into_iter(), &self.0.settings.trusted_proxies);
            let allowed = client.as_ref().is_ok_and(|ip| ip_allow::allowed(*ip, &plan.allow_ip));
            if !allowed {
                let why = client.map_or_else(|reject| reject.to_string(), |ip| ip.to_string());
                return Err(refuse(RefusalKind::Address, "address.not_allowed", why));
            }
        }
        if let Some(wait) = door.limiter.as_ref().and_then(over_rate) {
            return Err(refuse(RefusalKind::Rate { retry_after: wait }, "rate.route", String::new()));
        }
        let ready = door.keys(self.0.secrets.as_ref()).await.map_err(|error| keys_refused(plan, &error))?;
        let verdict = match &ready {
            Some(ready) => {
                let brought = self.bring_keys(&ready.prepared, &inbound.request).await;
                let retry_after = Duration::from_secs(u64::from(limits::RETRY_AFTER_SECS));
                let unavailable = RefusalKind::Unavailable { retry_after };
                brought.map_err(|error| refuse(unavailable, "keys.unavailable", error.to_string()))?;
                ready.prepared.verify(&inbound.request)
            }
            None => Ok(Verdict::Deliver(Proof::default())),
        };
        let verdict = verdict.map_err(|reject| {
            let refused = refuse(RefusalKind::Unverified, reject.code(), reject.to_string());
            refused.in_words(reject.answer())
        })?;
        Ok((verdict, ready))
    }

    /// Filters, then accepts for all routes that want it, in one write.
    pub(super) async fn accept(&self, inbound: &Inbound<'_>, admitted: Vec<Admitted>) -> Result<Receipt, Refused> {
        let Wanted { name, intake, status, answer } = match self.sort(inbound, admitted) {
            Sorted::Wanted(wanted) => *wanted,
            Sorted::Filtered { status, answer } => return Ok(Receipt::Filtered { status, answer }),
        };
        match self.0.engine.accept(intake).await {
            Ok(store::Receipt::New(runs)) => Ok(Receipt::Accepted { status, runs, duplicate: false, answer }),
            Ok(store::Receipt::Duplicate(runs)) => Ok(Receipt::Accepted { status, runs, duplicate: true, answer }),
            Err(error) => Err(not_accepted(name, &error)),
        }
    }

    /// The same for the deliveries of one request, each with an id and filters of its own, in one write for all.
    async fn accept_all(
        &self,
        inbound: &Inbound<'_>,
        admitted: &[Admitted],
        parts: &[Part],
    ) -> Result<Receipt, Refused> {
        let (mut told, mut name) = (None, None);
        let (mut intakes, mut keys) = (Vec::new(), HashSet::new());
        for (place, part) in parts.iter().enumerate() {
            let request = signature::Inbound { body: &part.body, ..inbound.request.clone() };
            let inbound = Inbound { request, body: part.body.clone(), peer: inbound.peer };
            match self.sort(&inbound, admitted.iter().map(|one| one.part(place)).collect()) {
                Sorted::Wanted(wanted) => {
                    // The same event twice in one request is one event.
                    if keys.insert(wanted.intake.key) {
                        intakes.push(wanted.intake);
                    }
                    told = Some((wanted.status, wanted.answer));
                    name = Some(wanted.name);
                }
                Sorted::Filtered { status, answer } => told = told.or(Some((status, answer))),
            }
        }
        let (status, answer) = told.unwrap_or((202, None));
        let Some(name) = name else { return Ok(Receipt::Filtered { status, answer }) };
        let receipts = self.0.engine.accept_all(intakes).await.map_err(|error| not_accepted(name, &error))?;
        let duplicate = receipts.iter().all(|receipt| matches!(receipt, store::Receipt::Duplicate(_)));
        let runs = receipts.into_iter().flat_map(|receipt| match receipt {
            store::Receipt::New(runs) | store::Receipt::Duplicate(runs) => runs,
        });
        Ok(Receipt::Accepted { status, runs: runs.collect(), duplicate, answer })
    }

    /// Holds one delivery against the filters of its routes and makes ready what is to be written.
    fn sort(&self, inbound: &Inbound<'_>, admitted: Vec<Admitted>) -> Sorted {
        let Some(first) = admitted.first() else { return Sorted::Filtered { status: 202, answer: None } };
        let (name, status) = (first.door.plan.name.clone(), first.door.plan.respond_status);
        let answer = first.proof.answer.clone();
        let path = inbound.request.path;
        let delivery = describe(inbound, &admitted, first);
        // Only routes that look into the body cost the reading of it.
        let needs_values = |one: &Admitted| {
            one.door.plan.filter.is_some() || matches!(one.door.plan.dedupe.key, DedupeKey::Expression(_))
        };
        let seen = admitted
            .iter()
            .any(needs_values)
            .then(|| values::of_delivery(&delivery, &inbound.body, inbound.request.received_at));
        let mut wanted = Vec::new();
        for one in admitted {
            if wants(&one.door.plan, seen.as_ref()) {
                wanted.push(one);
            }
        }
        let Some(first) = wanted.first() else { return Sorted::Filtered { status, answer } };
        let key = delivery_key(&first.door.plan, &first.proof, path, &inbound.body, seen.as_ref());
        let dedupe = &first.door.plan.dedupe;
        let replay_guard =
            dedupe.replay_guard.then(|| DeliveryKey::of_body(path, &inbound.body)).filter(|guard| *guard != key);
        let window = dedupe.window;
        let status = first.door.plan.respond_status;
        let body = redacted(&wanted, inbound);
        let runs = wanted.iter().map(|one| self.first_event(&one.door.plan, &delivery)).collect();
        let intake = Intake { key, window, replay_guard, runs, body };
        Sorted::Wanted(Box::new(Wanted { name, intake, status, answer }))
    }

    pub(super) fn first_event(&self, plan: &RoutePlan, delivery: &Delivery) -> Accepted {
        let route = RouteRef { name: plan.name.clone(), revision: plan.revision.clone() };
        let workflow = self.0.files.catalog().workflows.get(&plan.workflow).map(|plan| plan.revision.clone());
        // A route that is in force names a workflow that is.
        let revision = workflow.unwrap_or_else(|| plan.revision.clone());
        let trigger = Trigger::Delivery { route, delivery: Box::new(delivery.clone()) };
        Accepted {
            held: plan.paused || self.is_paused(&plan.name),
            route_concurrency: plan.concurrency.map(std::num::NonZeroU32::get),
            ..Accepted::new(plan.workflow.clone(), revision, trigger)
        }
    }
}

impl Admitted {
    /// A route with a delivery that was fetched for it.
    pub(super) fn fetched(door: &Arc<Door>, proof: &Proof) -> Self {
        Self { door: Arc::clone(door), proof: proof.clone(), ready: None, parts: Vec::new() }
    }

    /// The same route with one of the request's deliveries. A route whose own scheme sees only one takes each as well.
    fn part(&self, place: usize) -> Self {
        let proof = self.parts.get(place).map_or_else(|| self.proof.clone(), |part| part.proof.clone());
        Self { door: Arc::clone(&self.door), proof, ready: self.ready.clone(), parts: Vec::new() }
    }
}

/// Nothing was accepted, and the sender should come again.
fn not_accepted(route: RouteName, error: &AcceptError) -> Refused {
    let code = match error {
        AcceptError::Store(store::Error::Full(_)) => "store.full",
        AcceptError::Store(_) => "store.failed",
        AcceptError::Slow => "store.slow",
        AcceptError::Draining => "gateway.draining",
    };
    let retry_after = Duration::from_secs(u64::from(limits::RETRY_AFTER_SECS));
    Refused::new(Some(route), RefusalKind::Unavailable { retry_after }, code, error.to_string())
}

pub(super) fn count_refused(route: Option<&RouteName>, code: &'static str) {
    let route = route.map_or_else(|| "-".to_owned(), ToString::to_string);
    metrics::counter!(DELIVERIES, "route" => route, "outcome" => code).increment(1);
}

fn keys_refused(plan: &RoutePlan, error: &KeysError) -> Refused {
    tracing::error!(route = %plan.name, %error, "route {} cannot verify: its keys cannot be used", plan.name);
    let retry_after = Duration::from_secs(u64::from(limits::RETRY_AFTER_SECS));
    let kind = RefusalKind::Unavailable { retry_after };
    Refused::new(Some(plan.name.clone()), kind, "secret.unavailable", error.to_string())
}

/// What is kept of the request beside its body.
fn describe(inbound: &Inbound<'_>, admitted: &[Admitted], first: &Admitted) -> Delivery {
    let verified_by = first.door.plan.verify.name().to_owned();
    // A key that signs the body is not sent along; a password or a token is.
    let sent_along = admitted.iter().filter(|one| !one.proof.body_is_signed);
    let maskers: Vec<_> = sent_along.filter_map(|one| Some(Arc::clone(&one.ready.as_ref()?.masker))).collect();
    Delivery {
        id: first.proof.delivery_id.clone(),
        method: inbound.request.method.to_owned(),
        path: inbound.request.path.to_owned(),
        query: masked(&maskers, inbound.request.query.to_owned()),
        headers: kept_headers(inbound.request.headers, &maskers, admitted.iter().map(|one| &*one.door.plan)),
        // What was fetched has no sender.
        remote: if first.door.plan.is_fetched() { String::new() } else { inbound.peer.to_string() },
        verified_by,
        swept_by: None,
    }
}

/// Headers without those that carry credentials; a key that is sent along elsewhere is masked.
pub(super) fn kept_headers<'p>(
    headers: &signature::Headers<'_>,
    maskers: &[Arc<Masker>],
    plans: impl Iterator<Item = &'p RoutePlan>,
) -> Vec<(String, String)> {
    let named = plans.filter_map(|plan| match &plan.verify {
        Verify::Scheme { verifier, .. } => verifier.credential_header(),
        Verify::Nobody | Verify::Fetched(_) => None,
    });
    let credentials: Vec<_> = CREDENTIAL_HEADERS.into_iter().chain(named).collect();
    headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| !credentials.iter().any(|credential| credential.eq_ignore_ascii_case(name)))
        .map(|(name, value)| (name, masked(maskers, String::from_utf8_lossy(value).into_owned())))
        .collect()
}

fn masked(maskers: &[Arc<Masker>], text: String) -> String {
    maskers.iter().fold(text, |text, masker| masker.mask(&text).into_owned())
}

/// Whether the route's filter lets it through. A filter that cannot be evaluated lets it through: the run will say
/// what is wrong, and no order is lost to a typing error.
pub(super) fn wants(plan: &RoutePlan, seen: Option<&Context>) -> bool {
    let (Some(filter), Some(seen)) = (&plan.filter, seen) else { return true };
    filter.is_true(seen).unwrap_or_else(|error| {
        tracing::warn!(route = %plan.name, %error, "the filter of route {} failed; the delivery is let through", plan.name);
        true
    })
}

fn delivery_key(plan: &RoutePlan, proof: &Proof, path: &str, body: &[u8], seen: Option<&Context>) -> DeliveryKey {
    match (&plan.dedupe.key, &proof.delivery_id) {
        (DedupeKey::DeliveryId, Some(id)) if proof.id_may_collide => {
            let digest = DeliveryKey::of_body(path, body);
            DeliveryKey::of_delivery(path, &[id.as_bytes(), digest.as_bytes()].concat())
        }
        (DedupeKey::DeliveryId, Some(id)) => DeliveryKey::of_delivery(path, id.as_bytes()),
        (DedupeKey::DeliveryId, None) | (DedupeKey::Body, _) => DeliveryKey::of_body(path, body),
        (DedupeKey::Expression(template), _) => match seen.map(|seen| template.eval(seen)) {
            Some(Ok(Value::String(text))) => DeliveryKey::of_delivery(path, text.as_bytes()),
            Some(Ok(Value::Null)) | None => DeliveryKey::of_body(path, body),
            Some(Ok(value)) => DeliveryKey::of_delivery(path, value.to_string().as_bytes()),
            Some(Err(error)) => {
                tracing::warn!(route = %plan.name, %error, "`dedupe.key` failed; the body tells deliveries apart");
                DeliveryKey::of_body(path, body)
            }
        },
    }
}

/// The body to keep: with what any of the routes redacts blanked out, in JSON and in forms. Other bodies have no paths,
/// and are kept as they are.
pub(super) fn redacted(wanted: &[Admitted], inbound: &Inbound<'_>) -> Bytes {
    let paths: Vec<_> = wanted.iter().flat_map(|one| &one.door.plan.redact).collect();
    if paths.is_empty() {
        return inbound.body.clone();
    }
    blank(&paths, inbound).unwrap_or_else(|| inbound.body.clone())
}

/// The body with these paths blanked; nothing when it is neither JSON nor a form.
pub(super) fn blank(paths: &[&JsonPath], inbound: &Inbound<'_>) -> Option<Bytes> {
    let content_type = inbound.request.headers.get_all("content-type").next().unwrap_or_default();
    if content_type.starts_with(b"application/x-www-form-urlencoded") {
        let mut form = Value::Object(body::pairs(&inbound.body));
        for path in paths {
            path.blank(&mut form);
        }
        let pairs =
            form.as_object().into_iter().flatten().map(|(name, value)| (name, value.as_str().unwrap_or_default()));
        return Some(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish().into());
    }
    let mut value = serde_json::from_slice::<Value>(&inbound.body).ok()?;
    let blanked: usize = paths.iter().map(|path| path.blank(&mut value)).sum();
    Some(if blanked == 0 { inbound.body.clone() } else { value.to_string().into() })
}
