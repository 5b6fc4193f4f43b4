//! Secrets from the environment: `erp-api-key` is `CLAWHOOK_SECRET_ERP_API_KEY`.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Found, SecretSource, Source};
use crate::domain::secret::Error;
use crate::id::SecretName;

pub(super) const SOURCE: Source = Source {
    name: "env",
    summary: "The environment of the process: `erp-api-key` is read from `CLAWHOOK_SECRET_ERP_API_KEY`.",
    local: true,
    open: |_, _| Ok(Arc::new(Env)),
};

#[derive(Debug)]
struct Env;

#[async_trait]
impl SecretSource for Env {
    fn place(&self) -> &'static str {
        "environment"
    }

    fn remedy(&self, name: &SecretName) -> String {
        format!("set `{}` and start again", variable(name))
    }

    #[expect(clippy::disallowed_methods, reason = "this source is the environment")]
    async fn read(&self, name: &SecretName, _: Option<&str>) -> Result<Found, Error> {
        match std::env::var(variable(name)) {
            Ok(value) if !value.is_empty() => Ok(Found::of(value)),
            _ => Err(Error::Missing { name: name.clone(), source_name: self.place(), help: self.remedy(name) }),
        }
    }
}

/// The variable that holds a secret.
fn variable(name: &SecretName) -> String {
    format!("CLAWHOOK_SECRET_{}", name.as_str().to_ascii_uppercase().replace(['-', '.'], "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_variables() {
        let name = SecretName::new("erp-api.key_2").expect("a name");
        assert_eq!(variable(&name), "CLAWHOOK_SECRET_ERP_API_KEY_2");
    }
}
