//! Looks after secrets while the gateway runs: says which of a vault cannot be read, has those that are named ready
//! before they are needed, and takes new passwords of people. It refuses nothing: a gateway that does not start because
//! of a vault loses deliveries that it could have taken.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::secret::{Error, SecretRef, Secrets as _};
use crate::http::auth::{Auth, Person};
use crate::limits;
use crate::secrets::Vault;
use crate::spec::SecretUse;

/// What goes on beside the gateway.
#[derive(Debug, Clone)]
pub(super) struct Upkeep {
    pub(super) vault: Arc<Vault>,
    pub(super) tracker: TaskTracker,
    pub(super) stop: CancellationToken,
    /// Changes at every reload.
    pub(super) reloads: watch::Sender<()>,
}

impl Upkeep {
    /// Files were read and name these secrets: those of a vault are read now, and it is told what is wrong with them.
    pub(super) fn look_through(&self, uses: Vec<SecretUse>) {
        if self.vault.is_local() {
            return;
        }
        let (vault, stop) = (Arc::clone(&self.vault), self.stop.clone());
        self.tracker.spawn(async move { stop.run_until_cancelled(look_through(&vault, uses)).await });
    }

    /// The files in force are read again: so are secrets and certificates.
    pub(super) fn reload(&self) {
        self.vault.refresh();
        self.reloads.send_replace(());
    }

    /// Takes new passwords of people as they are rotated, and those that could not be read at the start.
    pub(super) fn keep_people(&self, auth: Arc<Auth>, mut people: People) {
        let (stop, mut reloads) = (self.stop.clone(), self.reloads.subscribe());
        self.tracker.spawn(async move {
            let woken = async |reloads: &mut watch::Receiver<()>| {
                tokio::select! {
                    () = tokio::time::sleep(limits::ROUTE_KEYS_TTL) => {}
                    Ok(()) = reloads.changed() => {}
                }
            };
            while stop.run_until_cancelled(woken(&mut reloads)).await.is_some() {
                if people.read().await {
                    auth.replace_people(&people.known());
                }
            }
        });
    }
}

async fn look_through(vault: &Vault, uses: Vec<SecretUse>) {
    let mut seen = HashSet::new();
    let firsts: Vec<_> = uses.into_iter().filter(|one| seen.insert(one.reference.clone())).collect();
    let looks = firsts.into_iter().map(|one| async move {
        let Err(error) = vault.resolve(&one.reference).await else { return };
        let (file, line) = one.place();
        tracing::warn!(secret = %one.reference, file, line, %error, "{error} (named in {file}:{line})");
    });
    futures_util::stream::iter(looks).buffer_unordered(limits::SECRETS_AT_ONCE_MAX).for_each(|()| async {}).await;
}

/// The people who sign in with a password, as far as their passwords could be read.
#[derive(Debug)]
pub(super) struct People {
    vault: Arc<Vault>,
    users: Vec<(String, SecretRef, Option<Person>)>,
}

impl People {
    /// Nothing is read yet.
    pub(super) fn new(vault: Arc<Vault>, users: &[(String, SecretRef)]) -> Self {
        let users = users.iter().map(|(name, reference)| (name.clone(), reference.clone(), None)).collect();
        Self { vault, users }
    }

    /// Reads for the first time. What a source on this machine does not have is an error.
    pub(super) async fn start(&mut self) -> Result<(), Error> {
        let looks = self.users.iter().map(|(_, reference, _)| self.vault.resolve(reference));
        // Together: a vault that does not answer is waited for once, not once for each of them.
        let found = futures_util::future::join_all(looks).await;
        for ((name, reference, person), found) in self.users.iter_mut().zip(found) {
            match found {
                Ok(password) => *person = Some(Person { name: name.clone(), password }),
                Err(error) if self.vault.is_local() => return Err(error),
                Err(error) => {
                    tracing::warn!(secret = %reference, %error, "{name} cannot sign in for now: {error}");
                }
            }
        }
        Ok(())
    }

    /// Reads again; whether anything changed. Who was known stays known with the old password.
    async fn read(&mut self) -> bool {
        let mut changed = false;
        for (name, reference, person) in &mut self.users {
            // Why it failed was told when it failed first, and is told again by the vault's own log.
            let Ok(password) = self.vault.resolve(reference).await else { continue };
            if person.as_ref().is_none_or(|known| known.password != password) {
                *person = Some(Person { name: name.clone(), password });
                changed = true;
            }
        }
        changed
    }

    /// Those whose passwords are known.
    pub(super) fn known(&self) -> Vec<Person> {
        self.users.iter().filter_map(|(_, _, person)| person.clone()).collect()
    }
}
