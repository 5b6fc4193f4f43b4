//! Who we are in Azure, and whether the secrets that the files name can be had. No value is shown, nor its length.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};

use super::Finding;
use crate::azure::Azure;
use crate::domain::secret::{SecretRef, Secrets};
use crate::limits;
use crate::settings::Settings;
use crate::store::PostgresAuth;
use crate::tasks::blob::{Container, Place, Proof};

/// A token for each service that the settings use.
pub(super) async fn examine(settings: &Settings, azure: &Azure) -> Vec<Finding> {
    let cloud = azure.cloud();
    let storage = &settings.storage;
    let without_sas = [&storage.blob, &storage.records].into_iter().flatten().any(|place| place.sas.is_none());
    let by_identity = |place: &Place| matches!(place, Place::Container(Container { proof: Proof::Identity, .. }));
    let without_sas = without_sas || settings.blobs.values().any(by_identity);
    let by_token = storage.postgres.as_ref().is_some_and(|place| place.auth == PostgresAuth::Entra);
    let wanted = [
        ("identity for the vault", settings.secrets.vault_url.is_some(), cloud.vault_scope()),
        ("identity for Blob Storage", without_sas, cloud.storage_scope()),
        ("identity for PostgreSQL", by_token, cloud.postgres_scope()),
    ];
    let mut findings = Vec::new();
    for (about, _, scope) in wanted.into_iter().filter(|(_, wanted, _)| *wanted) {
        findings.push(match azure.token(&scope).await {
            Ok(_) => Finding::good(about, format!("{} gets tokens for {scope}", azure.identity())),
            Err(error) => Finding::bad(about, error.to_string(), "see `docs/azure.md`, section Identity"),
        });
    }
    findings
}

/// Every secret that a file names, each version and field of it once.
pub(super) async fn secrets<'r>(named: impl Iterator<Item = &'r SecretRef>, secrets: &dyn Secrets) -> Vec<Finding> {
    let named: BTreeMap<_, _> = named.map(|reference| (reference.in_full(), reference)).collect();
    let count = named.len();
    let looks = named.into_iter().map(async |(name, reference)| {
        let error = secrets.resolve(reference).await.err()?;
        let mend = "put it where `secrets` in clawhook.yaml says; `clawhook secrets check` shows where each is used";
        Some(Finding::bad(format!("secret {name}"), error.to_string(), mend))
    });
    let looked: Vec<_> = stream::iter(looks).buffered(limits::SECRETS_AT_ONCE_MAX).collect().await;
    let mut findings: Vec<_> = looked.into_iter().flatten().collect();
    if findings.is_empty() {
        findings.push(Finding::good("secrets", format!("all {count} that the files name can be had")));
    }
    findings
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use async_trait::async_trait;
    use serde_json::json;

    use super::*;
    use crate::domain::secret::{self, SecretValue};

    /// Has everything but the third version of a secret.
    #[derive(Debug)]
    struct NoThird;

    #[async_trait]
    impl Secrets for NoThird {
        async fn resolve(&self, reference: &SecretRef) -> Result<SecretValue, secret::Error> {
            if reference.version.as_deref() == Some("3") {
                let (name, help) = (reference.name.clone(), String::new());
                return Err(secret::Error::Missing { name, source_name: "vault", help });
            }
            Ok(SecretValue::new("x"))
        }
    }

    #[tokio::test]
    async fn each_version_and_field_is_looked_at() {
        let named = |more: serde_json::Value| {
            let mut written = json!({ "secret_ref": "erp" });
            written.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            SecretRef::from_yaml(&written).unwrap()
        };
        let plain = [json!({}), json!({ "prefix": "Bearer " }), json!({ "version": "4" }), json!({ "field": "key" })];
        let mut uses: Vec<_> = plain.map(named).into();
        assert_eq!(secrets(uses.iter(), &NoThird).await[0].found, "all 3 that the files name can be had");
        // Wherever it stands among the others.
        uses.insert(1, named(json!({ "version": "3", "field": "key" })));
        uses.push(named(json!({ "version": "5" })));
        let findings = secrets(uses.iter(), &NoThird).await;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].about, "secret erp field key version 3");
    }
}
