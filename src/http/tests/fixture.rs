//! A gateway with a route, a schedule and two workflows, and its doors on ports of their own.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::artifacts::Artifacts;
use crate::clock::{Clock, TestClock, Timestamp};
use crate::domain::secret::{self, SecretRef, SecretValue, Secrets};
use crate::engine::{self, Engine, Retention};
use crate::gateway::{FilesInForce, Gateway, Loaded, Scope, Settings, Source};
use crate::http::auth::token::TokenKey;
use crate::http::auth::{self, Auth, HostNames, Person};
use crate::http::server::{self, Encryption};
use crate::http::{control, webhook};
use crate::outbound::{Client, Egress};
use crate::spec::{self, Files, SourceFile};
use crate::store::Store;
use crate::store::memory::Memory;
use crate::tasks::blob::Blobs;
use crate::tasks::command::Commands;
use crate::tasks::plan::{Plan, RoutePlan, SchedulePlan};
use crate::tasks::sql::Databases;

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_795_338_000);

/// The secret behind every name.
pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef";

const DOUBLE: &str = "
version: 1
name: double
inputs: { n: { type: integer, required: true } }
tasks: [ { id: twice, type: transform, with: { input: '${{ inputs.n }}', jq: '. * 2' } } ]
outputs: { twice: '${{ tasks.twice }}' }
";
const LONG: &str = "
version: 1
name: long
tasks: [ { id: rest, type: wait, with: { for: 10m } } ]
";
const ROUTES: &str = "
version: 1
routes:
  - path: /hooks/orders
    name: orders
    verify: { preset: bearer, secret_ref: key }
    limits: { max_body: 1KiB }
    dedupe: { key: body }
    workflow: double
    inputs: { n: '${{ body.n }}' }
  - path: /hooks/twice
    name: twice-a
    verify: { preset: bearer, secret_ref: key }
    respond: { status: 204 }
    workflow: long
    inputs: {}
  - path: /hooks/few
    name: few
    verify: { preset: bearer, secret_ref: key }
    limits: { rate: 1/h, burst: 1 }
    workflow: long
    inputs: {}
  - path: /hooks/events
    name: events
    verify: { preset: azure_event_grid, query_param: code, topics: /topics/orders, secret_ref: key }
    filter: ${{ body.data.n > 0 }}
    workflow: double
    inputs: { n: '${{ body.data.n }}' }
  - path: /hooks/partner
    name: partner
    verify: { preset: jwt, algorithms: [EdDSA], audience: us, jwks_url: 'https://login.example.com/keys' }
    workflow: double
    inputs: { n: '${{ body.n }}' }
  - path: /hooks/walmart
    name: walmart
    verify: { preset: walmart_oauth, token_path: /hooks/walmart/token, client_id: wm, auth_header_name: X-WM-Auth, secret_ref: key }
    limits: { rate: 1/h, burst: 6 }
    workflow: long
    inputs: {}
schedules:
  - name: nightly
    cron: '0 2 * * *'
    timezone: Asia/Shanghai
    workflow: long
    inputs: {}
";

/// What the published messages of SNS were made with, and are checked with.
pub(super) fn sns_vectors() -> Vec<Value> {
    serde_json::from_str(include_str!("../../../tests/vectors/aws_sns.json")).unwrap()
}

fn sns_route() -> String {
    let config = &sns_vectors()[0]["config"];
    let verify = json!({
        "preset": "aws_sns", "topic_arns": config["topic_arns"], "trust_ca_pem": config["trust_ca_pem"], "max_age": "1h",
    });
    let route = json!({ "path": "/hooks/sns", "name": "sns", "verify": verify, "workflow": "long", "inputs": {} });
    json!({ "version": 1, "routes": [route] }).to_string()
}

pub(super) struct Doors {
    pub(super) hooks: String,
    pub(super) control: String,
    /// May do everything.
    pub(super) admin: String,
    pub(super) http: reqwest::Client,
    engine: Engine,
    stop: CancellationToken,
    tracker: TaskTracker,
}

/// Opens both doors; the engine runs.
pub(super) async fn doors() -> Doors {
    doors_on(Arc::new(Memory::new())).await
}

/// The same on this store.
pub(super) async fn doors_on(store: Arc<dyn Store>) -> Doors {
    doors_with(store, Client::new(Egress::default())).await
}

/// The same on this store, calling out through this client.
pub(super) async fn doors_with(store: Arc<dyn Store>, client: Client) -> Doors {
    let clock: Arc<dyn Clock> = Arc::new(TestClock::at(NOW));
    let secrets: Arc<dyn Secrets> = Arc::new(OneSecret);
    let loaded = Texts.load().await.unwrap();
    FilesInForce::keep_documents(store.as_ref(), &loaded.catalog).await.unwrap();
    let files = Arc::new(FilesInForce::new(Box::new(Texts), store.clone(), loaded));
    let day = Duration::from_hours(24);
    let engine = Engine::new(engine::Parts {
        store,
        clock: clock.clone(),
        files: files.clone(),
        client: Arc::new(client),
        secrets: secrets.clone(),
        commands: Commands::default(),
        artifacts: Artifacts::default(),
        databases: Databases::default(),
        blobs: Blobs::default(),
        settings: engine::Settings {
            runs_active_max: NonZeroUsize::MIN,
            lease: day,
            retention: Retention { runs: day, payloads: day, failed_runs: day },
        },
    });
    engine.start();
    let (gateway, inbox) = Gateway::new(engine.clone(), files, secrets, clock.clone(), Settings::default());
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    let keeper = (gateway.clone(), stop.clone());
    tracker.spawn(async move { keeper.0.keep_refusals(inbox, keeper.1).await });

    let key = TokenKey::new(&SecretValue::new(SECRET)).unwrap();
    let admin = key.mint("root", &[Scope::Admin], day, NOW).unwrap();
    let people = vec![Person { name: "ops".into(), password: SecretValue::new("pass") }];
    let auth = Arc::new(Auth::new(auth::Settings::Required { tokens: Some(key), people }, clock.clone()));
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let parts = control::Parts { gateway: gateway.clone(), auth, hosts: HostNames::default(), metrics };
    let settings = server::Settings {
        address: ([127, 0, 0, 1], 0).into(),
        encryption: Encryption::Plain { insecure: false },
        workers: NonZeroUsize::new(1),
    };
    let hooks = webhook::open(&settings, gateway, clock, stop.clone()).unwrap();
    let control = control::open(&settings, parts, stop.clone()).unwrap();
    let (hooks_url, control_url) = (hooks.url(), control.url());
    tracker.spawn(async move { hooks.run().await.unwrap() });
    tracker.spawn(async move { control.run().await.unwrap() });
    let http = reqwest::Client::new();
    Doors { hooks: hooks_url, control: control_url, admin, http, engine, stop, tracker }
}

impl Doors {
    /// Closes the doors and stops the engine.
    pub(super) async fn close(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        self.engine.stop(Duration::from_secs(5)).await;
    }

    /// A token of somebody who may do only this.
    pub(super) fn token(scopes: &[Scope]) -> String {
        let key = TokenKey::new(&SecretValue::new(SECRET)).unwrap();
        key.mint("ci", scopes, Duration::from_mins(5), NOW).unwrap()
    }

    /// Asks the control door as the admin.
    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        let request = self.http.get(format!("{}{path}", self.control)).bearer_auth(&self.admin);
        shown(request.send().await.unwrap()).await
    }

    /// Tells the control door something as the admin.
    pub(super) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(format!("{}{path}", self.control)).bearer_auth(&self.admin).json(body);
        shown(request.send().await.unwrap()).await
    }

    /// Brings a delivery.
    pub(super) fn deliver(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.http.post(format!("{}{path}", self.hooks)).bearer_auth(SECRET).body(body)
    }
}

/// An answer's status and JSON body; null when it has none.
pub(super) async fn shown(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[derive(Debug)]
struct OneSecret;

#[async_trait]
impl Secrets for OneSecret {
    async fn resolve(&self, _: &SecretRef) -> Result<SecretValue, secret::Error> {
        Ok(SecretValue::new(SECRET))
    }
}

/// The files, which never change.
#[derive(Debug)]
struct Texts;

#[async_trait]
impl Source for Texts {
    async fn load(&self) -> Result<Loaded, String> {
        let file = |name: &str, text: &str| SourceFile { name: name.into(), bytes: text.into() };
        let files = Files {
            routes: vec![file("routes.yaml", ROUTES), file("sns.yaml", &sns_route())],
            workflows: vec![file("double.yaml", DOUBLE), file("long.yaml", LONG)],
        };
        let loaded = spec::load(&files, &spec::Around::default());
        if loaded.has_errors() {
            return Err(format!("{:?}", loaded.problems));
        }
        Ok(Loaded { catalog: loaded.catalog, ..Loaded::default() })
    }

    fn workflow(&self, text: &str) -> Result<Plan, String> {
        spec::compile_workflow("old.yaml", text).map_err(|problems| format!("{problems:?}"))
    }

    fn routes(&self, text: &str) -> Result<(Vec<RoutePlan>, Vec<SchedulePlan>), String> {
        let compiled = spec::compile_routes("old.yaml", text).map_err(|problems| format!("{problems:?}"))?;
        Ok((compiled.routes, compiled.schedules))
    }
}
