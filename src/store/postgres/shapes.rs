//! The numbers of shapes (see `class.rs`), kept in mind: they are few and never change.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::class::{Shape, trigger_code, trigger_of};
use super::session::Session;
use super::trouble::{Outcome, Trouble};
use crate::id::WorkflowName;

/// Numbers that are known.
#[derive(Debug, Default)]
pub(super) struct Shapes(Mutex<HashMap<Shape, i64>>);

impl Shapes {
    /// Numbers of these shapes; what no gateway has seen before gets one, on record before anything refers to it.
    pub(super) async fn numbers(&self, session: &Session, shapes: &[&Shape]) -> Outcome<Vec<i64>> {
        let missing: Vec<&Shape> = {
            let known = self.known();
            shapes.iter().copied().filter(|shape| !known.contains_key(shape)).collect()
        };
        if !missing.is_empty() {
            add(session, &missing).await?;
            self.refresh(session).await?;
        }
        let known = self.known();
        let number = |shape: &&Shape| {
            known.get(*shape).copied().ok_or_else(|| Trouble::Broken("a shape that was just added is not there".into()))
        };
        shapes.iter().map(number).collect()
    }

    /// All shapes, those of other gateways included.
    pub(super) async fn all(&self, session: &Session) -> Outcome<Vec<(Shape, i64)>> {
        self.refresh(session).await?;
        Ok(self.known().iter().map(|(shape, number)| (shape.clone(), *number)).collect())
    }

    async fn refresh(&self, session: &Session) -> Outcome<()> {
        let rows = session.query("SELECT id, workflow, trigger, source FROM clawhook.shapes", &[]).await?;
        let mut known = self.known();
        for row in rows {
            let (Ok(workflow), Some(trigger)) = (WorkflowName::new(row.get(1)), trigger_of(row.get(2))) else {
                continue;
            };
            known.insert(Shape { workflow, trigger, source: row.get(3) }, row.get(0));
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Shape, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn add(session: &Session, shapes: &[&Shape]) -> Outcome<()> {
    let mut shapes = shapes.to_vec();
    // In one order for all gateways, so that two that add the same ones do not wait for each other in a circle.
    shapes.sort_by_key(|shape| (&shape.workflow, trigger_code(shape.trigger), &shape.source));
    let workflows: Vec<&str> = shapes.iter().map(|shape| shape.workflow.as_str()).collect();
    let triggers: Vec<i64> = shapes.iter().map(|shape| trigger_code(shape.trigger)).collect();
    let sources: Vec<&str> = shapes.iter().map(|shape| shape.source.as_str()).collect();
    let sql = "INSERT INTO clawhook.shapes (workflow, trigger, source) \
               SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[]) ON CONFLICT DO NOTHING";
    session.execute(sql, &[&workflows, &triggers, &sources]).await.map(drop)
}
