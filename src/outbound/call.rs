//! One call of a workflow: it gets the proof of its connection, goes out, and goes out once more when the far end says
//! that our token is over.

use super::Client;
use super::auth::{self, Means, Proof};
use super::connection::Connection;
use super::error::Error;
use super::request::Request;
use super::response::Response;
use crate::clock::Clock;
use crate::domain::attempt::ExchangeRequest;
use crate::domain::masking::Masker;
use crate::domain::secret::Secrets;

/// Who calls, and what may be used for it.
#[derive(Clone, Copy)]
pub struct Caller<'c> {
    /// The far end; none for a call to a whole URL, which nobody proves anything for.
    pub connection: Option<&'c Connection>,
    pub secrets: &'c dyn Secrets,
    pub clock: &'c dyn Clock,
}

/// How a call ended, and what was sent last.
#[derive(Debug)]
pub struct Called {
    pub outcome: Outcome,
    /// The request as people see it; none when nothing was sent.
    pub request: Option<ExchangeRequest>,
}

/// How a call ended.
#[derive(Debug)]
pub enum Outcome {
    /// With an answer, any status.
    Answered(Response),
    /// Nothing was sent: the request could not be given its proof.
    Unproved(auth::Error),
    /// Without an answer.
    Broken(Error),
}

impl Client {
    /// Makes a call. The masker knows every secret of it afterwards.
    pub async fn call(&self, caller: &Caller<'_>, request: Request, masker: &mut Masker) -> Called {
        let mut means = Means { client: self, secrets: caller.secrets, clock: caller.clock, refused: None };
        loop {
            let mut proved = request.clone();
            let proof = match caller.connection {
                Some(connection) => connection.prove(&mut proved, &means, masker).await,
                None => Ok(Proof::Fixed),
            };
            let proof = match proof {
                Ok(proof) => proof,
                Err(error) => return Called { outcome: Outcome::Unproved(error), request: None },
            };
            let record = Some(proved.record(masker));
            let response = match self.send(proved).await {
                Ok(response) => response,
                Err(error) => return Called { outcome: Outcome::Broken(error), request: record },
            };
            let auth = caller.connection.and_then(|connection| connection.auth.as_ref());
            match proof {
                // What was refused for its token was not done, so it can be sent again, whatever its method.
                Proof::Token(token)
                    if means.refused.is_none() && auth.is_some_and(|auth| auth.is_refusal(&response)) =>
                {
                    means.refused = Some(token);
                }
                _ => return Called { outcome: Outcome::Answered(response), request: record },
            }
        }
    }
}
