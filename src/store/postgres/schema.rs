//! The tables, and how a database becomes one of ours. It refuses servers that are too old, schemas that are not ours,
//! and those that a newer version wrote.
//!
//! Everything is in the schema `clawhook`, and every statement says so. A run's log is one row in `log` for each write:
//! the first holds its first event and the raw body. `runs` is the index row, kept small; `next` in it is what every
//! append is held against. Both, and `terms`, are partitioned by run id, which is by time (`partitions.rs`).
//! `docs/decisions/postgres.md` says how they are spread on Citus: that is why `run` is in each of their keys.

use super::super::Error;
use super::session::{Connector, Purpose, Session, cannot_open};
use super::trouble::{Outcome, Trouble};
use crate::limits;

/// The steps from each schema version to the next. They are never changed; the next one is added at the end.
const STEPS: &[&str] = &[STEP_1];

/// The lock under which the schema changes: `Clawhook` in bytes.
const LOCK: i64 = 0x436c_6177_686f_6f6b;

/// The oldest server that is understood: the oldest that PostgreSQL itself still mends.
const SERVER_MIN: i32 = 140_000;

const STEP_1: &str = "
CREATE TABLE clawhook.shapes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workflow text NOT NULL,
    trigger bigint NOT NULL,
    source text NOT NULL,
    UNIQUE (workflow, trigger, source)
);
-- Delivery keys and replay guards: the runs that each made, whose ids follow each other, and until when it counts.
CREATE TABLE clawhook.keys (
    key bytea PRIMARY KEY,
    first bigint NOT NULL,
    runs bigint NOT NULL,
    at bigint NOT NULL,
    expires bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX keys_expires ON clawhook.keys (expires);
-- `class` is the run's standing and its shape in one number; `last` the place of its last row in `log`; `offered_to` the
-- gateway that has read it from the queue a moment ago.
CREATE TABLE clawhook.runs (
    id bigint PRIMARY KEY,
    class bigint NOT NULL,
    next bigint NOT NULL,
    last bigint NOT NULL,
    due bigint,
    ended bigint,
    lane bytea,
    parked_by bigint,
    offered_to bigint,
    offered_until timestamptz,
    terms bytea
) PARTITION BY RANGE (id);
CREATE INDEX runs_class ON clawhook.runs (class, id);
CREATE INDEX runs_queue ON clawhook.runs (id) WHERE class < 4294967296;
CREATE INDEX runs_due ON clawhook.runs (due, id) WHERE due IS NOT NULL;
CREATE INDEX runs_lane ON clawhook.runs (lane, id) WHERE lane IS NOT NULL;
-- `events` is a JSON array. `head` is what lists show, where the run stood still after this row.
CREATE TABLE clawhook.log (
    run bigint NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    events text NOT NULL,
    body bytea,
    head text,
    PRIMARY KEY (run, seq)
) PARTITION BY RANGE (run);
-- Labels, causes and the sources that are too many to be part of a shape, by hash.
CREATE TABLE clawhook.terms (
    term bigint NOT NULL,
    class bigint NOT NULL,
    run bigint NOT NULL,
    PRIMARY KEY (run, term, class)
) PARTITION BY RANGE (run);
CREATE INDEX terms_term ON clawhook.terms (term, class, run);
-- The partitions that there are; `touched` counts runs that were deleted or stripped since the log was last rewritten.
CREATE TABLE clawhook.partitions (
    first bigint PRIMARY KEY,
    past bigint NOT NULL,
    name text NOT NULL,
    touched bigint NOT NULL DEFAULT 0
);
CREATE TABLE clawhook.journals (kind bigint PRIMARY KEY, last bigint NOT NULL);
INSERT INTO clawhook.journals VALUES (0, 0), (1, 0), (2, 0);
CREATE TABLE clawhook.journal (
    kind bigint NOT NULL,
    id bigint NOT NULL,
    at bigint NOT NULL,
    what text NOT NULL,
    subject text NOT NULL,
    cause text NOT NULL,
    detail text NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX journal_subject ON clawhook.journal (kind, subject, id);
CREATE TABLE clawhook.documents (revision text PRIMARY KEY, content bytea NOT NULL);
CREATE TABLE clawhook.marks (name text COLLATE \"C\" PRIMARY KEY, value text NOT NULL);
CREATE TABLE clawhook.states (
    workflow text NOT NULL,
    name bytea NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (workflow, name)
);
-- The gateways that are there, and when each was last heard of.
CREATE TABLE clawhook.gateways (id bigint PRIMARY KEY, seen timestamptz NOT NULL);
";

/// Makes the database what this version expects. Any number of gateways may try at the same time, and one that dies in
/// the middle leaves a whole step or nothing.
pub(super) async fn prepare(connector: &Connector) -> Result<(), Error> {
    // Others may hold the lock for as long as their step takes.
    let purpose = Purpose { name: "schema", statement_max: limits::POSTGRES_UPKEEP_MAX, writes: false, listener: None };
    let told = |trouble: Trouble| cannot_open(connector, &trouble);
    let session = connector.connect(&purpose).await.map_err(told)?;
    session.batch("SET lock_timeout = 0").await.map_err(told)?;
    check_server(&session).await.map_err(told)?;
    while step(&session).await.map_err(told)? {}
    Ok(())
}

async fn check_server(session: &Session) -> Outcome<()> {
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), \
               current_setting('server_version')";
    let row = &session.query(sql, &[]).await?[0];
    let (version, encoding, name): (i32, &str, &str) = (row.get(0), row.get(1), row.get(2));
    if version < SERVER_MIN {
        return Err(Trouble::Broken(format!("the server is PostgreSQL {name}; version 14 or later is needed")));
    }
    if encoding != "UTF8" {
        return Err(Trouble::Broken(format!(
            "the database is encoded as {encoding}; create one with `ENCODING 'UTF8'`"
        )));
    }
    Ok(())
}

/// Takes one step under the lock; false when there is none left to take.
async fn step(session: &Session) -> Outcome<bool> {
    session.in_transaction(locked_step(session)).await
}

async fn locked_step(session: &Session) -> Outcome<bool> {
    session.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let version = version(session).await?;
    if version > STEPS.len() {
        return Err(Trouble::Broken(format!(
            "its schema `clawhook` was written by a newer Clawhook (schema {version}, this one knows {}); install that \
             version or restore a backup",
            STEPS.len()
        )));
    }
    let Some(step) = STEPS.get(version) else { return Ok(false) };
    if version == 0 {
        session
            .batch(
                "CREATE SCHEMA IF NOT EXISTS clawhook;
                 CREATE TABLE clawhook.steps (step bigint PRIMARY KEY, taken timestamptz NOT NULL DEFAULT now())",
            )
            .await?;
    }
    session.batch(step).await?;
    session.execute("INSERT INTO clawhook.steps (step) VALUES ($1)", &[&super::number(version + 1)]).await?;
    Ok(true)
}

/// Steps that were taken; none when the schema is new.
async fn version(session: &Session) -> Outcome<usize> {
    let tables = "SELECT count(*), count(*) FILTER (WHERE c.relname = 'steps') FROM pg_class c \
                  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'clawhook' AND c.relkind IN ('r', 'p')";
    let row = &session.query(tables, &[]).await?[0];
    let (tables, ours): (i64, i64) = (row.get(0), row.get(1));
    if ours == 0 {
        let foreign = "its schema `clawhook` holds tables of something else; choose another database";
        return if tables == 0 { Ok(0) } else { Err(Trouble::Broken(foreign.into())) };
    }
    // Prepared only now: before the first step there is no such table.
    let row = &session.query_once("SELECT coalesce(max(step), 0) FROM clawhook.steps", &[]).await?[0];
    Ok(usize::try_from(row.get::<_, i64>(0)).unwrap_or(usize::MAX))
}
