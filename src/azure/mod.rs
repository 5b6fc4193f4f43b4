//! Azure as this house speaks to it: which cloud, who we are there, and one transport for all its services. It knows no
//! service; secrets, stores and connections bring the clients of theirs.
//!
//! Nothing is built or called before somebody needs it, so a gateway without Azure pays nothing. Every call is bounded
//! here, because the SDK's own retries may last minutes when the identity endpoint does not answer.

/// The clouds, and what differs between them.
pub mod cloud;
/// The commands that give our identity its rights.
pub mod roles;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential};
use azure_core::http::{ClientOptions, ExponentialRetryOptions, RetryOptions, Transport};
use azure_identity::{
    AzureCliCredential, ClientAssertionCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};

use self::cloud::Cloud;
use crate::limits;

/// What `azure` in clawhook.yaml says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Which cloud.
    pub cloud: Cloud,
    /// Who we are there.
    pub identity: Identity,
    /// Host names that are reached at these addresses: for private endpoints without DNS, and for emulators.
    pub dns_overrides: BTreeMap<String, SocketAddr>,
    /// Authorities to trust instead of the machine's, PEM: for emulators and for proxies that look into TLS.
    pub authorities: Option<Arc<[u8]>>,
}

/// Who we are in Azure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The machine's: its own, or the user-assigned one with this client id.
    Managed { client_id: Option<String> },
    /// A token in a file, exchanged for one of Entra ID; what is absent is read from `AZURE_CLIENT_ID`,
    /// `AZURE_TENANT_ID` and `AZURE_FEDERATED_TOKEN_FILE`.
    Workload { client_id: Option<String>, tenant_id: Option<String>, token_file: Option<PathBuf> },
    /// Whoever is signed in to the Azure command line: for developers.
    Cli,
}

impl Default for Identity {
    fn default() -> Self {
        Self::Managed { client_id: None }
    }
}

/// Why Azure could not be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The settings do not make a client.
    #[error("cannot use Azure: {0}; check `azure` in clawhook.yaml")]
    Settings(String),
    /// There is no token.
    #[error("cannot get a token for `{scope}` as {identity}: {why}; {help}")]
    Token { scope: String, identity: String, why: String, help: &'static str },
}

/// Azure, as one gateway uses it.
pub struct Azure {
    settings: Settings,
    transport: OnceLock<Transport>,
    credential: OnceLock<Arc<dyn TokenCredential>>,
}

impl Azure {
    /// Nothing is built or called yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings, transport: OnceLock::new(), credential: OnceLock::new() }
    }

    /// As `new`, with somebody else's proof of who we are: for tests, where the environment is not ours to set.
    #[must_use]
    pub fn with_credential(settings: Settings, credential: Arc<dyn TokenCredential>) -> Self {
        let azure = Self::new(settings);
        // The lock is new, so nothing is in it.
        let _ = azure.credential.set(credential);
        azure
    }

    /// Proves by this credential who we are from now on, unless it was proved before: for tests of workflows, which
    /// call nobody.
    pub fn prove_by(&self, credential: Arc<dyn TokenCredential>) {
        // Whoever asked first has had a real token.
        let _ = self.credential.set(credential);
    }

    /// The cloud.
    pub fn cloud(&self) -> Cloud {
        self.settings.cloud
    }

    /// Who we are there.
    pub fn identity(&self) -> &Identity {
        &self.settings.identity
    }

    /// Options for a client of a service: our transport, our cloud, and retries that end within
    /// [`limits::AZURE_CALL_MAX`]. Wrap calls in [`bounded`] all the same: a service may ask for a longer pause.
    pub fn client_options(&self) -> Result<ClientOptions, Error> {
        let retry = RetryOptions::exponential(ExponentialRetryOptions {
            max_retries: limits::AZURE_RETRIES_MAX,
            max_total_elapsed: seconds(limits::AZURE_CALL_MAX / 2),
            max_delay: seconds(limits::AZURE_CALL_MAX / 4),
            ..ExponentialRetryOptions::default()
        });
        Ok(ClientOptions {
            retry,
            transport: Some(self.transport()?),
            cloud: Some(Arc::new(self.settings.cloud.configuration())),
            ..ClientOptions::default()
        })
    }

    /// What proves who we are. Building it calls nobody.
    pub fn credential(&self) -> Result<Arc<dyn TokenCredential>, Error> {
        if let Some(credential) = self.credential.get() {
            return Ok(Arc::clone(credential));
        }
        let made = self.make_credential()?;
        Ok(Arc::clone(self.credential.get_or_init(|| made)))
    }

    /// A token for a scope such as `https://vault.azure.net/.default`; the credential keeps it until shortly before it
    /// expires, and asks once for all who wait.
    pub async fn token(&self, scope: &str) -> Result<AccessToken, Error> {
        let credential = self.credential()?;
        let failed = |why: String| Error::Token {
            scope: scope.to_owned(),
            identity: self.settings.identity.to_string(),
            why,
            help: self.settings.identity.help(),
        };
        bounded(credential.get_token(&[scope], None)).await.map_err(failed)
    }

    fn transport(&self) -> Result<Transport, Error> {
        if let Some(transport) = self.transport.get() {
            return Ok(transport.clone());
        }
        let made = self.make_transport()?;
        Ok(self.transport.get_or_init(|| made).clone())
    }

    fn make_transport(&self) -> Result<Transport, Error> {
        let wrong = |error: reqwest::Error| Error::Settings(chain(&error));
        let mut client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(limits::AZURE_CONNECT_MAX)
            .read_timeout(limits::AZURE_READ_MAX);
        for (host, address) in &self.settings.dns_overrides {
            client = client.resolve(host, *address);
        }
        if let Some(pem) = &self.settings.authorities {
            client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem).map_err(wrong)?);
        }
        Ok(Transport::new(Arc::new(client.build().map_err(wrong)?)))
    }

    fn make_credential(&self) -> Result<Arc<dyn TokenCredential>, Error> {
        let client_options = self.client_options()?;
        let made: azure_core::Result<Arc<dyn TokenCredential>> = match &self.settings.identity {
            Identity::Managed { client_id } => ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                user_assigned_id: client_id.clone().map(UserAssignedId::ClientId),
                client_options,
            }))
            .map(|credential| credential as Arc<dyn TokenCredential>),
            Identity::Workload { client_id, tenant_id, token_file } => {
                WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions { client_options },
                    client_id: client_id.clone(),
                    tenant_id: tenant_id.clone(),
                    token_file_path: token_file.clone(),
                }))
                .map(|credential| credential as Arc<dyn TokenCredential>)
            }
            Identity::Cli => AzureCliCredential::new(None).map(|credential| credential as Arc<dyn TokenCredential>),
        };
        made.map_err(|error| Error::Settings(chain(&error)))
    }
}

impl Default for Azure {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl fmt::Debug for Azure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Azure({} as {})", self.settings.cloud, self.settings.identity)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Managed { client_id: None } => f.write_str("this machine's managed identity"),
            Self::Managed { client_id: Some(id) } => write!(f, "the managed identity with client id {id}"),
            Self::Workload { .. } => f.write_str("a workload identity"),
            Self::Cli => f.write_str("who is signed in with `az login`"),
        }
    }
}

impl Identity {
    fn help(&self) -> &'static str {
        match self {
            Self::Managed { .. } => {
                "give the machine a managed identity, or name another way with `azure: { identity: … }`"
            }
            Self::Workload { .. } => {
                "check the federated credential of the application, and AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_FEDERATED_TOKEN_FILE"
            }
            Self::Cli => "sign in with `az login`",
        }
    }
}

/// Waits for a call, but not longer than [`limits::AZURE_CALL_MAX`]; an error becomes the whole story in one line.
pub async fn bounded<T>(call: impl Future<Output = azure_core::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(limits::AZURE_CALL_MAX, call).await {
        Ok(done) => done.map_err(|error| chain(&error)),
        Err(_) => Err(format!("no answer within {} s", limits::AZURE_CALL_MAX.as_secs())),
    }
}

/// An error with all its causes: the SDK's own text often hides the one that matters. Addresses lose what follows their
/// `?`: a shared access signature stands there, and the transport's errors name the address whole.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = one_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = one_line(&error.to_string());
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().map(without_signature).collect::<Vec<_>>().join(" ")
}

/// A word of a message: an address without its query, and nothing of a signature.
fn without_signature(word: &str) -> Cow<'_, str> {
    let query = word.find("://").and_then(|scheme| Some(scheme + word[scheme..].find('?')?));
    // Offsets stay as they are: only ASCII changes.
    let signature = word.to_ascii_lowercase().find("sig=");
    let Some(from) = query.into_iter().chain(signature).min() else { return Cow::Borrowed(word) };
    // What closes the sentence around the address is no part of it.
    let rest = &word[from..];
    let closing = &rest[rest.trim_end_matches([')', ']', '}', '>', '"', '\'', '`', ':', ',', '.', ';']).len()..];
    Cow::Owned(format!("{}{}…{closing}", &word[..from], if query == Some(from) { "?" } else { "" }))
}

fn seconds(time: Duration) -> azure_core::time::Duration {
    azure_core::time::Duration::seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn nothing_is_built_before_it_is_needed() {
        let azure = Azure::new(Settings::default());
        assert!(azure.transport.get().is_none() && azure.credential.get().is_none());
        azure.client_options().unwrap();
        assert!(azure.transport.get().is_some() && azure.credential.get().is_none());
    }

    #[test]
    fn authorities_that_are_none_are_refused() {
        let settings = Settings { authorities: Some(b"no certificate".as_slice().into()), ..Settings::default() };
        let made = Azure::new(settings).client_options();
        // A bundle without certificates trusts nobody: then no call can succeed, and none is made in the clear.
        assert!(made.is_ok() || made.unwrap_err().to_string().contains("check `azure`"));
    }

    #[test]
    fn causes_are_told_once() {
        let inner = std::io::Error::other("connection\n refused");
        let outer = azure_core::Error::new(azure_core::error::ErrorKind::Credential, inner);
        assert_eq!(chain(&outer).matches("connection refused").count(), 1);
    }

    #[test]
    fn signatures_are_not_told() {
        let check = |text: &str, told: &str| assert_eq!(chain(&std::io::Error::other(text.to_owned())), told, "{text}");
        check(
            "error sending request for url (https://a.blob.core.windows.net/c/b?sv=2024&sig=s%2Bk%3D): refused",
            "error sending request for url (https://a.blob.core.windows.net/c/b?…): refused",
        );
        check("`https://a.net/c?restype=container`, then more?", "`https://a.net/c?…`, then more?");
        check("{\"url\":\"https://a.net/c?SIG=x\"}", "{\"url\":\"https://a.net/c?…\"}");
        check("the query sv=2024&sig=s%3D&se=2030 is wrong", "the query sv=2024&… is wrong");
        check("what? https://a.net/订单 design=1", "what? https://a.net/订单 design=1");
    }

    #[tokio::test]
    async fn an_address_that_nobody_answers_is_told_without_its_signature() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let url = format!("http://{address}/container/blob?sv=2024&sig=tell-nobody");
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let error = client.get(url).send().await.unwrap_err();
        assert!(error.to_string().contains("tell-nobody"), "the transport tells it: {error}");
        let told = chain(&error);
        assert!(told.contains("/container/blob?…") && !told.contains("tell-nobody"), "{told}");
    }
}
