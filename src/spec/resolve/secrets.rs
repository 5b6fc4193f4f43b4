//! The secrets that files name, and which of them cannot be had.

use std::collections::HashMap;

use crate::domain::secret::{Error, SecretRef, SecretValue, Secrets};
use crate::signature::{KeyError, Keys};
use crate::spec::diagnostic::{Problem, Spot};
use crate::tasks::plan::{RoutePlan, Verify};

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

/// Hands every verifier its secrets, as a gateway does before the first delivery, and tells those that cannot be keys of
/// its scheme: an AES key that lost a character, a password without a name. What cannot be had at all is not told again.
/// Values are dropped at once, and no part of one is printed.
pub async fn unfit_keys<'p>(
    routes: impl Iterator<Item = &'p RoutePlan>,
    uses: &[SecretUse],
    secrets: &dyn Secrets,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for route in routes {
        let Verify::Scheme { verifier, secrets: named } = &route.verify else { continue };
        let Some(values) = values(named, secrets).await else { continue };
        let mut keys = Keys::default();
        for (slot, _, value) in &values {
            keys.add(slot, value.expose());
        }
        let Err(error) = verifier.prepare(&keys) else { continue };
        let mut slots = values.iter();
        let bad = match &error {
            KeyError::Bad { name, place, .. } => slots.filter(|(slot, ..)| slot == name).nth(*place),
            KeyError::Missing { .. } | KeyError::Unpaired { .. } => slots.next(),
        };
        let Some((_, reference, _)) = bad else { continue };
        if let Some(used) = uses.iter().find(|used| used.reference == **reference) {
            let message = format!("the route `{}` cannot verify: {error}", route.name);
            problems
                .push(Problem::new("spec.verify", message, &used.spot.source, used.spot.span).help("mend its value"));
        }
    }
    problems
}

/// The values of a verifier's secrets; nothing when one of them cannot be had.
async fn values<'n>(
    named: &'n [(String, Vec<SecretRef>)],
    secrets: &dyn Secrets,
) -> Option<Vec<(&'n str, &'n SecretRef, SecretValue)>> {
    let mut values = Vec::new();
    for (slot, references) in named {
        for reference in references {
            values.push((slot.as_str(), reference, secrets.resolve(reference).await.ok()?));
        }
    }
    Some(values)
}
