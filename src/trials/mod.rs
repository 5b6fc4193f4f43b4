//! The tests that users write for their workflows (`workflows/*.test.yaml`), played offline: the real engine, the real
//! client and the real rules, on a store in memory, with a clock that takes no time and far ends that are recorded.
//! Nothing leaves the process, no real secret is read, no program is started, no real store is opened.
//!
//! [`read`] makes scripts of the files, [`Theatre::play`] plays one, and what was not as expected comes back as data.

mod actor;
mod call;
mod compare;
mod exchange;
mod judge;
/// Results as JUnit XML.
pub mod junit;
mod network;
mod play;
mod read;
/// Tests made of real runs.
pub mod record;
mod stage;
mod yaml;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

pub use self::judge::{Change, Line, Mismatch};
pub use self::read::TrialFile;
use crate::id::ConnectionName;
use crate::settings::Settings;
use crate::spec::SourceFile;
use crate::spec::diagnostic::Problem;
use crate::tasks::plan::Catalog;

/// Reads files of tests, held against the files that they are about. Everything that is wrong with them is told.
pub fn read(
    files: &[SourceFile],
    base: &Path,
    catalog: &Catalog,
    connections: &BTreeSet<ConnectionName>,
    problems: &mut Vec<Problem>,
) -> Vec<TrialFile> {
    self::read::read(files, base, &self::read::Around { catalog, connections }, problems)
}

/// Where tests are played: the files and settings in force, made harmless.
#[derive(Debug, Clone)]
pub struct Theatre(Arc<play::Ground>);

/// What came of one test.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The file that the test stands in.
    pub file: String,
    /// The line that it begins at, from 1.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// Real time that it took.
    #[serde(skip)]
    pub took: Duration,
    /// Everything that was not as expected; nothing when it passed.
    pub mismatches: Vec<Mismatch>,
}

impl Outcome {
    /// Whether all was as expected.
    pub fn passed(&self) -> bool {
        self.mismatches.is_empty()
    }
}

impl Theatre {
    /// Takes files that were loaded for this and are not in force anywhere: their tasks, routes and channels are changed.
    pub fn new(catalog: Catalog, settings: &Settings) -> Self {
        let around = play::Around {
            connections: settings.connections.clone(),
            channels: settings.channels.clone(),
            egress: settings.egress.clone(),
            azure: Arc::clone(&settings.azure),
        };
        Self(Arc::new(play::Ground::new(catalog, around)))
    }

    /// Plays the test of this number of a file.
    pub async fn play(&self, file: &TrialFile, number: usize) -> Option<Outcome> {
        let case = file.cases.get(number)?;
        let started = Instant::now();
        let played = play::play(Arc::clone(&self.0), case.script.clone()).await;
        let (line, column) = file.map.source().position(file.map.entry(&case.path).start);
        let mismatches = match played {
            Ok(played) => judge::Judge::new(&file.map, case.path.clone(), &case.raw, &played).judge(),
            Err(why) => vec![Mismatch {
                subject: "run".to_owned(),
                at: (line, column),
                differences: Vec::new(),
                notes: vec![why],
            }],
        };
        let (file, name) = (file.name.clone(), case.raw.name.clone());
        Some(Outcome { file, line, name, took: started.elapsed(), mismatches })
    }
}
