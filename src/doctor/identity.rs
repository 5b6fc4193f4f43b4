//! Who we are in Azure, and whether the secrets that the files name can be had. No value is shown, nor its length.

use std::collections::BTreeMap;

use super::Finding;
use crate::azure::Azure;
use crate::domain::secret::Secrets;
use crate::settings::Settings;
use crate::spec::SecretUse;
use crate::store::PostgresAuth;

/// A token for each service that the settings use.
pub(super) async fn examine(settings: &Settings, azure: &Azure) -> Vec<Finding> {
    let cloud = azure.cloud();
    let storage = &settings.storage;
    let without_sas = [&storage.blob, &storage.records].into_iter().flatten().any(|place| place.sas.is_none());
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

/// Every secret that a file names, once.
pub(super) async fn secrets(uses: &[SecretUse], secrets: &dyn Secrets) -> Vec<Finding> {
    let named: BTreeMap<_, _> = uses.iter().map(|used| (used.reference.name.clone(), &used.reference)).collect();
    let mut findings = Vec::new();
    for (name, reference) in &named {
        if let Err(error) = secrets.resolve(reference).await {
            let mend =
                "put it where `secrets` in clawhook.yaml says; `clawhook secrets check` shows where each is used";
            findings.push(Finding::bad(format!("secret {name}"), error.to_string(), mend));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::good("secrets", format!("all {} that the files name can be had", named.len())));
    }
    findings
}
