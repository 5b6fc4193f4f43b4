//! What sweeps find comes in here, by the way of webhooks: the same routes, filters, redaction and keys, and the same
//! accept. Only the signature is not asked for: the gateway itself called the platform.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};

use super::deliveries::{Admitted, Inbound, redacted, wants};
use super::routes::Door;
use super::{Gateway, Inner, members};
use crate::domain::delivery::{Delivery, DeliveryKey};
use crate::domain::failure::{Class, Failure, Fault};
use crate::domain::journal::JournalKind;
use crate::domain::sweep::{Distances, MARK, Mark, Tally, Window, mark_name};
use crate::engine::{AcceptError, Intake, values};
use crate::expr::Context;
use crate::id::RunId;
use crate::limits;
use crate::signature::{self, Headers, Proof};
use crate::store::Receipt;
use crate::tasks::plan::{DedupeKey, RoutePlan};
use crate::tasks::sweep::{Entrance, Object, Of};

/// The way from the engine back to its gateway, which may be gone.
#[derive(Debug)]
pub(super) struct Way(pub(super) Weak<Inner>);

/// What becomes of a listed object.
enum Found {
    Wanted(Box<Intake>),
    Filtered,
    Refused(String),
}

#[async_trait]
impl Entrance for Way {
    async fn begin(&self, sweep: &Of, distances: Distances) -> Result<Window, Failure> {
        let gateway = self.gateway()?;
        let mark = gateway.sweep_mark(sweep).await?;
        let window = Window::of(&mark, gateway.0.clock.now(), distances);
        if let Some(from) = window.gap_from {
            gateway.tell_gap(sweep, from, window.oldest).await?;
        }
        Ok(window)
    }

    async fn enter(&self, sweep: &Of, by: RunId, objects: Vec<Object>) -> Result<Tally, Failure> {
        self.gateway()?.enter(sweep, by, objects).await
    }

    async fn end(&self, sweep: &Of, by: RunId, window: &Window, tally: &Tally, whole: bool) -> Result<(), Failure> {
        let gateway = self.gateway()?;
        gateway.tell_found(sweep, by, window, tally, whole).await?;
        if !whole {
            return Ok(());
        }
        let mark = gateway.sweep_mark(sweep).await?;
        let mark = Mark { until: mark.until.max(window.until), ..mark };
        let set = gateway.0.engine.store().set_mark(&mark_name(&sweep.route), Some(&mark.to_string())).await;
        set.map_err(|error| unstored(&error))
    }
}

impl Way {
    fn gateway(&self) -> Result<Gateway, Failure> {
        self.0.upgrade().map(Gateway).ok_or_else(|| unstored(&AcceptError::Draining))
    }
}

impl Gateway {
    /// How far the sweep has come; it begins now when nobody knows.
    async fn sweep_mark(&self, sweep: &Of) -> Result<Mark, Failure> {
        let marks = self.0.engine.store().marks(MARK).await.map_err(|error| unstored(&error))?;
        let name = mark_name(&sweep.route);
        let mark = marks.into_iter().find(|(mark, _)| *mark == name).and_then(|(_, text)| Mark::parse(&text));
        let mark = mark.filter(|mark| mark.terms == sweep.terms);
        Ok(mark.unwrap_or_else(|| Mark::new(sweep.terms.clone(), self.0.clock.now())))
    }

    async fn enter(&self, sweep: &Of, by: RunId, objects: Vec<Object>) -> Result<Tally, Failure> {
        let plan = self.swept_route(sweep)?;
        let doors = self.0.doors.load();
        let doors: Vec<_> = doors.at(&plan.path).iter().filter(|door| door.plan.enabled).cloned().collect();
        let mut tally = Tally::default();
        let (mut intakes, mut keys) = (Vec::new(), HashSet::new());
        for object in objects {
            match self.find(&plan, &doors, by, object)? {
                // The same object twice on a page is one object.
                Found::Wanted(intake) if keys.insert(intake.key) => intakes.push(*intake),
                Found::Wanted(_) => tally.known += 1,
                Found::Filtered => tally.filtered += 1,
                Found::Refused(why) => tally.refuse(why),
            }
        }
        while !intakes.is_empty() {
            let rest = intakes.split_off(intakes.len().min(limits::SWEEP_ACCEPTS_MAX));
            let receipts = self.0.engine.accept_all(std::mem::replace(&mut intakes, rest)).await;
            for receipt in receipts.map_err(|error| unstored(&error))? {
                match receipt {
                    Receipt::New(_) => tally.missing += 1,
                    Receipt::Duplicate(_) => tally.known += 1,
                }
            }
        }
        for (outcome, count) in [
            ("missing", tally.missing),
            ("known", tally.known),
            ("filtered", tally.filtered),
            ("refused", tally.refused),
        ] {
            metrics::counter!(SWEPT, "route" => plan.name.to_string(), "outcome" => outcome).increment(count);
        }
        Ok(tally)
    }

    /// The route as it stands now, if its keys are still made as the sweep makes them.
    fn swept_route(&self, sweep: &Of) -> Result<Arc<RoutePlan>, Failure> {
        let catalog = self.0.files.catalog();
        let stands = catalog.schedules.values().filter_map(|plan| plan.sweep.as_ref());
        let stands = stands.map(|plan| &plan.of).any(|of| of.route == sweep.route && of.terms == sweep.terms);
        let plan = catalog.routes.get(&sweep.route).filter(|plan| stands && plan.enabled);
        plan.cloned().ok_or_else(|| {
            let message = format!("route `{}` is not what it was when this sweep began", sweep.route);
            Failure::new("sweep.changed", Fault::Config, message)
                .help("nothing to do: the next sweep goes by the files that are in force")
                .at(sweep.route.as_str())
        })
    }

    /// What a listed object would be as a delivery.
    fn find(&self, route: &RoutePlan, doors: &[Arc<Door>], by: RunId, object: Object) -> Result<Found, Failure> {
        let Object { key, mut headers, body } = object;
        if body.len() > route.body_bytes_max {
            let most = route.body_bytes_max;
            return Ok(Found::Refused(format!("its body has {} bytes, more than the {most} of the route", body.len())));
        }
        if !headers.iter().any(|(name, _)| name == "content-type") {
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
        let now = self.0.clock.now();
        let mut delivery = Delivery {
            id: None,
            method: "POST".to_owned(),
            path: route.path.clone(),
            query: String::new(),
            headers,
            remote: String::new(),
            verified_by: "sweep".to_owned(),
            swept_by: Some(by),
        };
        let seen = values::of_delivery(&delivery, &body, now);
        let wanted: Vec<_> = doors.iter().filter(|door| wants(&door.plan, Some(&seen))).map(admitted).collect();
        let Some(first) = wanted.first() else { return Ok(Found::Filtered) };
        let plan = &first.door.plan;
        let key = match (by_route(plan, &seen), key) {
            (Ok(own), Some(given)) if own != given => return Err(two_keys(plan, &own, &given)),
            (Ok(key), _) | (Err(_), Some(key)) => key,
            (Err(why), None) => return Ok(Found::Refused(why)),
        };
        delivery.id = Some(key.clone());
        let intake = Intake {
            key: DeliveryKey::of_delivery(&route.path, key.as_bytes()),
            window: plan.dedupe.window,
            // These bytes were never sent, so no replay can be known by them.
            replay_guard: None,
            body: kept(&wanted, &delivery, &body, now),
            runs: wanted.iter().map(|one| self.first_event(&one.door.plan, &delivery)).collect(),
        };
        Ok(Found::Wanted(Box::new(intake)))
    }

    async fn tell_found(
        &self,
        sweep: &Of,
        by: RunId,
        window: &Window,
        tally: &Tally,
        whole: bool,
    ) -> Result<(), Failure> {
        let route = &sweep.route;
        if tally.missing == 0 && whole {
            return Ok(());
        }
        let missing = tally.missing;
        tracing::warn!(%route, run.id = %by, missing, "the sweep of route {route} found {missing} missing of {} listed", tally.listed);
        let detail = json!({
            "missing": missing,
            "known": tally.known,
            "listed": tally.listed,
            "refused": tally.refused,
            "whole": whole,
            "since": window.since.to_string(),
            "until": window.until.to_string(),
            "run": by,
            "help": format!("clawhook runs list --trigger sweep --source {route}"),
        });
        self.tell_swept("sweep.found", sweep, detail).await
    }

    async fn tell_gap(
        &self,
        sweep: &Of,
        from: crate::clock::Timestamp,
        until: crate::clock::Timestamp,
    ) -> Result<(), Failure> {
        let route = &sweep.route;
        metrics::counter!("clawhook_sweep_gaps_total", "route" => route.to_string()).increment(1);
        tracing::warn!(%route, "nobody can tell what route {route} missed from {from} to {until}: deliveries of that time are forgotten");
        let detail = json!({
            "since": from.to_string(),
            "until": until.to_string(),
            "help": "compare this time by hand; a longer `dedupe.window` bridges longer pauses",
        });
        self.tell_swept("sweep.gap", sweep, detail).await
    }

    async fn tell_swept(&self, what: &str, sweep: &Of, detail: Value) -> Result<(), Failure> {
        let told = self.journal(JournalKind::Gateway, what, sweep.route.as_str(), members(detail)).await;
        told.map_err(|error| unstored(&error))
    }
}

/// Objects of sweeps by route and what became of them.
const SWEPT: &str = "clawhook_swept_objects_total";

/// A route that takes the object without asking who sent it.
fn admitted(door: &Arc<Door>) -> Admitted {
    Admitted { door: Arc::clone(door), proof: Proof::default(), ready: None, parts: Vec::new() }
}

/// The key that the route makes of a webhook with this body; or why it makes none.
fn by_route(plan: &RoutePlan, seen: &Context) -> Result<String, String> {
    let DedupeKey::Expression(template) = &plan.dedupe.key else {
        return Err("`dedupe.key` of the route is no expression".to_owned());
    };
    match template.eval(seen) {
        Ok(Value::Null) => Err("`dedupe.key` gives nothing for it".to_owned()),
        Ok(Value::String(text)) if text.is_empty() => Err("`dedupe.key` gives nothing for it".to_owned()),
        Ok(Value::String(text)) => Ok(text),
        Ok(value) => Ok(value.to_string()),
        Err(error) => Err(format!("`dedupe.key` failed for it: {error}")),
    }
}

/// The body to keep, after redaction.
fn kept(wanted: &[Admitted], delivery: &Delivery, body: &Bytes, now: crate::clock::Timestamp) -> Bytes {
    let headers: Headers<'_> = delivery.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let request = signature::Inbound {
        method: &delivery.method,
        path: &delivery.path,
        query: "",
        url: None,
        headers: &headers,
        body,
        received_at: now,
        client_chain: &[],
        random: [0; signature::RANDOM_BYTES],
    };
    redacted(wanted, &Inbound { request, body: body.clone(), peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED) })
}

/// Everything would run twice: once by its webhook, and once by the sweep.
fn two_keys(plan: &RoutePlan, own: &str, given: &str) -> Failure {
    let message = format!("`sweep.key` makes `{given}` of an object, and `dedupe.key` of the route makes `{own}`");
    Failure::new("sweep.key", Fault::Config, message)
        .help("leave `sweep.key` out, or let both make the same; nothing of this page was brought in")
        .at(plan.name.as_str())
}

fn unstored(error: &dyn std::fmt::Display) -> Failure {
    Failure::new("store.unavailable", Fault::Here, format!("what a sweep found could not be kept: {error}"))
        .help("the next attempt finds what this one may have written")
        .retriable(Class::Connect, None)
}
