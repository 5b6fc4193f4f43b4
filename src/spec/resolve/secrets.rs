//! The secrets that files name, and which of them cannot be had.

use std::collections::HashMap;

use crate::domain::secret::{Error, SecretRef, Secrets};
use crate::spec::diagnostic::{Problem, Spot};

/// A secret that a file names.
#[derive(Debug, Clone)]
pub struct SecretUse {
    /// Which secret.
    pub reference: SecretRef,
    /// Where it is named.
    pub spot: Spot,
}

impl SecretUse {
    /// The file, and the line from 1.
    pub fn place(&self) -> (&str, usize) {
        let Spot { source, span, .. } = &self.spot;
        (source.name(), source.position(span.start).0)
    }

    /// The problem of a secret that cannot be had.
    pub fn problem(&self, error: &Error) -> Problem {
        let name = &self.reference.name;
        let (message, help) = match error {
            Error::Missing { source_name, help, .. } => {
                (format!("there is no secret `{name}` in the {source_name}"), help.clone())
            }
            Error::Barred { source_name, bar, help, .. } => {
                (format!("the secret `{name}` is in the {source_name}, but {bar}"), help.clone())
            }
            Error::Unusable { why, .. } => {
                (format!("the secret `{name}` cannot be used: {why}"), "mend its value".to_owned())
            }
            Error::Source { source_name, why, .. } => {
                let message = format!("the secret `{name}` cannot be read from the {source_name}: {why}");
                (message, "check the `secrets` section of `clawhook.yaml`".to_owned())
            }
        };
        let mut problem = Problem::new("spec.unknown_secret", message, &self.spot.source, self.spot.span).help(help);
        problem.spot.label.clone_from(&self.spot.label);
        problem
    }
}

/// Looks every secret up, each once, and tells those that cannot be had. Values are dropped at once.
pub async fn missing_secrets(uses: &[SecretUse], secrets: &dyn Secrets) -> Vec<Problem> {
    let mut known: HashMap<&SecretRef, Option<Error>> = HashMap::new();
    let mut problems = Vec::new();
    for used in uses {
        if !known.contains_key(&used.reference) {
            known.insert(&used.reference, secrets.resolve(&used.reference).await.err());
        }
        problems.extend(known[&used.reference].as_ref().map(|error| used.problem(error)));
    }
    problems
}
