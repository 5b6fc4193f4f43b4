//! The calls to a platform: through its connection, with its proof and its budget, and patient when that is used up.

use std::fmt;

use serde_json::Value;

use super::{Ask, Change, Proof, Standing, Wanted, platform};
use crate::clock::{Clock, Timestamp};
use crate::domain::failure::Failure;
use crate::domain::masking::Masker;
use crate::domain::secret::{SecretRef, Secrets};
use crate::id::{ConnectionName, RunId};
use crate::limits;
use crate::outbound::call::{Caller, Outcome};
use crate::outbound::connection::Connection;
use crate::outbound::{Body, Cause, Client};
use crate::tasks::plan::{SubscriptionPlatform, SubscriptionProof};

/// Why a platform did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("connection `{connection}`: {why}")]
pub struct Trouble {
    pub connection: ConnectionName,
    pub why: String,
    pub help: Option<String>,
}

/// One platform, ready to be asked.
#[derive(Clone, Copy)]
pub struct Desk<'d> {
    pub connection: &'d Connection,
    pub platform: SubscriptionPlatform,
    /// Of the platform's API, when the route says one.
    pub api_version: Option<&'d str>,
    pub client: &'d Client,
    pub secrets: &'d dyn Secrets,
    pub clock: &'d dyn Clock,
}

impl fmt::Debug for Desk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desk({})", self.connection.name)
    }
}

impl Desk<'_> {
    /// Everything that the platform was asked to send, as far as it shows that to us.
    ///
    /// # Errors
    /// The platform did not answer, or in another form than it says.
    pub async fn list(&self) -> Result<Vec<Standing>, Trouble> {
        let platform = platform(self.platform);
        let (mut all, mut page) = (Vec::new(), None::<String>);
        for _ in 0..limits::SUBSCRIPTION_PAGES_MAX {
            let body = self.ask(platform.list(self.api_version, page.as_deref())).await?;
            let listed = platform.listed(&body, page.as_deref()).map_err(|why| self.trouble(why))?;
            all.extend(listed.standing);
            match listed.next {
                Some(next) if Some(&next) != page.as_ref() => page = Some(next),
                _ => return Ok(all),
            }
        }
        Err(self.trouble(format!("its list has more than {} pages", limits::SUBSCRIPTION_PAGES_MAX)))
    }

    /// Does one thing. Done again after a doubt it must be decided anew, by another list.
    ///
    /// # Errors
    /// The platform refused it, or nobody knows whether it did it.
    pub async fn apply(&self, change: &Change, wanted: Option<&Wanted>) -> Result<(), Trouble> {
        let platform = platform(self.platform);
        let ask = match (&change.id, wanted) {
            (None, Some(wanted)) => platform.create(wanted, &self.proof(&wanted.proof).await?),
            (Some(id), Some(wanted)) => platform.repair(id, wanted, &self.proof(&wanted.proof).await?),
            (Some(id), None) => platform.remove(self.api_version, id),
            (None, None) => return Ok(()),
        };
        self.ask(ask).await.map(drop)
    }

    async fn proof(&self, proof: &SubscriptionProof) -> Result<Proof, Trouble> {
        Ok(match proof {
            SubscriptionProof::Own => Proof::Own,
            SubscriptionProof::Secret(secret) => Proof::Secret(self.secret(secret).await?),
            SubscriptionProof::Hmac { header, secret } => {
                Proof::Hmac { header: header.clone(), secret: self.secret(secret).await? }
            }
            SubscriptionProof::Basic { header, secret } => {
                let pair = self.secret(secret).await?;
                let Some((user, password)) = pair.split_once(':') else {
                    let why = format!("secret `{}` has no colon between user and password", secret.name);
                    return Err(self.trouble(why));
                };
                Proof::Basic { header: header.clone(), user: user.to_owned(), password: password.to_owned() }
            }
        })
    }

    async fn secret(&self, reference: &SecretRef) -> Result<String, Trouble> {
        let value = self.secrets.resolve(reference).await.map_err(|error| self.trouble(error.to_string()))?;
        std::str::from_utf8(value.expose())
            .map(str::to_owned)
            .map_err(|_| self.trouble(format!("secret `{}` is not text", reference.name)))
    }

    async fn ask(&self, ask: Ask) -> Result<Value, Trouble> {
        let broken = |failure: Failure| Trouble { help: failure.help.clone(), ..self.trouble(failure.message) };
        let unsendable = |cause: Cause| broken(cause.unsendable());
        let mut masker = Masker::over(self.client.known(self.secrets));
        let began = self.clock.now();
        loop {
            let mut request = self.connection.request(ask.method.clone(), &ask.path, &ask.query).map_err(unsendable)?;
            if !request.has(&http::header::ACCEPT) {
                request.header("accept", b"application/json").map_err(unsendable)?;
            }
            if let Some(json) = &ask.json {
                request.body = Body::json(json);
            }
            let caller = Caller {
                connection: Some(self.connection),
                stead: None,
                // Nobody shares this budget with us: the process does nothing else.
                run: RunId::floor(began),
                ticket: "subscriptions",
                secrets: self.secrets,
                clock: self.clock,
                time_limit: limits::REQUEST_TIMEOUT,
            };
            let at = match self.client.call(&caller, request, &mut masker).await.outcome {
                Outcome::Answered(response) => {
                    let text = String::from_utf8_lossy(&response.body);
                    let shown = masker.mask(&text).chars().take(SHOWN_CHARS).collect::<String>();
                    if !response.status.is_success() {
                        let why = format!("`{} {}` was answered {}: {shown}", ask.method, ask.path, response.status);
                        let help = matches!(response.status.as_u16(), 401 | 403)
                            .then(|| "check the credentials of the connection, and what they may do".to_owned());
                        return Err(Trouble { help, ..self.trouble(why) });
                    }
                    let body = match serde_json::from_slice(&response.body) {
                        Ok(body) => body,
                        Err(_) if response.body.is_empty() => Value::Null,
                        Err(_) => {
                            return Err(self
                                .trouble(format!("`{} {}` was answered without JSON: {shown}", ask.method, ask.path)));
                        }
                    };
                    return match platform(self.platform).refusal(&body) {
                        Some(why) => Err(self.trouble(format!("it refused: {}", masker.mask(&why)))),
                        None => Ok(body),
                    };
                }
                Outcome::Throttled { at, .. } | Outcome::Later { at, .. } => at,
                Outcome::Unproved(error) => return Err(self.trouble(masker.mask(&error.to_string()).into_owned())),
                Outcome::Broken(error) => {
                    let failure = error.failure();
                    let message = masker.mask(&failure.message).into_owned();
                    let help = "it may have been done or not: `clawhook subscriptions plan` tells".to_owned();
                    return Err(Trouble { help: Some(help), ..self.trouble(message) });
                }
            };
            self.wait(began, at).await?;
        }
    }

    /// Waits for quota, within bounds.
    async fn wait(&self, began: Timestamp, at: Timestamp) -> Result<(), Trouble> {
        let now = self.clock.now();
        if at.since(began) > limits::SUBSCRIPTION_WAIT_MAX {
            return Err(self.trouble(format!("its quota is used up until {at}")));
        }
        tokio::time::sleep(at.since(now)).await;
        Ok(())
    }

    fn trouble(&self, why: impl Into<String>) -> Trouble {
        Trouble { connection: self.connection.name.clone(), why: why.into(), help: None }
    }
}

/// Characters of an answer that are shown.
const SHOWN_CHARS: usize = 300;
