//! The audit, and what happened to the gateway itself.

use serde_json::Value;

use super::{Caller, Error, Gateway, Scope, view};
use crate::domain::journal::JournalKind;
use crate::store::JournalQuery;

impl Gateway {
    /// A page of the audit, newest first: who did what, on what, from where.
    pub async fn audit_log(
        &self,
        caller: &Caller,
        subject: Option<&str>,
        what: Option<&str>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<view::Page<view::JournalEntry>, Error> {
        caller.require(Scope::Admin)?;
        self.journal_page(JournalKind::Audit, subject, what, before, limit).await
    }

    /// A page of what happened to the gateway, newest first: starts, stops, reloads, missed and skipped slots.
    pub async fn gateway_events(
        &self,
        caller: &Caller,
        before: Option<i64>,
        limit: usize,
    ) -> Result<view::Page<view::JournalEntry>, Error> {
        caller.require(Scope::RunsRead)?;
        self.journal_page(JournalKind::Gateway, None, None, before, limit).await
    }

    async fn journal_page(
        &self,
        kind: JournalKind,
        subject: Option<&str>,
        what: Option<&str>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<view::Page<view::JournalEntry>, Error> {
        let (subject, what) = (subject.map(str::to_owned), what.map(str::to_owned));
        let query = JournalQuery { kind, subject, cause: None, what, before, limit };
        let rows = self.0.engine.store().journal(&query).await?;
        let next = (rows.len() == limit).then(|| rows.last().map(|row| row.id.to_string())).flatten();
        let show = |row: crate::domain::journal::JournalRow| view::JournalEntry {
            id: row.id,
            at: row.entry.at.to_string(),
            what: row.entry.what,
            subject: row.entry.subject,
            detail: Value::Object(row.entry.detail),
        };
        Ok(view::Page { items: rows.into_iter().map(show).collect(), next })
    }
}
