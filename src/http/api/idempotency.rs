//! Answers a repeated POST as it answered the first. What starts runs is made once by the store, across restarts; the
//! other actions are remembered here, in memory and bounded, which spares a caller that lost an answer a refusal such
//! as "it is cancelled already". Only successes are remembered: after a failure the next try is a first try.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use super::input::{Json, idempotency_key};
use super::shown;
use crate::domain::delivery::DeliveryKey;
use crate::gateway::{self, Caller};
use crate::http::problem::{self, Problem};
use crate::limits;

/// What was answered under which key.
#[derive(Debug, Default)]
pub(in crate::http) struct Answers(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    known: HashMap<DeliveryKey, Known>,
    /// Answered keys, oldest first.
    order: VecDeque<(Instant, DeliveryKey)>,
}

#[derive(Debug)]
struct Known {
    /// Of the body: a key belongs to one request.
    request: DeliveryKey,
    /// Nothing while the first request is under way.
    answer: Option<Bytes>,
}

impl Answers {
    /// Does `act`, unless this caller sent this key to this path before: then the answer is the one from then.
    pub(super) async fn once<T, S: Serialize>(
        &self,
        caller: &Caller,
        request: &HttpRequest,
        body: &Json<T>,
        act: impl Future<Output = Result<S, gateway::Error>>,
    ) -> Result<HttpResponse, Problem> {
        let Some(key) = idempotency_key(request)? else { return Ok(shown(&act.await?)) };
        let verb = format!("{} {}", request.method(), request.path());
        let key = DeliveryKey::of_call(&caller.name, &verb, &key);
        let sent = DeliveryKey::of_body(request.path(), &body.raw);
        if let Some(answer) = self.begin(key, sent)? {
            return Ok(json(answer));
        }
        // Lets go of the key when the work fails, or the caller goes away.
        let mut claim = Claim { answers: self, key, answer: None };
        let done = act.await?;
        let answer = serde_json::to_vec(&done).map_err(|error| gateway::Error::Broken(error.to_string()))?;
        let answer = Bytes::from(answer);
        claim.answer = Some(answer.clone());
        Ok(json(answer))
    }

    /// The answer from before; or nothing, and the key is taken.
    fn begin(&self, key: DeliveryKey, sent: DeliveryKey) -> Result<Option<Bytes>, Problem> {
        let mut table = self.table();
        match table.known.get(&key) {
            Some(known) if known.request != sent => {
                let detail = "this idempotency key came before with another body";
                Err(Problem::new(problem::KEY_REUSED, detail).help("send a new key for a new request"))
            }
            Some(Known { answer: Some(answer), .. }) => Ok(Some(answer.clone())),
            Some(Known { answer: None, .. }) => {
                let detail = "the first request with this idempotency key is not answered yet";
                Err(Problem::new(problem::KEY_BUSY, detail))
            }
            None => {
                table.known.insert(key, Known { request: sent, answer: None });
                Ok(None)
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn remember(&mut self, key: DeliveryKey, answer: Bytes) {
        if let Some(known) = self.known.get_mut(&key) {
            known.answer = Some(answer);
            self.order.push_back((Instant::now(), key));
        }
        while let Some((at, oldest)) = self.order.front().copied()
            && (self.order.len() > limits::ANSWERS_KEPT_MAX || at.elapsed() > limits::CALL_KEY_WINDOW)
        {
            self.order.pop_front();
            self.known.remove(&oldest);
        }
    }
}

/// A key whose first request is under way.
struct Claim<'a> {
    answers: &'a Answers,
    key: DeliveryKey,
    answer: Option<Bytes>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut table = self.answers.table();
        match self.answer.take() {
            Some(answer) => table.remember(self.key, answer),
            None => drop(table.known.remove(&self.key)),
        }
    }
}

fn json(body: Bytes) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, "application/json")).body(body)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::future::{pending, ready};

    use actix_web::body::MessageBody;
    use actix_web::test::TestRequest;

    use super::*;

    const PATH: &str = "/v1/runs/x/cancel";

    async fn ask(answers: &Answers, key: Option<&str>, body: &str, done: Result<u32, gateway::Error>) -> String {
        let mut request = TestRequest::post().uri(PATH);
        if let Some(key) = key {
            request = request.insert_header(("idempotency-key", key));
        }
        let body = Json { value: (), raw: Bytes::copy_from_slice(body.as_bytes()) };
        match answers.once(&Caller::local(), &request.to_http_request(), &body, ready(done)).await {
            Ok(answer) => String::from_utf8(answer.into_body().try_into_bytes().unwrap().to_vec()).unwrap(),
            Err(problem) => problem.kind().code.to_owned(),
        }
    }

    #[tokio::test]
    async fn the_first_success_counts() {
        let answers = Answers::default();
        let full = || Err(gateway::Error::Unavailable("full".into()));
        assert_eq!(ask(&answers, None, "{}", Ok(1)).await, "1");
        assert_eq!(ask(&answers, Some("a"), "{}", full()).await, "store.unavailable");
        assert_eq!(ask(&answers, Some("a"), "{}", Ok(2)).await, "2");
        assert_eq!(ask(&answers, Some("a"), "{}", Ok(3)).await, "2");
        assert_eq!(ask(&answers, Some("a"), "{ }", Ok(3)).await, "http.idempotency_key_reused");
        assert_eq!(ask(&answers, Some("b"), "{}", Ok(4)).await, "4");
        assert_eq!(ask(&answers, None, "{}", Ok(5)).await, "5");
    }

    #[tokio::test]
    async fn a_second_request_does_not_overtake_the_first() {
        let answers = Answers::default();
        let request = TestRequest::post().uri(PATH).insert_header(("idempotency-key", "a")).to_http_request();
        let body = Json { value: (), raw: Bytes::from_static(b"{}") };
        let caller = Caller::local();
        let mut first = Box::pin(answers.once(&caller, &request, &body, pending::<Result<u32, _>>()));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert_eq!(ask(&answers, Some("a"), "{}", Ok(1)).await, "http.idempotency_key_busy");
        drop(first);
        assert_eq!(ask(&answers, Some("a"), "{}", Ok(1)).await, "1");
    }

    #[tokio::test]
    async fn old_answers_are_forgotten() {
        let answers = Answers::default();
        for number in 0..=limits::ANSWERS_KEPT_MAX {
            ask(&answers, Some(&number.to_string()), "{}", Ok(1)).await;
        }
        assert_eq!(answers.table().known.len(), limits::ANSWERS_KEPT_MAX);
        assert_eq!(ask(&answers, Some("0"), "{}", Ok(2)).await, "2");
    }
}
