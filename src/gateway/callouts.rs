//! The calls that verifying needs made: for the certificate or the keys that a request is signed with, and to confirm a
//! subscription.
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
use crate::signature::{self, Missing, Prepared};

/// What keeps the calls few.
#[derive(Debug)]
pub(super) struct Callouts {
    /// One thing is fetched at a time: whoever waited finds it there.
    turn: tokio::sync::Mutex<()>,
    limiter: Limiter,
    /// Subscriptions that were confirmed lately, by the id of the message.
    confirmed: Mutex<VecDeque<String>>,
    /// Where calls go on after the request was answered: a door's own thread may end before they do.
    runtime: Option<Handle>,
}

/// Why keys or a certificate are not there. The sender should come again.
#[derive(Debug, thiserror::Error)]
#[error("what the request is signed with cannot be fetched: {why}")]
pub(super) struct NoKeys {
    why: String,
}

impl Callouts {
    pub(super) fn new() -> Self {
        let many = NonZeroU32::new(limits::SIGNING_KEY_FETCHES_MAX).unwrap_or(NonZeroU32::MIN);
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

    fn forget(&self, id: &str) {
        self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| known != id);
    }
}

impl Gateway {
    /// Fetches what a check is missing to judge this request, if it is missing anything.
    pub(super) async fn bring_keys(&self, prepared: &Prepared, request: &signature::Inbound<'_>) -> Result<(), NoKeys> {
        if prepared.wants(request).is_none() {
            return Ok(());
        }
        let _turn = self.0.callouts.turn.lock().await;
        let Some(Missing { url, needed }) = prepared.wants(request) else { return Ok(()) };
        match self.fetch_keys(prepared, request, &url).await {
            Ok(()) => Ok(()),
            Err(why) if needed => Err(NoKeys { why }),
            Err(why) => {
                tracing::warn!(url, why, "the keys behind {url} could not be renewed; those from before still count");
                Ok(())
            }
        }
    }

    async fn fetch_keys(&self, prepared: &Prepared, request: &signature::Inbound<'_>, url: &str) -> Result<(), String> {
        if over_rate(&self.0.callouts.limiter).is_some() {
            return Err("too many fetches within a minute".to_owned());
        }
        let answer = self.get(url).await;
        let keys = answer.as_ref().ok().filter(|answer| answer.status == 200).map_or(&[][..], |answer| &answer.body);
        if prepared.learn(url, keys, request.received_at) {
            return Ok(());
        }
        Err(match answer {
            Ok(answer) => format!("`{url}` answered {} without anything that could be used", answer.status),
            Err(why) => why,
        })
    }

    /// Confirms a subscription, once, after its message was answered; what fails is tried again a few times.
    pub(super) fn confirm(&self, route: &RouteName, url: String, id: &str) {
        if !self.0.callouts.is_first(id) {
            return;
        }
        let Some(runtime) = &self.0.callouts.runtime else {
            tracing::error!(%route, "the subscription of route {route} cannot be confirmed here");
            return;
        };
        let (gateway, route, id) = (self.clone(), route.clone(), id.to_owned());
        let call = async move {
            let mut pause = limits::CONFIRMATION_PAUSE;
            for attempt in 1..=limits::CONFIRMATION_ATTEMPTS {
                let why = match gateway.get(&url).await {
                    Ok(answer) if answer.status == 200 => {
                        tracing::info!(%route, "the subscription of route {route} is confirmed");
                        return;
                    }
                    Ok(answer) => format!("the answer was {}", answer.status),
                    Err(error) => error,
                };
                tracing::error!(%route, attempt, why, "the subscription of route {route} is not confirmed: {why}");
                if attempt < limits::CONFIRMATION_ATTEMPTS {
                    tokio::time::sleep(pause).await;
                    pause *= 5;
                }
            }
            // The platform may send the message again when it is asked to.
            gateway.0.callouts.forget(&id);
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
