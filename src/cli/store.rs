//! `clawhook store`: looks whether everything in the store holds together, and moves all of it: into a file, out of one,
//! and from one backend to another.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::config;
use super::error::Error;
use super::output::{self, Output};
use super::words::count;
use crate::clock::{Clock, SystemClock};
use crate::domain::run::Run;
use crate::domain::state::State;
use crate::limits;
use crate::secrets::Vault;
use crate::settings::Settings;
use crate::store::backup::{Reader, Writer};
use crate::store::transfer::{Dump, Piece};
use crate::store::{self, Parts, RunQuery, Store};

/// What to do with the store.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Stores {
    /// Reads everything and tells what does not hold together; changes nothing
    Verify(Where),
    /// Writes everything into one file, also while a gateway works
    Backup {
        #[command(flatten)]
        at: Where,
        /// The file to write, such as `clawhook.jsonl.gz`
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Takes everything from a backup; what is there already stays. Stop every gateway on the store first: one on
    /// azure-blob is noticed only while it drives a run
    Restore {
        #[command(flatten)]
        at: Where,
        /// The file that `backup` wrote
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Copies everything into the store of other settings. Stop every gateway on both stores first: one on azure-blob
    /// is noticed only while it drives a run
    Migrate {
        #[command(flatten)]
        at: Where,
        /// Settings file whose `storage` is the new one
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

/// Which store.
#[derive(Debug, Clone, Args)]
pub(super) struct Where {
    /// Settings file whose `storage` is meant
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
}

pub(super) async fn run(stores: Stores, output: Output) -> Result<ExitCode, Error> {
    match stores {
        Stores::Verify(at) => verify(&at.config, output).await,
        Stores::Backup { at, file } => backup(&at.config, &file, output).await,
        Stores::Restore { at, file } => restore(&at.config, &file, output).await,
        Stores::Migrate { at, to } => migrate(&at.config, &to, output).await,
    }
}

async fn verify(config: &Path, output: Output) -> Result<ExitCode, Error> {
    let parts = parts(config, output)?;
    let mut dump = store::dump(parts.clone()).await.map_err(told)?;
    let bar = progress(output, dump.runs);
    let (mut runs, mut wrong) = (0, Vec::new());
    while let Some(piece) = dump.pieces.next().await {
        let Piece::Run { id, log, head } = piece.map_err(told)? else { continue };
        runs += 1;
        bar.inc(1);
        match Run::fold(id, log) {
            Ok(run) if run.head() == *head => {}
            Ok(run) => wrong.push(format!(
                "{id}: the index says `{}`, its log says `{}`",
                head.state.as_str(),
                run.head().state.as_str()
            )),
            Err(error) => wrong.push(format!("{id}: its log does not read: {error}")),
        }
    }
    bar.finish_and_clear();
    // The backend looks itself when no gateway has it.
    match store::open(parts).await {
        Ok(store) => {
            wrong.extend(store.verify().await.map_err(told)?);
            store.close().await;
        }
        Err(store::Error::Locked { .. }) => {
            output::note("note: a gateway works with the store, so only the logs were read, not the file below them");
        }
        Err(error) => return Err(told(error)),
    }
    for line in &wrong {
        output::print(&format!("{line}\n"));
    }
    output::note(&format!("read {}, found {}", count(runs, "run"), count(wrong.len(), "problem")));
    if wrong.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    output::note("help: restore a backup into an empty store, or write to the maintainers with this list");
    Ok(ExitCode::FAILURE)
}

async fn backup(config: &Path, file: &Path, output: Output) -> Result<ExitCode, Error> {
    let mut dump = store::dump(parts(config, output)?).await.map_err(told)?;
    let mut writer = Writer::create(file, dump.runs, SystemClock.now()).map_err(told)?;
    let bar = progress(output, dump.runs);
    let mut runs = 0;
    while let Some(piece) = dump.pieces.next().await {
        let piece = piece.map_err(told)?;
        if matches!(piece, Piece::Run { .. }) {
            runs += 1;
            bar.inc(1);
        }
        writer.add(&piece).map_err(told)?;
    }
    let pieces = writer.finish().map_err(told)?;
    bar.finish_and_clear();
    output::note(&format!("wrote {} ({pieces} pieces in all) into {}", count(runs, "run"), file.display()));
    Ok(ExitCode::SUCCESS)
}

async fn restore(config: &Path, file: &Path, output: Output) -> Result<ExitCode, Error> {
    let mut reader = Reader::open(file).map_err(told)?;
    let store = unused(parts(config, output)?).await?;
    let mut filling = Filling::new(store, progress(output, reader.runs));
    while let Some(piece) = reader.piece().map_err(told)? {
        // The store behind the backup may still work, or have gone on since: this one is another, and says so.
        if !matches!(&piece, Piece::Mark { name, .. } if name.starts_with(store::ARTIFACT_NAME_MARK)) {
            filling.add(piece).await?;
        }
    }
    let runs = filling.finish().await?;
    output::note(&format!("took {} from {}", count(runs, "run"), file.display()));
    Ok(ExitCode::SUCCESS)
}

async fn migrate(from: &Path, to: &Path, output: Output) -> Result<ExitCode, Error> {
    let (from, to) = (parts(from, output)?, parts(to, output)?);
    if from.settings == to.settings {
        return Err(Error::new("both settings name the same store").help("give `--to` a file with another `storage`"));
    }
    // Opened so that no gateway writes what would be left behind.
    let old = unused(from.clone()).await?;
    let store = unused(to).await?;
    let Dump { runs, mut pieces } = store::dump(from).await.map_err(told)?;
    let mut filling = Filling::new(store, progress(output, runs));
    while let Some(piece) = pieces.next().await {
        filling.add(piece.map_err(told)?).await?;
    }
    let runs = filling.finish().await?;
    old.close().await;
    output::note(&format!("took {} over; start the gateway with the new settings", count(runs, "run")));
    Ok(ExitCode::SUCCESS)
}

/// Opens a store that no gateway may work with. One that several may share is open to others all the same: then a sign
/// of life of theirs, or a lease that lasts, is a refusal.
async fn unused(parts: Parts) -> Result<Arc<dyn Store>, Error> {
    let store = store::open(parts).await.map_err(told)?;
    match signs_of_life(store.as_ref()).await {
        Ok(None) => Ok(store),
        Ok(Some(sign)) => {
            store.close().await;
            let help = "stop every gateway on the store; one that was killed is forgotten after 30 s at most";
            Err(Error::new(format!("a gateway works with the store: {sign}")).help(help))
        }
        Err(error) => Err(told(error)),
    }
}

async fn signs_of_life(store: &dyn Store) -> Result<Option<String>, store::Error> {
    if store.exclusive() {
        return Ok(None);
    }
    let others = store.others().await?;
    if others > 0 {
        return Ok(Some(format!("{others} gave a sign of life just now")));
    }
    let now = SystemClock.now();
    let states = vec![State::Running, State::Cancelling];
    let driven = store.runs(&RunQuery { states, limit: limits::PAGE_MAX, ..RunQuery::default() }).await?;
    let leased = driven.into_iter().find_map(|run| run.due.filter(|until| *until > now).map(|until| (run.id, until)));
    Ok(leased.map(|(run, until)| format!("the lease of {run} lasts until {until}")))
}

/// A store that is being filled.
struct Filling {
    store: Arc<dyn Store>,
    bar: ProgressBar,
    batch: Vec<Piece>,
    runs: usize,
}

impl Filling {
    fn new(store: Arc<dyn Store>, bar: ProgressBar) -> Self {
        Self { store, bar, batch: Vec::new(), runs: 0 }
    }

    async fn add(&mut self, piece: Piece) -> Result<(), Error> {
        if matches!(piece, Piece::Run { .. }) {
            self.runs += 1;
            self.bar.inc(1);
        }
        self.batch.push(piece);
        if self.batch.len() < limits::LOAD_PIECES {
            return Ok(());
        }
        self.store.load(std::mem::take(&mut self.batch)).await.map_err(told)
    }

    async fn finish(self) -> Result<usize, Error> {
        self.store.load(self.batch).await.map_err(told)?;
        self.store.close().await;
        self.bar.finish_and_clear();
        Ok(self.runs)
    }
}

/// What a store of these settings is opened with.
fn parts(config: &Path, output: Output) -> Result<Parts, Error> {
    let Settings { storage, secrets, azure, .. } = config::settings(config, output)?;
    let secrets = Vault::open(&secrets, &azure, Arc::new(SystemClock)).map_err(told)?;
    Ok(Parts { settings: storage, azure, secrets: Arc::new(secrets), clock: Arc::new(SystemClock) })
}

fn progress(output: Output, runs: u64) -> ProgressBar {
    if !output.watched {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:32} {pos} of {len} runs, {per_sec}, {eta} left");
    ProgressBar::with_draw_target(Some(runs), ProgressDrawTarget::stderr())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn told(error: impl std::fmt::Display) -> Error {
    Error::new(error.to_string())
}
