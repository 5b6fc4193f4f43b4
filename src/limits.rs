//! Every bound of the gateway, with its unit and its reason. A bound that a user may move is the
//! default of a setting and says so.

mod alerts;
mod clocks;
mod files;
mod places;
mod sources;
mod stores;
mod trials;

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

pub use self::alerts::*;
pub use self::clocks::*;
pub use self::files::*;
pub use self::places::*;
pub use self::sources::*;
pub use self::stores::*;
pub use self::trials::*;

/// Body of a delivery, bytes, unless the route sets `limits.max_body`. Shopify's largest orders are about 1 MiB.
pub const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The most that `limits.max_body` may ask for: bodies are held in memory until they are on disk.
pub const BODY_BYTES_CEILING: usize = 64 * 1024 * 1024;
/// Response body that a task keeps, bytes, unless `max_response` is set. Larger results are for
/// `http_download`.
pub const RESPONSE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most that `max_response` may ask for: answers are held in memory.
pub const RESPONSE_BYTES_CEILING: usize = 64 * 1024 * 1024;
/// Bytes of a request or response body kept with an attempt for people to read.
pub const EXCHANGE_BODY_BYTES_MAX: usize = 64 * 1024;
/// Output of one task, bytes of JSON; keeps a run's log readable in memory.
pub const TASK_OUTPUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What an attempt leaves for the next one, bytes of JSON: a position, not data.
pub const CHECKPOINT_BYTES_MAX: usize = 64 * 1024;
/// Pause of a `poll` that says none.
pub const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// Longest pause of a `poll` that says none.
pub const POLL_INTERVAL_MAX: Duration = Duration::from_mins(5);
/// How long a `poll` may take in all when it does not say.
pub const POLL_TIMEOUT: Duration = Duration::from_hours(1);
/// Runs above a run that a `workflow` task starts: more is a workflow that starts itself.
pub const RUN_DEPTH_MAX: u32 = 8;
/// First look of a task that waits for another run; the pause doubles.
pub const CHILD_LOOK_FIRST: Duration = Duration::from_secs(1);
/// Events of one run that gather before they are written, where nothing else asks for it.
pub const EVENTS_PENDING_MAX: usize = 256;
/// A task that waits for another run looks at it at least this often; mostly that run wakes it.
pub const CHILD_LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long an approval waits for people when it does not say.
pub const APPROVAL_EXPIRES: Duration = Duration::from_hours(12);
/// Fields of an approval's form: more is a form for another program.
pub const APPROVAL_FIELDS_MAX: usize = 20;
/// People whose yes an approval can ask for.
pub const APPROVAL_QUORUM_MAX: usize = 20;
/// Question of an approval, bytes: it is a line of lists and messages.
pub const APPROVAL_TITLE_BYTES_MAX: usize = 300;
/// Text below the question, bytes.
pub const APPROVAL_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Shortest pause between two reminders of an approval: people who are reminded more often stop reading.
pub const APPROVAL_REMIND_MIN: Duration = Duration::from_mins(1);
/// Reminders of one approval: each is an attempt in the log of its run.
pub const APPROVAL_REMINDERS_MAX: u32 = 100;
/// The first pause before a question is told again that its channel did not take; it doubles.
pub const APPROVAL_TELL_AGAIN: Duration = Duration::from_mins(10);
/// The longest such pause.
pub const APPROVAL_TELL_AGAIN_MAX: Duration = Duration::from_hours(4);
/// Open runs that `clawhook plan` counts: a hundred pages, which take some seconds.
pub const PLAN_RUNS_MAX: usize = 20_000;
/// Open runs that a list of approvals looks through.
pub const APPROVALS_LOOKED_THROUGH_MAX: usize = 20_000;
/// How often a callback that is not taken is tried again: about 30 hours in all.
pub const CALLBACK_RETRIES: u32 = 16;
/// First pause before a callback is tried again; it doubles each time.
pub const CALLBACK_DELAY: Duration = Duration::from_secs(5);
/// Longest pause before a callback is tried again.
pub const CALLBACK_DELAY_MAX: Duration = Duration::from_hours(6);
/// How long a callback is tried in all.
pub const CALLBACK_TIMEOUT: Duration = Duration::from_hours(72);
/// A callback whose run has not ended yet looks again after this long.
pub const CALLBACK_LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Items of one loop: each leaves at least two events in the run's log.
pub const LOOP_ITEMS_MAX: u32 = 10_000;
/// Attempts of one run under way at one time, over all its loops and branches.
pub const RUN_ATTEMPTS_MAX: usize = 32;
/// Runs waiting in memory for a free worker; the rest wait in the store.
pub const RUNS_READY_MAX: usize = 256;
/// Runs that make progress at one time in this process (`limits.concurrency`).
pub const RUNS_ACTIVE_MAX: usize = 64;
/// Accepts and appends waiting for the store's writer; past this the door answers 503.
pub const WRITES_QUEUED_MAX: usize = 4096;
/// Writes that one transaction takes: bounds the time a commit holds the others up.
pub const WRITES_PER_COMMIT_MAX: usize = 512;
/// Bytes of bodies and events waiting for the store's writer; past this the door answers 503.
pub const WRITES_QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of bodies and events that one transaction takes: bounds the time a commit takes and the log it leaves.
pub const WRITES_PER_COMMIT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a door waits for the store before it answers 503 with `Retry-After`.
pub const ACCEPT_TIMEOUT: Duration = Duration::from_secs(4);
/// What a sender is told to wait after a 503, seconds.
pub const RETRY_AFTER_SECS: u32 = 5;
/// A worker's right to drive a run; longer than any stall we expect, short enough to take over soon.
pub const LEASE: Duration = Duration::from_secs(30);
/// Tasks of one workflow, handlers included.
pub const TASKS_MAX: usize = 200;
/// Times that one attempt may be cut off with its process before its task fails: stops a run that kills the gateway.
pub const INTERRUPTED_MAX: u32 = 5;
/// Attempts that `retry` may ask for; beyond this an outage wants a person.
pub const RETRY_MAX: u32 = 100;
/// Longest a task may run when it sets no `timeout`.
pub const TASK_TIMEOUT: Duration = Duration::from_mins(5);
/// Longest a run may take when the workflow sets no `timeout`; waiting counts.
pub const RUN_TIMEOUT: Duration = Duration::from_hours(24);
/// Longest delay between attempts when the task sets no `max_retry_delay`.
pub const RETRY_DELAY_MAX: Duration = Duration::from_mins(5);
/// Longest `Retry-After` that is obeyed; a far end cannot park a run for ever.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);
/// Labels of one run, and bytes of one label's value: they are indexed.
pub const LABELS_MAX: usize = 8;
/// Bytes of a label's value; longer values are cut at a character.
pub const LABEL_BYTES_MAX: usize = 64;
/// Redirects that one request follows, each checked by the egress guard.
pub const REDIRECTS_MAX: usize = 5;
/// Steps of one expression: nodes evaluated and items visited.
pub const EXPRESSION_FUEL: u64 = 100_000;
/// Bytes that one expression may produce.
pub const EXPRESSION_OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes that one evaluation may make or copy on its way, temporary ones included.
pub const EXPRESSION_MEMORY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Nesting of one expression: everything that walks it calls itself this deep.
pub const EXPRESSION_DEPTH_MAX: usize = 100;
/// Longest an expression's or jq filter's source may be, bytes.
pub const EXPRESSION_SOURCE_BYTES_MAX: usize = 16 * 1024;
/// Time that one jq filter may take before its task fails.
pub const JQ_TIMEOUT: Duration = Duration::from_secs(10);
/// Values that one jq filter may produce.
pub const JQ_OUTPUTS_MAX: usize = 100_000;
/// Bytes of one YAML file.
pub const YAML_BYTES_MAX: usize = 1024 * 1024;
/// Nodes of one YAML file after aliases are expanded: stops alias bombs.
pub const YAML_NODES_MAX: usize = 50_000;
/// Nesting of one YAML file.
pub const YAML_DEPTH_MAX: usize = 64;
/// Problems of form told about one file: a person fixes the first ones and looks again.
pub const PROBLEMS_MAX: usize = 200;
/// Refused requests kept for inspection; the oldest go first.
pub const REFUSALS_KEPT_MAX: usize = 1_000;
/// Bytes of a refused body that are kept.
pub const REFUSAL_BODY_BYTES_MAX: usize = 16 * 1024;
/// Audit entries and gateway events kept; the oldest go first.
pub const JOURNAL_KEPT_MAX: usize = 100_000;
/// Entries of a list page, and the default.
pub const PAGE_MAX: usize = 200;
/// Entries of a list page when `limit` is not given.
pub const PAGE_DEFAULT: usize = 50;
/// How long a secret that was read is used without asking its source again.
pub const SECRET_TTL: Duration = Duration::from_mins(5);
/// Missed slots that one catch-up enters for one schedule.
pub const CATCHUP_SLOTS_MAX: usize = 1_000;
/// How long running work gets to finish on SIGTERM before its leases are given back.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of one workflow's `state`.
pub const STATE_BYTES_MAX: usize = 256 * 1024;
/// Longest duration that a file may ask for: a century, far inside what timestamps hold.
pub const DURATION_MAX: Duration = Duration::from_hours(24 * 36_500);
/// Bytes of a delivery id that a platform sends: it becomes part of an indexed key.
pub const DELIVERY_ID_BYTES_MAX: usize = 512;
/// Events that one request may carry, each a delivery of its own: what Event Grid puts into a batch at most.
pub const EVENTS_PER_REQUEST_MAX: usize = 5_000;
/// Signing certificates that a route keeps: a platform has one for each region, and changes it about once a year.
pub const SIGNING_CERTIFICATES_MAX: usize = 16;
/// Signing certificates and key sets that are fetched within a minute: more is somebody who makes up their names.
pub const SIGNING_KEY_FETCHES_MAX: u32 = 6;
/// How long the public keys of an issuer are kept before newer ones are asked for: a key that it took back counts as long.
pub const ISSUER_KEYS_KEPT: Duration = Duration::from_hours(1);
/// The least pause between two questions for them, whatever key ids tokens name.
pub const ISSUER_KEYS_ASK_AGAIN: Duration = Duration::from_mins(1);
/// Keys of an issuer that are kept; directories publish some ten.
pub const ISSUER_KEYS_MAX: usize = 100;
/// Longest call for a certificate or a confirmation: SNS waits 15 s for the answer to its message.
pub const CALLOUT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the answer to such a call: a certificate with its chain is a few KiB.
pub const CALLOUT_BYTES_MAX: usize = 64 * 1024;
/// Confirmed subscriptions that are remembered, so that a repeat of the message calls nobody.
pub const CONFIRMATIONS_REMEMBERED_MAX: usize = 64;
/// How often a confirmation is tried: its URL holds for three days, but nobody asks for it again by itself.
pub const CONFIRMATION_ATTEMPTS: u32 = 4;
/// The first pause between two tries; each is five times the one before.
pub const CONFIRMATION_PAUSE: Duration = Duration::from_secs(1);
/// Signatures that one request may carry, as senders do while they rotate keys; each costs a comparison.
pub const SIGNATURES_MAX: usize = 16;
/// Elements inside elements of an XML body: chat platforms go four deep.
pub const XML_DEPTH_MAX: usize = 32;
/// Elements of an XML body, which is read before its signature can be checked.
pub const XML_ELEMENTS_MAX: usize = 10_000;
/// Attributes of one element of an XML body; chat platforms send none.
pub const XML_ATTRIBUTES_MAX: usize = 32;
/// Bytes of a JSON web token; more does not fit the usual header limits anyway.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Certificates that a client may bring, its own included: a longer chain costs more to judge than any real one is worth.
pub const CLIENT_CHAIN_MAX: usize = 8;
/// Bytes of a request for a token: an id, a secret and three words.
pub const TOKEN_REQUEST_BYTES_MAX: usize = 8 * 1024;
/// Longest that `tolerance` and `leeway` of a verifier may be: past a day, replay protection is only a word.
pub const SIGNATURE_TOLERANCE_MAX: Duration = Duration::from_hours(24);
/// How long a slot's key is remembered: longer than any backfill reaches back.
pub const SLOT_KEY_WINDOW: Duration = Duration::from_hours(400 * 24);
/// How long the `Idempotency-Key` of an API call is remembered.
pub const CALL_KEY_WINDOW: Duration = Duration::from_hours(3 * 24);
/// How long it is remembered which run a step of another started, and which callback tells a run's end: longer than a
/// person takes to resume a run.
pub const CHILD_KEY_WINDOW: Duration = Duration::from_hours(90 * 24);
/// How long a delivery key is remembered when `dedupe.window` is not set: longer than any platform retries.
pub const DEDUPE_WINDOW: Duration = Duration::from_hours(3 * 24);
/// Longest one outbound request may take, redirects and body included, when neither task nor connection says.
pub const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest that DNS, TCP and TLS may take together before an outbound request gives up.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest that a DNS answer may take.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one host that are tried in turn.
pub const ADDRESSES_TRIED_MAX: usize = 6;
/// Idle outbound connections kept for one host.
pub const IDLE_PER_HOST_MAX: usize = 8;
/// An idle outbound connection is closed after this long; most servers close theirs at about the same time.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes of the status line and headers of an answer.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a redirect's own body that are read to keep its connection.
pub const REDIRECT_BODY_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an outbound URL; servers refuse much longer ones.
pub const URL_BYTES_MAX: usize = 16 * 1024;
/// Sets of TLS options with a connection pool of their own.
pub const TLS_POOLS_MAX: usize = 64;
/// Files of `routes/` and of `workflows/`, each.
pub const FILES_MAX: usize = 10_000;
/// Folders in folders of `routes/` and `workflows/`; also ends a circle of symlinks.
pub const FOLDER_DEPTH_MAX: usize = 8;
/// Longest that `POST /v1/workflows/trigger` waits for the end of its run.
pub const TRIGGER_WAIT_MAX: Duration = Duration::from_mins(1);
/// How often the certificate's files are looked at for a change.
pub const TLS_POLL: Duration = Duration::from_secs(5);
/// Time that a TLS handshake may take.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection of a sender is kept open.
pub const HTTP_KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Time in which the head of a request must arrive; also the longest that a slow sender holds an idle connection.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which the body of a request must arrive: the slowest platform gives up sooner.
pub const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of the names and values of all headers of one request; the server reads at most 128 KiB and 96 headers.
pub const HTTP_HEADER_BYTES_MAX: usize = 32 * 1024;
/// Connections that one worker of the hooks door holds; the system queues the next ones.
pub const HOOKS_CONNECTIONS_MAX: usize = 4096;
/// Connections that one worker of the control door holds.
pub const CONTROL_CONNECTIONS_MAX: usize = 512;
/// Connections that wait for a worker.
pub const HTTP_BACKLOG: u32 = 1024;
/// Workers of the control door: people and scripts, not floods.
pub const CONTROL_WORKERS: NonZeroUsize = NonZeroUsize::MIN;
/// Bytes of all bodies that doors hold in memory at one time; past this a sender gets 503.
pub const BODIES_HELD_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long a door lets requests in flight end when it closes.
pub const DOOR_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a door that answered its last request waits for the answer to leave, before it closes all connections.
pub const DOOR_FLUSH: Duration = Duration::from_millis(200);
/// Threads that one worker of a door may use for files: a reload, a secret; deliveries use none.
pub const DOOR_BLOCKING_THREADS_MAX: usize = 4;
/// Bytes of a JSON body on the control door: as much as a delivery may carry.
pub const API_BODY_BYTES_MAX: usize = BODY_BYTES_MAX;
/// Bytes of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Event streams that the control door keeps open at one time.
pub const EVENT_STREAMS_MAX: usize = 64;
/// How often an open event stream looks at the log of its run.
pub const EVENT_STREAM_POLL: Duration = Duration::from_millis(500);
/// Silence after which an event stream sends a comment, so that proxies keep it open.
pub const EVENT_STREAM_PING: Duration = Duration::from_secs(15);
/// Shortest `JWT_SECRET`, bytes: the size of the hash (RFC 7518, section 3.2).
pub const JWT_SECRET_BYTES_MIN: usize = 32;
/// How far ahead of ours the clock of who issued a token may be; `exp` gets none of it.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(30);
/// Wrong passwords that one address may send at once before it has to wait.
pub const AUTH_FAILURES_MAX: u32 = 10;
/// How often an address that sent too many wrong passwords may try again.
pub const AUTH_FAILURE_EVERY: Duration = Duration::from_secs(6);
/// Addresses whose wrong passwords are counted apart.
pub const AUTH_ADDRESSES_MAX: usize = 4096;
/// Answers to repeated calls that are remembered in memory; those that start runs are remembered by the store.
pub const ANSWERS_KEPT_MAX: usize = 1024;
/// Reads waiting for one of the store's readers; past this the caller is told that the store is full.
pub const READS_QUEUED_MAX: usize = 4096;
/// Bytes of write-ahead log after which it is copied into the database file, off the commit path.
pub const WAL_COPY_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of write-ahead log at which the writer stops to copy it itself: bounds the disk and the time to open.
pub const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long finished runs are kept when `retention.runs` is not set.
pub const RETENTION_RUNS: Duration = Duration::from_hours(90 * 24);
/// How long bodies of requests and answers are kept when `retention.payloads` is not set.
pub const RETENTION_PAYLOADS: Duration = Duration::from_hours(30 * 24);
/// How long failed runs are kept when `retention.failed_runs` is not set: people come back to them.
pub const RETENTION_FAILED_RUNS: Duration = Duration::from_hours(180 * 24);
/// Bytes of a PEM file with authorities: the largest public bundles have some 250 KiB.
pub const CA_BYTES_MAX: usize = 1024 * 1024;
/// Values of secrets that are masked wherever they turn up; of more than this the oldest, rotated long ago, are forgotten.
pub const SECRETS_MASKED_MAX: usize = 1_000;
/// How long one call to an Azure service may take, with all its retries.
pub const AZURE_CALL_MAX: Duration = Duration::from_secs(20);
/// Retries of one call to an Azure service.
pub const AZURE_RETRIES_MAX: u32 = 3;
/// How long an Azure service may take to take a connection.
pub const AZURE_CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long an Azure service may be silent in the middle of an answer.
pub const AZURE_READ_MAX: Duration = Duration::from_secs(10);
/// Memory below which the doctor says that the gateway will not work.
pub const DOCTOR_MEMORY_BYTES_MIN: u64 = 256 * 1024 * 1024;
/// Room on the store's disk below which the doctor says that the gateway will not work.
pub const DOCTOR_DISK_BYTES_MIN: u64 = 512 * 1024 * 1024;
/// How long the doctor waits for an answer.
pub const DOCTOR_CALL_MAX: Duration = Duration::from_secs(5);
/// How long the doctor waits for a store to open.
pub const DOCTOR_STORE_MAX: Duration = Duration::from_secs(30);
/// Durable writes that the doctor times.
pub const DOCTOR_WRITES: usize = 10;
/// A durable write that takes longer than this is told.
pub const DOCTOR_WRITE_SLOW: Duration = Duration::from_millis(50);
/// A clock that is further off, milliseconds, is told.
pub const DOCTOR_CLOCK_DOUBTFUL_MS: u64 = 5_000;
/// With a clock that is further off, milliseconds, signed webhooks are about to be refused.
pub const DOCTOR_CLOCK_BAD_MS: u64 = 120_000;
/// Pieces of a store that are read ahead of whoever takes them.
pub const DUMP_AHEAD: usize = 256;
/// Pieces of a store that another takes in one write.
pub const LOAD_PIECES: usize = 256;
/// The youngest age at which a secret of a remote source is read ahead of its [`SECRET_TTL`].
pub const SECRET_REFRESH_FROM: Duration = Duration::from_secs(210);
/// Secrets are read ahead at different ages, spread over this long, so that not all are read at once.
pub const SECRET_REFRESH_SPREAD: Duration = Duration::from_mins(1);
/// How long whoever needs a secret waits for a remote source: a sender gets its 503 before it gives up by itself.
pub const SECRET_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long the last value of a secret serves while its remote source does not answer: an outage over a night.
pub const SECRET_STALE_MAX: Duration = Duration::from_hours(24);
/// How long a remote source is not asked again for a secret that it does not have, or does not give.
pub const SECRET_MISSING_TTL: Duration = Duration::from_secs(15);
/// Tries of one reading of a secret from a remote source.
pub const SECRET_TRIES_MAX: u32 = 3;
/// The pause after the first such try; it doubles.
pub const SECRET_RETRY_FIRST: Duration = Duration::from_millis(250);
/// How long a remote source is left alone after a reading that failed; it doubles with each, up to
/// [`SECRET_REST_MAX`].
pub const SECRET_REST_FIRST: Duration = Duration::from_secs(1);
/// The longest that a remote source is left alone, if it does not ask for longer.
pub const SECRET_REST_MAX: Duration = Duration::from_secs(30);
/// The longest that a remote source is left alone when it asks for it (`Retry-After`).
pub const SECRET_RETRY_AFTER_MAX: Duration = Duration::from_mins(5);
/// How long a route uses the keys that it made of its secrets; comes on top of [`SECRET_TTL`] when one is rotated.
pub const ROUTE_KEYS_TTL: Duration = Duration::from_secs(30);
/// Secrets of a remote source that are read at one time when all are looked at.
pub const SECRETS_AT_ONCE_MAX: usize = 8;
/// How often a vault is asked whether the certificate of a door was renewed.
pub const TLS_VAULT_POLL: Duration = Duration::from_hours(1);
/// How often the log warns of a certificate that ends soon.
pub const TLS_WARN_EVERY: Duration = Duration::from_hours(24);
/// What is left of a certificate when the warnings begin.
pub const TLS_WARN_BEFORE: Duration = Duration::from_hours(14 * 24);
/// How long the store may leave the question how it is without any answer before the service manager is let know by
/// silence; it then restarts the gateway. An answer that says "no" is an answer: a restart would not mend that.
pub const STORE_SILENT_MAX: Duration = Duration::from_mins(2);
/// Memory of one command when `commands.memory` is not set, bytes: room for a script with its libraries.
pub const COMMAND_MEMORY_BYTES: u64 = 256 * 1024 * 1024;
/// The least memory that a command can be given, bytes: below it not even a shell starts.
pub const COMMAND_MEMORY_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// Processes and threads of one command when `commands.processes` is not set.
pub const COMMAND_PROCESSES: u32 = 32;
/// Processors that a command can be given at most; more than any machine of this trade has.
pub const COMMAND_CORES_MAX: u32 = 1024;
/// Commands that run at one time when `commands.concurrency` is not set: four of them fit beside a gateway in 4 GiB.
pub const COMMANDS_ACTIVE_MAX: usize = 4;
/// Bytes of a command's stdout: it becomes the task's output.
pub const COMMAND_STDOUT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a command's stderr: words for people.
pub const COMMAND_STDERR_BYTES_MAX: usize = 256 * 1024;
/// How long pipes of a command that ended are read when somebody else still holds them open.
pub const COMMAND_DRAIN_MAX: Duration = Duration::from_secs(1);
/// How long killed processes of a command may take to be gone before their group is left to the next start.
pub const COMMAND_GONE_MAX: Duration = Duration::from_secs(5);
/// How long a call for a token of a connection may take.
pub const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of the answer to a call for a token.
pub const TOKEN_ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How long a token serves when the far end does not say (RFC 6749 section 5.1 lets it); a 401 ends it sooner.
pub const TOKEN_LIFETIME: Duration = Duration::from_hours(1);
/// Longest that a token serves, whatever the far end says.
pub const TOKEN_LIFETIME_MAX: Duration = Duration::from_hours(30 * 24);
/// How long all calls that need a token take over a failure to get it, before somebody asks again.
pub const TOKEN_FAILURE_KEPT: Duration = Duration::from_secs(1);
/// How long a token is fresh: one that is refused before is not replaced, so a far end that refuses every token does not
/// make us ask for a new one at every call. Token endpoints count such questions.
pub const TOKEN_FRESH: Duration = Duration::from_secs(30);
/// Sets of credentials whose tokens are kept; of more, those that can be asked for anew are forgotten.
pub const TOKEN_GRANTS_MAX: usize = 1024;
/// Tokens that are masked wherever they turn up, the newest ones.
pub const TOKENS_MASKED_MAX: usize = 64;
/// Failures in a row after which a connection with a `circuit_breaker` is left alone, when it sets no `failures`.
pub const BREAKER_FAILURES: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");
/// How long it is left alone when it sets no `open_for`.
pub const BREAKER_OPEN_FOR: Duration = Duration::from_secs(30);
/// How long a call waits in place for its budget, inside its attempt; for longer its run gives up the worker.
pub const QUOTA_WAIT_MAX: Duration = Duration::from_secs(1);
/// How much the times differ that requests take to arrive: what a far end's bucket wins in it is kept back of a burst.
pub const QUOTA_ARRIVAL_SPREAD: Duration = Duration::from_millis(500);
/// How long the place of a call in the queue of a budget is kept after the moment at which it was to come.
pub const QUOTA_TICKET_KEPT: Duration = Duration::from_secs(30);
/// Calls that wait for one budget; of more the last ones have no place and ask again.
pub const QUOTA_TICKETS_MAX: usize = 10_000;
/// Time between calls that leave a pause when no rate is known.
pub const QUOTA_SPACING: Duration = Duration::from_millis(100);
/// The first pause of a budget after a refusal that does not say how long.
pub const QUOTA_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause: they double while refusals go on.
pub const QUOTA_PAUSE_MAX: Duration = Duration::from_mins(5);
/// Refusals of a budget in a row that only pause calls; further ones are failures of their tasks.
pub const QUOTA_REFUSALS_MAX: u32 = 20;
/// Pages that one `paginate` reads when it sets no `max_pages`.
pub const PAGES_DEFAULT: u32 = 100;
/// Bytes of pages that tasks have read and not handed over yet, of all tasks together; past this the oldest begin anew.
pub const PAGES_HELD_BYTES_MAX: usize = 64 * 1024 * 1024;
