//! The doors that deliveries come through: routes by path, each with its keys ready and its rate counted.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use metrics::Counter;
use serde_json::json;
use tokio::time::Instant;

use super::deliveries::Receipt;
use super::{Caller, Error, Gateway, Scope, view};
use crate::domain::masking::Masker;
use crate::domain::rate::Rate;
use crate::domain::secret::{self, SecretValue, Secrets};
use crate::id::RouteName;
use crate::limits;
use crate::signature::{Keys, Prepared};
use crate::tasks::plan::{Catalog, RoutePlan, Verify};

pub(super) type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, NoOpMiddleware>;

/// Counts `rate` with room for `burst` at once.
pub(super) fn limiter(rate: Rate, burst: NonZeroU32) -> Limiter {
    let each = rate.per() / rate.count().get();
    // A rate is at least one in a century and at most some billions a second, so a period exists.
    let quota = Quota::with_period(each.max(Duration::from_nanos(1))).unwrap_or(Quota::per_second(burst));
    RateLimiter::direct(quota.allow_burst(burst))
}

/// How long until the limiter has room, when it has none now.
pub(super) fn over_rate(limiter: &Limiter) -> Option<Duration> {
    let not_until = limiter.check().err()?;
    Some(not_until.wait_time_from(DefaultClock::default().now()))
}

/// All routes of one load, found by path.
#[derive(Debug)]
pub(super) struct Doors {
    by_path: HashMap<String, Vec<Arc<Door>>>,
    /// Those whose deliveries are fetched: no request finds them.
    by_source: HashMap<String, Vec<Arc<Door>>>,
    wants_client_certificates: bool,
}

/// One route, ready to be called.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) plan: Arc<RoutePlan>,
    pub(super) limiter: Option<Limiter>,
    pub(super) taken: Taken,
    keys: Mutex<Option<Ready>>,
}

/// Deliveries by route and what became of them.
pub(super) const DELIVERIES: &str = "clawhook_deliveries_total";

/// Counters of what a route took, found once and not at every delivery.
pub(super) struct Taken {
    accepted: Counter,
    duplicate: Counter,
    filtered: Counter,
    handshake: Counter,
}

/// Keys as they were read last.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    read_at: Instant,
    pub(super) prepared: Arc<Prepared>,
    /// Knows the keys, for schemes that send them along.
    pub(super) masker: Arc<Masker>,
}

/// Why the keys of a route cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysError {
    #[error(transparent)]
    Secret(#[from] secret::Error),
    #[error(transparent)]
    Key(#[from] crate::signature::KeyError),
}

impl Doors {
    pub(super) fn new(catalog: &Catalog) -> Self {
        let (mut by_path, mut by_source) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        let mut wants_client_certificates = false;
        for plan in catalog.routes.values() {
            let limiter = plan.rate.map(|limit| limiter(limit.rate, limit.burst));
            let door = Arc::new(Door {
                plan: Arc::clone(plan),
                limiter,
                taken: Taken::new(&plan.name),
                keys: Mutex::new(None),
            });
            if let Verify::Scheme { verifier, .. } = &plan.verify {
                wants_client_certificates |= plan.enabled && verifier.wants_client_certificate();
                if let Some(path) = verifier.also_at() {
                    by_path.entry(path.to_owned()).or_default().push(Arc::clone(&door));
                }
            }
            let map = if plan.is_fetched() { &mut by_source } else { &mut by_path };
            map.entry(plan.path.clone()).or_default().push(door);
        }
        Self { by_path, by_source, wants_client_certificates }
    }

    /// The routes that take what a source fetches.
    pub(super) fn of_source(&self, path: &str) -> &[Arc<Door>] {
        self.by_source.get(path).map_or(&[], Vec::as_slice)
    }

    pub(super) fn at(&self, path: &str) -> &[Arc<Door>] {
        self.by_path.get(path).map_or(&[], Vec::as_slice)
    }
}

impl Taken {
    fn new(route: &RouteName) -> Self {
        let counter = |outcome| metrics::counter!(DELIVERIES, "route" => route.to_string(), "outcome" => outcome);
        Self {
            accepted: counter("accepted"),
            duplicate: counter("duplicate"),
            filtered: counter("filtered"),
            handshake: counter("handshake"),
        }
    }

    /// The counter of deliveries that were told this.
    pub(super) fn of(&self, receipt: &Receipt) -> &Counter {
        match receipt {
            Receipt::Accepted { duplicate: false, .. } => &self.accepted,
            Receipt::Accepted { duplicate: true, .. } => &self.duplicate,
            Receipt::Filtered { .. } => &self.filtered,
            Receipt::Handshake(_) => &self.handshake,
        }
    }
}

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Taken")
    }
}

impl Door {
    /// The keys of a route that has some: read from their source when they were not lately.
    pub(super) async fn keys(&self, secrets: &dyn Secrets) -> Result<Option<Ready>, KeysError> {
        let Verify::Scheme { verifier, secrets: named } = &self.plan.verify else { return Ok(None) };
        let known = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(ready) = known.filter(|ready| ready.read_at.elapsed() < limits::ROUTE_KEYS_TTL) {
            return Ok(Some(ready));
        }
        let mut values: Vec<(&str, SecretValue)> = Vec::new();
        let mut masker = Masker::new();
        for (slot, references) in named {
            for reference in references {
                let value = secrets.resolve(reference).await?;
                masker.add(&reference.name, &value);
                values.push((slot, value));
            }
        }
        let mut keys = Keys::default();
        for (slot, value) in &values {
            keys.add(slot, value.expose());
        }
        let prepared = Arc::new(verifier.prepare(&keys)?);
        let ready = Ready { read_at: Instant::now(), prepared, masker: Arc::new(masker) };
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Some(ready.clone());
        Ok(Some(ready))
    }
}

impl Gateway {
    /// Longest body that any route of this path takes; nothing when there is no route.
    pub fn body_bytes_max(&self, path: &str) -> Option<usize> {
        self.0.doors.load().at(path).iter().map(|door| door.plan.body_bytes_max).max()
    }

    /// Whether any route in force judges certificates of clients.
    pub fn wants_client_certificates(&self) -> bool {
        self.0.doors.load().wants_client_certificates
    }

    /// All routes, in the order of their names.
    pub fn routes(&self, caller: &Caller) -> Result<Vec<view::Route>, Error> {
        caller.require(Scope::RunsRead)?;
        let catalog = self.0.files.catalog();
        Ok(catalog.routes.values().map(|plan| self.show_route(plan)).collect())
    }

    fn show_route(&self, plan: &RoutePlan) -> view::Route {
        view::Route {
            name: plan.name.to_string(),
            path: plan.path.clone(),
            verify: plan.verify.name().to_owned(),
            workflow: plan.workflow.to_string(),
            enabled: plan.enabled,
            paused: plan.paused || self.is_paused(&plan.name),
            revision: plan.revision.to_string(),
            parts: view::Route::parts(&plan.parts),
        }
    }

    /// Pauses a route: it accepts durably and holds what it accepts.
    pub async fn pause_route(&self, caller: &Caller, name: &str, reason: &str) -> Result<view::Route, Error> {
        caller.require(Scope::RunsWrite)?;
        let plan = self.route_named(name)?;
        self.audit(caller, "route.pause", name, json!({ "reason": reason })).await?;
        self.set_paused(caller, &plan.name, Some(reason)).await?;
        Ok(self.show_route(&plan))
    }

    /// Lets a paused route go on, and everything go that it held.
    pub async fn resume_route(&self, caller: &Caller, name: &str) -> Result<view::RouteResumed, Error> {
        caller.require(Scope::RunsWrite)?;
        let plan = self.route_named(name)?;
        if plan.paused {
            let message = format!("route `{name}` is paused by its file; take `paused: true` out of it and reload");
            return Err(Error::Conflict { code: "route.paused_by_file", message });
        }
        self.audit(caller, "route.resume", name, json!({})).await?;
        self.set_paused(caller, &plan.name, None).await?;
        let released = self.0.engine.release_held(name).await?;
        Ok(view::RouteResumed { route: self.show_route(&plan), released })
    }

    fn route_named(&self, name: &str) -> Result<Arc<RoutePlan>, Error> {
        let missing = || Error::NotFound { what: "route", name: name.to_owned() };
        let name = RouteName::new(name).map_err(|_| missing())?;
        self.0.files.catalog().routes.get(&name).cloned().ok_or_else(missing)
    }
}
