//! The files as people write them, one struct per map; the doc comments are what editors show.
//!
//! Only `spec` sees these. A value here has the right shape and nothing more: whether a duration fits, a workflow
//! exists or an expression parses is decided where the structs are resolved. Every `Option` means "the line was left
//! out": a key without a value is refused by the schema.
//!
//! No untagged, flattened or internally tagged enums: serde buffers those and breaks numbers that keep their text.
//! Where the language takes two shapes, the type reads a JSON value by hand and says so in its schema.

mod artifacts;
mod blobs;
mod channel;
mod databases;
mod parts;
mod route;
mod settings;
mod source;
mod subscription;
mod sweep;
mod trial;
mod workflow;

pub use self::artifacts::{ArtifactStore, Artifacts};
pub use self::blobs::BlobPlace;
pub use self::channel::{Channel, ChannelLanguage, ChannelType, MailEncryption, Mention};
pub use self::databases::{Database, DatabaseType};
pub use self::parts::{Condition, Duration, ListenAddress, Rate, SecretName, SecretRef, Size, TextOrSecret, Version};
pub use self::route::{
    Catchup, Dedupe, Overlap, ReplayGuard, Respond, Route, RouteLimits, Routes, Schedule, Verify, VerifyPreset,
};
pub use self::settings::{
    Auth, AuthMethods, Azure, AzureCloud, AzureIdentity, BasicAuth, CircuitBreaker, Commands, Connection,
    ConnectionAuth, ConnectionAuthType, ConnectionRateLimit, ConnectionTls, ControlListener, Egress, HooksListener,
    JwtAuth, ListenTls, Listeners, Paths, PostgresAuth, Records, Retention, SecretSource, Secrets, Settings,
    SettingsLimits, Storage, StorageBackend,
};
pub use self::source::{Source, SourceLimits, SourceRoute, Sqs, Unwrap};
pub use self::subscription::{Platform, Subscription};
pub use self::sweep::{ListCall, Sweep};
pub use self::trial::{
    CallText, DecisionText, Exchange, Expect, ExpectCall, ExpectCalls, ExpectFailure, ExpectNotice, ExpectRun,
    ExpectStatus, ExpectTask, FaultName, FaultText, FixtureList, Fixtures, HeaderText, NoticeLevel,
    Respond as FixtureRespond, Times, Trial, TrialDecision, TrialDelivery, TrialFault, TrialSlot, Trials,
};
pub use self::workflow::{
    Backoff, Callback, CallbackEvent, Case, Concurrency, ConcurrencyBehavior, Input, ItemList, Label, Poll, RetryOn,
    Task, Workflow,
};
