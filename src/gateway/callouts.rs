//! The calls that verifying needs made: the certificate that a message names, and the confirmation of a subscription.
//! Both go through the egress guard, follow no redirect, and are few: a stranger cannot make us call out at will.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use governor::{Quota, RateLimiter};
use http::Method;
use tokio::runtime::Handle;

use super::Gateway;
use super::routes::{Limiter, over_rate};
use crate::id::RouteName;
use crate::limits;
use crate::outbound::{Request, Response};
use crate::signature::{self, Prepared};

/// What keeps the calls few.
#[derive(Debug)]
pub(super) struct Callouts {
    /// One certificate is fetched at a time: whoever waited finds it there.
    turn: tokio::sync::Mutex<()>,
    limiter: Limiter,
    /// Subscriptions that were confirmed lately, by the id of the message.
    confirmed: Mutex<VecDeque<String>>,
    /// Where calls go on after the request was answered: a door's own thread may end before they do.
    runtime: Option<Handle>,
}

/// Why a certificate is not there. The sender should come again.
#[derive(Debug, thiserror::Error)]
#[error("the signing certificate cannot be fetched: {why}")]
pub(super) struct NoCertificate {
    why: String,
}

impl Callouts {
    pub(super) fn new() -> Self {
        let many = NonZeroU32::new(limits::SIGNING_CERTIFICATE_FETCHES_MAX).unwrap_or(NonZeroU32::MIN);
        Self {
            turn: tokio::sync::Mutex::default(),
            limiter: RateLimiter::direct(Quota::per_minute(many)),
            confirmed: Mutex::default(),
            runtime: Handle::try_current().ok(),
        }
    }

    /// Whether this is the first time that the message is seen.
    fn is_first(&self, id: &str) -> bool {
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        if confirmed.iter().any(|known| known == id) {
            return false;
        }
        if confirmed.len() >= limits::CONFIRMATIONS_REMEMBERED_MAX {
            confirmed.pop_front();
        }
        confirmed.push_back(id.to_owned());
        true
    }
}

impl Gateway {
    /// Fetches the certificate that a check is missing to judge this request, if it is missing one.
    pub(super) async fn bring_certificate(
        &self,
        prepared: &Prepared,
        request: &signature::Inbound<'_>,
    ) -> Result<(), NoCertificate> {
        if prepared.wants(request).is_none() {
            return Ok(());
        }
        let _turn = self.0.callouts.turn.lock().await;
        let Some(url) = prepared.wants(request) else { return Ok(()) };
        if over_rate(&self.0.callouts.limiter).is_some() {
            return Err(NoCertificate { why: "too many different ones were asked for within a minute".to_owned() });
        }
        let answer = self.get(&url).await.map_err(|why| NoCertificate { why })?;
        if answer.status == 200 && prepared.learn(&url, &answer.body) {
            return Ok(());
        }
        Err(NoCertificate { why: format!("`{url}` answered {} without a certificate", answer.status) })
    }

    /// Confirms a subscription once, after its message was answered.
    pub(super) fn confirm(&self, route: &RouteName, url: String, id: &str) {
        if !self.0.callouts.is_first(id) {
            return;
        }
        let Some(runtime) = &self.0.callouts.runtime else {
            tracing::error!(%route, "the subscription of route {route} cannot be confirmed here");
            return;
        };
        let (gateway, route) = (self.clone(), route.clone());
        let call = async move {
            match gateway.get(&url).await {
                Ok(answer) if answer.status == 200 => {
                    tracing::info!(%route, "the subscription of route {route} is confirmed");
                }
                Ok(answer) => {
                    let status = answer.status.as_u16();
                    tracing::error!(%route, status, "the subscription of route {route} was not confirmed: {status}");
                }
                Err(error) => {
                    tracing::error!(%route, error, "the subscription of route {route} could not be confirmed");
                }
            }
        };
        drop(runtime.spawn(call));
    }

    async fn get(&self, url: &str) -> Result<Response, String> {
        let mut request = Request::new(Method::GET, url).map_err(|cause| cause.to_string())?;
        request.timeout = limits::CALLOUT_TIMEOUT;
        request.redirects_max = 0;
        request.response_bytes_max = limits::CALLOUT_BYTES_MAX;
        self.0.engine.client().send(request).await.map_err(|error| error.to_string())
    }
}
