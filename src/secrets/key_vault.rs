//! Secrets from an Azure Key Vault. Vault names know letters, digits and `-` only, so `.` and `_` of ours become `-`.
//!
//! It reads; it lists, writes and remembers nothing. The vault hands out secrets that are expired or not valid yet, so
//! their times are given along and judged by whoever asked.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::http::{RawResponse, RetryOptions};
use azure_core::time::OffsetDateTime;
use azure_security_keyvault_secrets::models::{Secret, SecretClientGetSecretOptions};
use azure_security_keyvault_secrets::{ResourceExt as _, SecretClient, SecretClientOptions};
use serde_json::Value;
use url::Url;

use super::{Found, OpenError, SecretSource, Source};
use crate::azure::{Azure, Identity, chain, roles};
use crate::clock::Timestamp;
use crate::domain::secret::{Bar, Error, SecretValue};
use crate::id::SecretName;

pub(super) const SOURCE: Source = Source {
    name: "key-vault",
    summary: "An Azure Key Vault (`secrets.vault_url`), read as the identity under `azure`.",
    local: false,
    open: |settings, azure| match &settings.vault_url {
        Some(url) => Ok(Arc::new(KeyVault::open(url, azure)?)),
        None => Err(settings_error("set `secrets.vault_url` to the address of the vault")),
    },
};

/// What the source is called in sentences.
const PLACE: &str = "key vault";
/// The role that may read the values of secrets, and nothing else.
const ROLE: &str = "Key Vault Secrets User";

struct KeyVault {
    client: SecretClient,
    azure: Arc<Azure>,
    /// The first label of its host, which is its name in Azure.
    name: String,
}

impl KeyVault {
    fn open(url: &str, azure: &Arc<Azure>) -> Result<Self, OpenError> {
        let wrong = |error: &dyn std::error::Error| settings_error(chain(error));
        let parsed = Url::parse(url).map_err(|error| wrong(&error))?;
        let host = parsed.host_str().unwrap_or_default();
        let mut client_options = azure.client_options().map_err(|error| wrong(&error))?;
        // When to try again is decided in one place, the cache, which knows how long others can wait.
        client_options.retry = RetryOptions::none();
        let options = SecretClientOptions {
            client_options,
            // The vault says for whom tokens must be; only on this machine may its name be another than its service's.
            verify_challenge_resource: Some(!matches!(host, "localhost" | "127.0.0.1" | "[::1]")),
            ..SecretClientOptions::default()
        };
        let credential = azure.credential().map_err(|error| wrong(&error))?;
        let client = SecretClient::new(url, credential, Some(options)).map_err(|error| wrong(&error))?;
        let name = host.split('.').next().unwrap_or_default().to_owned();
        Ok(Self { client, azure: Arc::clone(azure), name })
    }
}

impl std::fmt::Debug for KeyVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyVault({})", self.name)
    }
}

#[async_trait]
impl SecretSource for KeyVault {
    fn place(&self) -> &'static str {
        PLACE
    }

    fn remedy(&self, name: &SecretName) -> String {
        let Self { name: vault, .. } = self;
        let name = vault_name(name);
        // Without the last words it prints the value.
        format!("az keyvault secret set --vault-name {vault} --name {name} --file FILE_WITH_THE_VALUE --output none")
    }

    async fn read(&self, name: &SecretName, version: Option<&str>) -> Result<Found, Error> {
        let unusable = |why: String| Error::Unusable { name: name.clone(), why };
        if version.is_some_and(|version| !version.chars().all(|c| c.is_ascii_alphanumeric()) || version.is_empty()) {
            return Err(unusable("a `version` in a key vault is made of letters and digits".to_owned()));
        }
        let options = SecretClientGetSecretOptions {
            secret_version: version.map(str::to_owned),
            ..SecretClientGetSecretOptions::default()
        };
        let answer = self.client.get_secret(&vault_name(name), Some(options)).await;
        let secret = answer
            .and_then(azure_core::http::Response::into_model)
            .map_err(|error| self.refusal(name, version, &error))?;
        found(secret).ok_or_else(|| unusable("it has no value".to_owned()))
    }
}

impl KeyVault {
    /// What a call that failed means for a secret.
    fn refusal(&self, name: &SecretName, version: Option<&str>, error: &azure_core::Error) -> Error {
        let failed =
            |why: String, retry_after| Error::Source { name: name.clone(), source_name: PLACE, why, retry_after };
        let barred = |bar, help| Error::Barred { name: name.clone(), source_name: PLACE, bar, help };
        let (status, answer) = match error.kind() {
            ErrorKind::HttpResponse { status, raw_response: Some(answer), .. } => (u16::from(*status), answer),
            ErrorKind::HttpResponse { status, .. } => return failed(format!("it answered {status}"), None),
            ErrorKind::Credential => {
                return failed(format!("there is no token as {}: {}", self.azure.identity(), chain(error)), None);
            }
            _ => return failed(chain(error), None),
        };
        let Said { codes, message } = Said::of(answer.body());
        let said = |code: &str| codes.iter().any(|said| said == code);
        match status {
            404 => Error::Missing {
                name: name.clone(),
                source_name: PLACE,
                help: match version {
                    Some(version) => format!("there is no version `{version}` of it; correct it, or leave it out"),
                    None => self.remedy(name),
                },
            },
            403 if said("SecretDisabled") => barred(Bar::Disabled, self.enabling(name, version)),
            403 if said("ForbiddenByFirewall") || said("ForbiddenByConnection") => {
                failed(format!("its firewall does not let this machine in: {message}"), None)
            }
            403 => barred(Bar::Forbidden, self.assignment()),
            _ => failed(format!("it answered {status}: {message}"), retry_after(answer)),
        }
    }

    /// The command that lets us read.
    fn assignment(&self) -> String {
        let scope = format!("\"$(az keyvault show --name {} --query id --output tsv)\"", self.name);
        let line = roles::assignment(self.azure.identity(), ROLE, &scope);
        match self.azure.identity() {
            Identity::Cli => line,
            _ => format!("{line} # it may take some minutes to count"),
        }
    }

    /// The command that switches a secret on again.
    fn enabling(&self, name: &SecretName, version: Option<&str>) -> String {
        let version = version.map(|version| format!(" --version {version}")).unwrap_or_default();
        let Self { name: vault, .. } = self;
        let name = vault_name(name);
        format!(
            "az keyvault secret set-attributes --vault-name {vault} --name {name}{version} --enabled true --output none"
        )
    }
}

fn settings_error(why: impl Into<String>) -> OpenError {
    OpenError::Settings { name: "key-vault", why: why.into() }
}

/// The name in the vault.
fn vault_name(name: &SecretName) -> String {
    name.as_str().replace(['.', '_'], "-")
}

fn found(secret: Secret) -> Option<Found> {
    let version = secret.resource_id().ok().and_then(|id| id.version);
    let attributes = secret.attributes.unwrap_or_default();
    let at = |time: OffsetDateTime| Timestamp::from_secs(time.unix_timestamp());
    Some(Found {
        value: SecretValue::new(secret.value?),
        version,
        content_type: secret.content_type,
        valid_from: attributes.not_before.map(at),
        valid_until: attributes.expires.map(at),
    })
}

/// What the body of an error says. The SDK's own reading of it stumbles over line ends in the message.
struct Said {
    codes: Vec<String>,
    message: String,
}

impl Said {
    fn of(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut codes = Vec::new();
        let mut error = &body["error"];
        let message = error["message"].as_str().unwrap_or("no reason given");
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        while error.is_object() {
            codes.extend(error["code"].as_str().map(str::to_owned));
            error = &error["innererror"];
        }
        Self { codes, message }
    }
}

/// `Retry-After` in seconds (RFC 9110, section 10.2.3), the only form that the service sends.
fn retry_after(answer: &RawResponse) -> Option<Duration> {
    let (_, value) = answer.headers().iter().find(|(name, _)| name.as_str().eq_ignore_ascii_case("retry-after"))?;
    value.as_str().trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::azure;

    fn vault(identity: Identity) -> KeyVault {
        let azure = Arc::new(Azure::new(azure::Settings { identity, ..azure::Settings::default() }));
        KeyVault::open("https://orders.vault.azure.net", &azure).unwrap()
    }

    #[test]
    fn names_as_the_vault_knows_them() {
        let check = |ours: &str, theirs: &str| assert_eq!(vault_name(&SecretName::new(ours).unwrap()), theirs);
        check("erp-api-key", "erp-api-key");
        check("erp.api_Key2", "erp-api-Key2");
    }

    #[test]
    fn codes_of_all_depths_and_one_line() {
        let said = Said::of(
            br#"{"error":{"code":"Forbidden","message":"no\r\n way","innererror":{"code":"ForbiddenByRbac"}}}"#,
        );
        assert_eq!((said.codes.join("/").as_str(), said.message.as_str()), ("Forbidden/ForbiddenByRbac", "no way"));
        assert_eq!(Said::of(b"<html>").message, "no reason given");
    }

    #[test]
    fn help_is_a_command_for_this_vault_and_this_identity() {
        let vault = vault(Identity::Managed { client_id: Some("0b1c".to_owned()) });
        let name = SecretName::new("erp.key").unwrap();
        assert!(vault.remedy(&name).contains("--vault-name orders --name erp-key "));
        let line = vault.assignment();
        assert!(line.contains("\"Key Vault Secrets User\" --assignee 0b1c"), "{line}");
        assert!(line.contains("az keyvault show --name orders"), "{line}");
        assert!(vault.enabling(&name, Some("7")).ends_with("--name erp-key --version 7 --enabled true --output none"));
    }
}
