//! A store asked the same as the one in memory: they agree on what is new, what is known, and what came before.

use clawhook::domain::event::Event;
use clawhook::id::RunId;
use clawhook::store::memory::Memory;
use clawhook::store::{Acceptance, Receipt, Store};

/// The store in memory, and which of its runs is which of the other store's.
#[derive(Debug, Default)]
pub(super) struct BesideMemory {
    model: Memory,
    /// In the order of their making.
    ours: Vec<RunId>,
    theirs: Vec<RunId>,
    pub(super) duplicates: usize,
}

impl BesideMemory {
    /// Asks both for a delivery of one run.
    pub(super) async fn accept(&mut self, store: &dyn Store, asked: Acceptance, step: i64) {
        match (store.accept(asked.clone()).await.unwrap(), self.model.accept(asked).await.unwrap()) {
            (Receipt::New(our), Receipt::New(their)) => {
                let (ours, theirs) = (flagged(store, our[0]).await, flagged(&self.model, their[0]).await);
                self.ours.extend(our);
                self.theirs.extend(their);
                let flagged = (ours.map(|of| place(&self.ours, of)), theirs.map(|of| place(&self.theirs, of)));
                assert_eq!(flagged.0, flagged.1, "step {step}");
            }
            (Receipt::Duplicate(our), Receipt::Duplicate(their)) => {
                self.duplicates += 1;
                assert_eq!(place(&self.ours, our[0]), place(&self.theirs, their[0]), "step {step}");
            }
            other => panic!("step {step}: {other:?}"),
        }
    }
}

async fn flagged(store: &dyn Store, run: RunId) -> Option<RunId> {
    match store.log(run).await.unwrap().get(1).map(|entry| &entry.event) {
        Some(Event::SuspectedReplay { of }) => Some(*of),
        _ => None,
    }
}

fn place(runs: &[RunId], id: RunId) -> usize {
    runs.iter().position(|run| *run == id).unwrap()
}
