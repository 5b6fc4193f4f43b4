//! Keeps tokens for all who need the same one.
//!
//! A token is asked for once, however many wait for it, and whoever waited gets the same answer, also when there is
//! none. It is asked for again some time before it ends, at a moment that differs from process to process, while the
//! old one still serves. The question itself runs to its end even when the attempt that asked is cut off: a refresh
//! token that was exchanged meanwhile would be lost with it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use super::grant::Grant;
use crate::clock::Timestamp;
use crate::domain::failure::{Failure, Sent};
use crate::domain::masking::Masker;
use crate::domain::secret::{SecretRef, SecretValue};
use crate::id::SecretName;
use crate::limits;
use crate::outbound::Client;
use crate::outbound::auth::{Error, Means, TokenId};
use crate::outbound::request::{Request, Tls};

/// The tokens of one process.
#[derive(Default)]
pub(in crate::outbound) struct Tokens {
    cells: Mutex<HashMap<Grant, Arc<Cell>>>,
    given: Mutex<Given>,
}

/// Values that records must not show.
#[derive(Default)]
struct Given {
    /// The newest last.
    values: VecDeque<(SecretName, SecretValue)>,
    /// A masker that knows them, and the one beneath it.
    masker: Option<(Arc<Masker>, Arc<Masker>)>,
}

/// One token.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) id: TokenId,
    pub(super) value: SecretValue,
    asked_at: Timestamp,
    refresh_at: Timestamp,
    expires_at: Timestamp,
}

type Flight = Shared<BoxFuture<'static, Result<Token, Arc<Failure>>>>;

/// All that is known of one grant.
#[derive(Default)]
struct Cell(Mutex<State>);

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// Somebody is asking.
    flight: Option<Flight>,
    /// Nobody asks again before this moment.
    failed: Option<(Timestamp, Arc<Failure>)>,
    rotated: Option<Rotated>,
}

/// A refresh token that replaced the one in the secret source.
struct Rotated {
    /// What the source held when it was replaced: when that changes, the source is right again.
    source: SecretValue,
    now: SecretValue,
}

static TOKENS: AtomicU64 = AtomicU64::new(1);

impl Cell {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a look at a cell tells.
enum Look {
    Have(Token),
    Wait(Flight),
    /// The question failed a moment ago.
    Failed(Arc<Failure>),
    /// Ask; meanwhile this one still serves.
    Ask(Option<Token>),
}

impl State {
    fn look(&mut self, refused: Option<TokenId>, now: Timestamp) -> Look {
        if self.token.as_ref().is_some_and(|token| Some(token.id) == refused || token.expires_at <= now) {
            self.token = None;
        }
        let resting = self.failed.as_ref().filter(|(until, _)| now < *until).map(|(_, failure)| Arc::clone(failure));
        match (&self.token, &self.flight, resting) {
            (Some(token), flight, resting) if token.refresh_at > now || flight.is_some() || resting.is_some() => {
                Look::Have(token.clone())
            }
            (_, Some(flight), _) => Look::Wait(flight.clone()),
            (None, None, Some(failure)) => Look::Failed(failure),
            (token, None, _) => Look::Ask(token.clone()),
        }
    }
}

impl Tokens {
    /// The token of `grant`: the one that is there, or a new one. The masker knows it afterwards.
    pub(super) async fn get(
        &self,
        grant: &Grant,
        tls: &Tls,
        with: &Means<'_>,
        masker: &mut Masker,
    ) -> Result<Token, Error> {
        let cell = self.cell(grant);
        let now = with.clock.now();
        let look = cell.lock().look(with.refused, now);
        let token = match look {
            Look::Have(token) => token,
            Look::Wait(flight) => flight.await.map_err(Error::Grant)?,
            Look::Failed(failure) => return Err(Error::Grant(failure)),
            Look::Ask(serving) => match (self.ask(&cell, grant, tls, with).await, serving) {
                // The old one serves on, whatever keeps us from asking for a new one.
                (_, Some(token)) => token,
                (Ok(flight), None) => flight.await.map_err(Error::Grant)?,
                (Err(error), None) => return Err(error),
            },
        };
        masker.add(&chip(), &token.value);
        self.given(&grant.client_secret, &cell, &token);
        Ok(token)
    }

    /// Whether another token may be asked for in place of a refused one. Who refuses one that is fresh refuses the next
    /// one too, and a token endpoint that is asked at every call shuts its door before long.
    pub(super) fn may_replace(&self, grant: &Grant, refused: TokenId, now: Timestamp) -> bool {
        let cell = self.cell(grant);
        let state = cell.lock();
        let same = state.token.as_ref().filter(|token| token.id == refused);
        same.is_none_or(|token| now.since(token.asked_at) >= limits::TOKEN_FRESH)
    }

    /// A masker over `beneath` that knows the tokens given lately, so that one which a far end repeats to another task
    /// is found.
    pub(in crate::outbound) fn known(&self, beneath: Arc<Masker>) -> Arc<Masker> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.values.is_empty() {
            return beneath;
        }
        if let Some((over, masker)) = &given.masker
            && Arc::ptr_eq(over, &beneath)
        {
            return Arc::clone(masker);
        }
        let mut masker = Masker::over(Arc::clone(&beneath));
        for (name, value) in &given.values {
            masker.add(name, value);
        }
        let masker = Arc::new(masker);
        given.masker = Some((beneath, Arc::clone(&masker)));
        masker
    }

    fn cell(&self, grant: &Grant) -> Arc<Cell> {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = cells.get(grant) {
            return Arc::clone(cell);
        }
        // Settings that were replaced many times get here. A refresh token that only we know is not forgotten.
        if cells.len() >= limits::TOKEN_GRANTS_MAX {
            cells.retain(|_, cell| cell.lock().rotated.is_some());
        }
        Arc::clone(cells.entry(grant.clone()).or_default())
    }

    fn given(&self, from: &SecretRef, cell: &Cell, token: &Token) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let rotated = cell.lock().rotated.as_ref().map(|rotated| (from.name.clone(), rotated.now.clone()));
        for entry in [(chip(), token.value.clone())].into_iter().chain(rotated) {
            if !given.values.contains(&entry) {
                given.values.push_back(entry);
                given.masker = None;
            }
        }
        while given.values.len() > limits::TOKENS_MASKED_MAX {
            given.values.pop_front();
        }
    }

    /// Starts the question, or joins one that was started meanwhile.
    async fn ask(&self, cell: &Arc<Cell>, grant: &Grant, tls: &Tls, with: &Means<'_>) -> Result<Flight, Error> {
        let mut masker = Masker::over(with.secrets.known());
        let source = match &grant.refresh_token {
            Some(reference) => Some(with.secret(reference, &mut masker).await?),
            None => None,
        };
        let refresh_token = {
            let mut state = cell.lock();
            if state.rotated.as_ref().is_some_and(|rotated| Some(&rotated.source) != source.as_ref()) {
                state.rotated = None;
            }
            state.rotated.as_ref().map(|rotated| rotated.now.clone()).or_else(|| source.clone())
        };
        if let (Some(reference), Some(token)) = (&grant.refresh_token, &refresh_token) {
            masker.add(&reference.name, token);
        }
        let request = grant.request(refresh_token.as_ref(), tls.clone(), with, &mut masker).await?;
        let mut state = cell.lock();
        // Somebody else may have asked, and been answered, while we read secrets: a refresh token may serve only once.
        match state.look(with.refused, with.clock.now()) {
            Look::Wait(flight) => return Ok(flight),
            Look::Have(token) => return Ok(std::future::ready(Ok(token)).boxed().shared()),
            Look::Failed(_) | Look::Ask(_) => {}
        }
        let question = Question {
            client: with.client.clone(),
            cell: Arc::clone(cell),
            grant: grant.clone(),
            masker,
            source,
            sent: refresh_token,
            asked_at: with.clock.now(),
        };
        let flight = question.put(request).boxed().shared();
        state.flight = Some(flight.clone());
        with.client.spawn(flight.clone().map(drop));
        Ok(flight)
    }
}

/// Everything that a question needs to run to its end alone.
struct Question {
    client: Client,
    cell: Arc<Cell>,
    grant: Grant,
    masker: Masker,
    /// The refresh token in the secret source, and the one that is sent.
    source: Option<SecretValue>,
    sent: Option<SecretValue>,
    asked_at: Timestamp,
}

impl Question {
    async fn put(self, request: Request) -> Result<Token, Arc<Failure>> {
        let answer = match self.client.send(request).await {
            Ok(response) => self.grant.read(&response, &self.masker, self.asked_at),
            // What was sent is the question for a token, and not the call that needs it: that one can be made again.
            Err(error) => {
                let failure = error.failure().sent(Sent::No);
                let message = format!("no token for the call: {}", self.masker.mask(&failure.message));
                Err(Failure { code: "token.unavailable".to_owned(), message, ..failure })
            }
        };
        let mut state = self.cell.lock();
        state.flight = None;
        let granted = match answer {
            Ok(granted) => granted,
            Err(failure) => {
                let failure = Arc::new(failure);
                let until = self.asked_at.plus(limits::TOKEN_FAILURE_KEPT);
                state.failed = Some((until, Arc::clone(&failure)));
                return Err(failure);
            }
        };
        state.failed = None;
        if let (Some(source), Some(new)) = (self.source, granted.refresh_token)
            && Some(&new) != self.sent.as_ref()
        {
            let secret = self.grant.refresh_token.as_ref().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(
                secret,
                "the token endpoint replaced the refresh token of secret `{secret}`: the new one is kept in memory only. \
                 If the old one does not serve on, authorize again before the gateway is restarted"
            );
            metrics::counter!("clawhook_refresh_tokens_replaced_total").increment(1);
            state.rotated = Some(Rotated { source, now: new });
        }
        let early = granted.lifetime.mul_f64(EARLY + EARLY_SPREAD * rand::random::<f64>());
        let token = Token {
            id: TokenId(TOKENS.fetch_add(1, Ordering::Relaxed)),
            value: granted.token,
            asked_at: self.asked_at,
            refresh_at: self.asked_at.plus(granted.lifetime.saturating_sub(early)),
            expires_at: self.asked_at.plus(granted.lifetime),
        };
        state.token = Some(token.clone());
        Ok(token)
    }
}

/// A token is asked for anew when this share of its life is left, and up to [`EARLY_SPREAD`] sooner.
const EARLY: f64 = 0.10;
const EARLY_SPREAD: f64 = 0.05;

/// What stands in records where a token was: `[secret:access-token]`.
fn chip() -> SecretName {
    SecretName::new("access-token").expect("the name keeps the rule of names")
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}
