//! Azurite as tests use it: a container for each, by the identity's token over TLS or by a signature in the clear, and
//! a wire that can be cut.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::http::Context;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Method, Request};
use azure_core::time::{Duration, OffsetDateTime};
use clawhook::azure::{self, Azure};
use clawhook::clock::{Clock, SystemClock};
use clawhook::domain::secret::{self, SecretRef, SecretValue, Secrets};
use clawhook::id::SecretName;
use clawhook::store::azure_blob::{AzureBlob, Options};
use clawhook::store::records::Records;
use clawhook::store::{BlobPlace, Error, Parts, Settings, Store};

use crate::emulators::wanted;

/// A storage account, and how it is entered.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    endpoint: String,
    azure: Arc<Azure>,
    sas: Option<String>,
}

/// A container that no other test knows.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    account: Account,
    pub(crate) name: String,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wire: Arc<Wire>,
}

impl Account {
    /// Over TLS, with a token of the identity.
    pub(crate) fn by_identity() -> Option<Self> {
        let endpoint = wanted("CLAWHOOK_TEST_AZURITE_URL")?;
        let authorities = std::fs::read(wanted("CLAWHOOK_TEST_CA")?).unwrap();
        let identity = FakeIdentity {
            endpoint: wanted("CLAWHOOK_TEST_IDENTITY_ENDPOINT")?,
            header: wanted("CLAWHOOK_TEST_IDENTITY_HEADER")?,
        };
        let settings = azure::Settings { authorities: Some(authorities.into()), ..azure::Settings::default() };
        let azure = Arc::new(Azure::with_credential(settings, Arc::new(identity)));
        Some(Self { endpoint, azure, sas: None })
    }

    /// In the clear, with a shared access signature.
    pub(crate) fn by_signature() -> Option<Self> {
        let endpoint = wanted("CLAWHOOK_TEST_AZURITE_HTTP_URL")?;
        let sas = wanted("CLAWHOOK_TEST_AZURITE_SAS")?;
        Some(Self { endpoint, azure: Arc::default(), sas: Some(sas) })
    }

    /// The same account with another signature.
    pub(crate) fn with_sas(self, sas: &str) -> Self {
        Self { sas: Some(sas.to_owned()), ..self }
    }

    /// The same account through another port of this machine.
    pub(crate) fn through(self, port: u16) -> Self {
        let mut endpoint = url::Url::parse(&self.endpoint).unwrap();
        endpoint.set_port(Some(port)).unwrap();
        self.at(endpoint.as_str())
    }

    /// The same account at another address.
    pub(crate) fn at(self, endpoint: &str) -> Self {
        Self { endpoint: endpoint.to_owned(), ..self }
    }

    /// The port of the server.
    pub(crate) fn port(&self) -> u16 {
        url::Url::parse(&self.endpoint).unwrap().port().unwrap()
    }

    pub(crate) fn container(self) -> Container {
        let name = format!("test-{:016x}", rand::random::<u64>());
        Container { account: self, name, clock: Arc::new(SystemClock), wire: Arc::default() }
    }
}

impl Container {
    /// `storage` in clawhook.yaml for a gateway on it, and its signature, the secret `sas`.
    pub(crate) fn settings(&self) -> (String, String) {
        let (Account { endpoint, sas, .. }, container) = (&self.account, &self.name);
        let storage = format!(
            "storage: {{ backend: azure-blob, endpoint: \"{endpoint}\", container: {container}, sas: {{ secret_ref: sas }} }}"
        );
        (storage, sas.clone().unwrap())
    }

    pub(crate) fn place(&self) -> BlobPlace {
        BlobPlace {
            endpoint: self.account.endpoint.clone(),
            container: self.name.clone(),
            sas: self.account.sas.is_some().then(|| SecretRef::to(SecretName::new("storage-sas").unwrap())),
        }
    }

    pub(crate) fn parts(&self, folder: &Path) -> Parts {
        let settings = Settings {
            backend: "azure-blob".into(),
            path: folder.to_owned(),
            blob: Some(self.place()),
            ..Settings::default()
        };
        let secrets = Arc::new(OneSas(self.account.sas.clone().unwrap_or_default()));
        Parts { settings, azure: Arc::clone(&self.account.azure), secrets, clock: Arc::clone(&self.clock) }
    }

    /// A gateway's store, which looks for the work of others only when it is told to.
    pub(crate) async fn try_open(&self, folder: &Path, blocks_max: Option<u32>) -> Result<Arc<AzureBlob>, Error> {
        let policies = vec![Arc::clone(&self.wire) as Arc<dyn Policy>];
        let options = Options { policies, by_hand: true, blocks_max };
        AzureBlob::open(self.parts(folder), options).await.map(Arc::new)
    }

    pub(crate) async fn open(&self, folder: &Path) -> Arc<dyn Store> {
        self.try_open(folder, None).await.unwrap()
    }

    /// What a blob holds, as anybody with the signature reads it.
    pub(crate) async fn read(&self, name: &str) -> Option<Vec<u8>> {
        let Account { endpoint, sas, .. } = &self.account;
        let url = format!("{endpoint}/{}/{name}?{}", self.name, sas.as_deref().unwrap_or_default());
        let answer = reqwest::get(url).await.unwrap();
        (answer.status() == 200).then_some(answer.bytes().await.unwrap().to_vec())
    }

    /// Writes a blob, as anybody with the signature does.
    pub(crate) async fn write(&self, name: &str, length: usize) {
        let Account { endpoint, sas, .. } = &self.account;
        let url = format!("{endpoint}/{}/{name}?{}", self.name, sas.as_deref().unwrap_or_default());
        let put =
            reqwest::Client::new().put(url).header("x-ms-blob-type", "BlockBlob").header("content-length", length);
        let put = put.body(vec![b'x'; length]);
        assert_eq!(put.send().await.unwrap().status(), 201);
    }

    /// The export of a store to this container.
    pub(crate) fn records(&self, store: &Arc<dyn Store>) -> Records {
        let Parts { azure, secrets, clock, .. } = self.parts(Path::new(""));
        Records::new(self.place(), azure, secrets, Arc::clone(store), clock)
    }

    /// The same container over a wire of its own.
    pub(crate) fn over_another_wire(&self) -> Self {
        Self { wire: Arc::default(), ..self.clone() }
    }
}

/// What happens to requests on their way.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    cuts: Mutex<Vec<Cut>>,
    /// Every request that left, as `METHOD path?query`.
    pub(crate) sent: Mutex<Vec<String>>,
}

/// One cut of the wire.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    /// Part of the method and path.
    pub(crate) what: &'static str,
    /// How often it happens.
    pub(crate) times: u32,
    pub(crate) how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The request never arrives.
    Before,
    /// It is done, and nobody is told.
    After,
}

impl Wire {
    pub(crate) fn cut(&self, what: &'static str, times: u32, how: How) {
        self.cuts.lock().unwrap().push(Cut { what, times, how });
    }

    pub(crate) fn mend(&self) {
        self.cuts.lock().unwrap().clear();
    }

    /// What was sent since the last time this was asked.
    pub(crate) fn take_sent(&self) -> Vec<String> {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }

    fn happens(&self, request: &Request) -> Option<How> {
        let line = line(request);
        self.sent.lock().unwrap().push(line.clone());
        let mut cuts = self.cuts.lock().unwrap();
        let cut = cuts.iter_mut().find(|cut| cut.times > 0 && line.contains(cut.what))?;
        cut.times -= 1;
        Some(cut.how)
    }
}

/// A request in one line, its name read plainly and without what proves who we are.
fn line(request: &Request) -> String {
    let url = request.url();
    let path = percent_encoding::percent_decode_str(url.path()).decode_utf8_lossy().into_owned();
    let asks: Vec<_> = url.query_pairs().filter(|(name, _)| matches!(&**name, "comp" | "prefix" | "restype")).collect();
    let asks: Vec<_> = asks.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let method = match request.method() {
        Method::Get => "GET",
        Method::Put => "PUT",
        Method::Head => "HEAD",
        Method::Delete => "DELETE",
        _ => "OTHER",
    };
    format!("{method} {path}?{}", asks.join("&"))
}

#[async_trait]
impl Policy for Wire {
    async fn send(&self, ctx: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let cut = || Err(azure_core::Error::with_message(azure_core::error::ErrorKind::Io, "the wire was cut"));
        match self.happens(request) {
            Some(How::Before) => cut(),
            how => {
                let answer = next[0].send(ctx, request, &next[1..]).await;
                if how == Some(How::After) {
                    assert!(answer.is_ok(), "the request was to arrive: {answer:?}");
                    return cut();
                }
                answer
            }
        }
    }
}

#[derive(Debug)]
struct OneSas(String);

#[async_trait]
impl Secrets for OneSas {
    async fn resolve(&self, _: &SecretRef) -> Result<SecretValue, secret::Error> {
        Ok(SecretValue::new(self.0.clone()))
    }
}

/// Asks the emulator of a managed identity, as the SDK does when the environment names it: tests share one environment.
#[derive(Debug)]
struct FakeIdentity {
    endpoint: String,
    header: String,
}

#[async_trait]
impl TokenCredential for FakeIdentity {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        let resource = scopes[0].trim_end_matches("/.default");
        let url = format!("{}?api-version=2019-08-01&resource={resource}", self.endpoint);
        let answer = reqwest::Client::new().get(url).header("X-IDENTITY-HEADER", &self.header).send().await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let token = answer["access_token"].as_str().unwrap().to_owned();
        Ok(AccessToken::new(Secret::new(token), OffsetDateTime::now_utc() + Duration::hours(1)))
    }
}
