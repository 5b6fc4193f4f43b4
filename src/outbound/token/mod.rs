//! A connection that proves itself by a token which ends: how the token is asked for ([`Grant`]), who keeps it
//! ([`Tokens`]), and where it goes.

use async_trait::async_trait;

mod grant;
mod keep;
mod settings;

pub(super) use grant::{ClientAuth, Fill, Grant};
pub(super) use keep::Tokens;
pub(super) use settings::Secret;
pub(in crate::outbound) use settings::Text;

use super::auth::{Auth, Error, Means, Proof, TokenId, put_secret};
use super::request::Request;
use super::response::Glance;
use crate::domain::masking::Masker;
use crate::domain::secret::SecretRef;

/// A token, asked for by a grant, in a header.
#[derive(Debug)]
pub(super) struct TokenAuth {
    pub(in crate::outbound) grant: Grant,
    /// The header that carries the token, and what stands before it there.
    pub(super) header: (&'static str, &'static str),
    /// What else goes with every call.
    pub(super) beside: Vec<(&'static str, Fill)>,
    /// Also a 403 can mean that the token is over, when its body speaks of the token.
    pub(super) forbidden_is_refusal: bool,
}

/// `Authorization: Bearer …` (RFC 6750 section 2.1).
pub(super) const BEARER: (&str, &str) = ("authorization", "Bearer ");

#[async_trait]
impl Auth for TokenAuth {
    fn secrets(&self) -> Vec<&SecretRef> {
        let beside = self.beside.iter().filter_map(|(_, fill)| fill.secret());
        self.grant.secrets().into_iter().chain(beside).collect()
    }

    async fn apply(&self, request: &mut Request, with: &Means<'_>, masker: &mut Masker) -> Result<Proof, Error> {
        let token = with.client.tokens().get(&self.grant, &request.tls, with, masker).await?;
        let (name, prefix) = self.header;
        let value = [prefix.as_bytes(), token.value.expose()].concat();
        put_secret(request, name, &value, &self.grant.client_secret)?;
        for (name, fill) in &self.beside {
            fill.put(name, request, with, masker).await?;
        }
        Ok(Proof::Token(token.id))
    }

    fn is_refusal(&self, answer: &Glance<'_>) -> bool {
        match answer.status.as_u16() {
            401 => true,
            403 if self.forbidden_is_refusal => {
                let body = String::from_utf8_lossy(answer.body).to_ascii_lowercase();
                body.contains("access token")
            }
            _ => false,
        }
    }

    fn may_replace(&self, token: TokenId, with: &Means<'_>) -> bool {
        with.client.tokens().may_replace(&self.grant, token, with.clock.now())
    }
}
