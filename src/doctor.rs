//! Looks whether this machine, and what the gateway needs beside it, are fit for work, and says how to mend what is not.
//! It reads, connects and asks; all it writes is one mark or one file, which it takes away again. It repairs nothing.

mod certificates;
mod egress;
mod identity;
mod machine;
mod places;
mod ports;
mod storage;

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::clock::Clock;
use crate::domain::secret::Secrets;
use crate::secrets::Vault;
use crate::settings::Settings;
use crate::spec::SecretUse;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, such as `disk` or `connection erp`.
    pub about: String,
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it, unless all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// How it stands with a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Good,
    /// It works today.
    Doubtful,
    /// The gateway, or a part of it, will not work.
    Bad,
    /// It could not be looked at here.
    Skipped,
}

impl Finding {
    fn new(about: impl Into<String>, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { about: about.into(), verdict, found: found.into(), mend: None }
    }

    fn good(about: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(about, Verdict::Good, found)
    }

    fn doubtful(about: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..Self::new(about, Verdict::Doubtful, found) }
    }

    fn bad(about: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..Self::new(about, Verdict::Bad, found) }
    }
}

/// Whether a gateway with these settings answers on its control door.
pub async fn alive(settings: &Settings) -> Finding {
    ports::alive(settings).await
}

/// Looks at everything. `secrets` are those that all files name.
pub async fn examine(settings: &Settings, secrets: &[SecretUse], clock: Arc<dyn Clock>) -> Vec<Finding> {
    let azure = &settings.azure;
    let commands = !settings.commands.is_off() && !settings.commands.unbounded;
    let mut findings = machine::examine(Path::new("/"), &settings.storage.path, commands);
    findings.extend(ports::examine(settings).await);
    findings.extend(identity::examine(settings, azure).await);
    match Vault::open(&settings.secrets, azure, Arc::clone(&clock)) {
        Ok(vault) => {
            let vault = Arc::new(vault);
            findings.extend(certificates::examine(settings, &vault, &clock).await);
            let vault: Arc<dyn Secrets> = vault;
            findings.extend(identity::secrets(secrets.iter().map(|used| &used.reference), vault.as_ref()).await);
            findings.extend(storage::examine(settings, &vault, &clock).await);
            findings.extend(places::examine(settings, &vault, &clock).await);
        }
        Err(error) => {
            findings.push(Finding::bad("secrets", error.to_string(), "correct `secrets` in clawhook.yaml"));
        }
    }
    findings.extend(egress::examine(settings, clock.as_ref()).await);
    findings
}
