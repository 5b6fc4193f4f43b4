//! `clawhook secrets check`: asks the secret source for every secret that a file names, and says which can be used, and
//! what would mend the others. Neither a value nor anything about it but its times is printed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::config::{self, Gathered};
use super::error::Error;
use super::output;
use super::table::table;
use super::words::count;
use crate::clock::Timestamp;
use crate::domain::secret::{self, Bar, SecretRef};
use crate::limits;
use crate::secrets::{Found, Vault};
use crate::spec::diagnostic::Severity;

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Secrets {
    /// Asks for every secret that a file names; shows no value
    Check(Check),
}

/// What to check.
#[derive(Debug, Clone, Args)]
pub(super) struct Check {
    /// Settings file; the secrets of the folders that it names are looked up too
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(secrets: &Secrets) -> Result<ExitCode, Error> {
    let Secrets::Check(check) = secrets;
    let gathered = config::gather(&check.config, &config::environment());
    let errors = gathered.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    if errors > 0 {
        let problems = count(errors, "problem");
        output::note(&format!("the files have {problems}, so secrets may be left out here: see `clawhook check`"));
    }
    let vault = gathered.open().map_err(|error| Error::new(error.to_string()))?;
    let rows = look(&vault, wanted(&gathered)).await;
    let unusable = rows.iter().filter(|row| row.state != FOUND).count();
    if check.json {
        let secrets: Vec<Value> = rows.iter().map(Row::json).collect();
        let (source, vault) = (&gathered.source.source, &gathered.source.vault_url);
        output::print_json(&json!({ "source": source, "vault": vault, "secrets": secrets, "unusable": unusable }));
    } else {
        output::print(&words(&rows, unusable));
    }
    Ok(if unusable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A secret, and every place that names it.
struct Wanted {
    reference: SecretRef,
    places: Vec<Place>,
}

struct Place {
    file: String,
    line: Option<usize>,
}

/// What became of one.
struct Row {
    wanted: Wanted,
    state: &'static str,
    /// The version that is current, or pinned.
    version: Option<String>,
    expires: Option<Timestamp>,
    why: Option<String>,
    help: Option<String>,
}

const FOUND: &str = "found";

/// Every secret once, in the order in which files name them.
fn wanted(gathered: &Gathered) -> Vec<Wanted> {
    let of_files = gathered.secrets.iter().map(|used| {
        let (file, line) = used.place();
        (SecretRef { prefix: None, ..used.reference.clone() }, Place { file: file.to_owned(), line: Some(line) })
    });
    let of_doors = gathered.certificates.iter().map(|(door, name)| {
        (SecretRef::to(name.clone()), Place { file: format!("the certificate of the {door} door"), line: None })
    });
    let mut named: Vec<_> = of_files.collect();
    named.sort_by(|(_, one), (_, other)| (&one.file, one.line).cmp(&(&other.file, other.line)));
    let mut wanted: Vec<Wanted> = Vec::new();
    for (reference, place) in named.into_iter().chain(of_doors) {
        match wanted.iter_mut().find(|known| known.reference == reference) {
            Some(known) => known.places.push(place),
            None => wanted.push(Wanted { reference, places: vec![place] }),
        }
    }
    wanted
}

async fn look(vault: &Vault, wanted: Vec<Wanted>) -> Vec<Row> {
    let looks = wanted.into_iter().map(async |wanted| {
        let found = vault.look_for(&wanted.reference).await;
        let remedy = vault.remedy(&wanted.reference.name);
        Row::of(wanted, found, remedy)
    });
    futures_util::stream::iter(looks).buffered(limits::SECRETS_AT_ONCE_MAX).collect().await
}

impl Row {
    fn of(wanted: Wanted, found: Result<Found, secret::Error>, remedy: String) -> Self {
        let error = match found {
            Ok(Found { version, valid_until, .. }) => {
                return Self { wanted, state: FOUND, version, expires: valid_until, why: None, help: None };
            }
            Err(error) => error,
        };
        let (state, expires, why, help) = match error {
            secret::Error::Missing { source_name, help, .. } => {
                ("missing", None, format!("it is not in the {source_name}"), help)
            }
            secret::Error::Barred { bar, help, .. } => match bar {
                Bar::Disabled => ("disabled", None, bar.to_string(), help),
                Bar::Expired(at) => ("expired", Some(at), bar.to_string(), help),
                Bar::NotYet(_) => ("not_yet_valid", None, bar.to_string(), help),
                Bar::Forbidden => ("forbidden", None, bar.to_string(), help),
            },
            secret::Error::Unusable { why, .. } => ("unusable", None, why, remedy),
            secret::Error::Source { why, .. } => {
                let help = "check `secrets` and `azure` in clawhook.yaml, and whether this machine reaches the vault";
                ("unreachable", None, why, help.to_owned())
            }
        };
        Self { wanted, state, version: None, expires, why: Some(why), help: Some(help) }
    }

    fn name(&self) -> String {
        self.wanted.reference.in_full()
    }

    fn cells(&self) -> Vec<String> {
        let places: Vec<_> = self.wanted.places.iter().map(Place::words).collect();
        let expires = self.expires.map_or_else(|| "-".to_owned(), |at| at.to_string());
        vec![self.name(), self.state.to_owned(), expires, places.join(", ")]
    }

    fn json(&self) -> Value {
        let SecretRef { name, version, field, .. } = &self.wanted.reference;
        let places = self.wanted.places.iter().map(|place| json!({ "file": place.file, "line": place.line }));
        json!({
            "name": name,
            "version": version,
            "field": field,
            "state": self.state,
            "found_version": self.version,
            "expires": self.expires.map(|at| at.to_string()),
            "used_in": places.collect::<Vec<_>>(),
            "why": self.why,
            "help": self.help,
        })
    }
}

impl Place {
    fn words(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.file),
            None => self.file.clone(),
        }
    }
}

fn words(rows: &[Row], unusable: usize) -> String {
    if rows.is_empty() {
        return "no file names a secret".to_owned();
    }
    let mut text = table(&["NAME", "STATE", "EXPIRES", "NAMED IN"], rows.iter().map(Row::cells));
    for row in rows {
        if let (Some(why), Some(help)) = (&row.why, &row.help) {
            for part in ["\n\n", &row.name(), ": ", why, "\nhelp: ", help] {
                text.push_str(&output::visible(part));
            }
        }
    }
    let secrets = count(rows.len(), "secret");
    let end = if unusable == 0 { "all can be used".to_owned() } else { format!("{unusable} cannot be used") };
    format!("{text}\n\n{secrets}, {end}")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::id::SecretName;

    fn row(found: Result<Found, secret::Error>) -> Row {
        let places = vec![Place { file: "routes/a.yaml".to_owned(), line: Some(3) }];
        let reference = SecretRef::to(SecretName::new("erp").unwrap());
        Row::of(Wanted { reference, places }, found, "set it".to_owned())
    }

    #[test]
    fn every_state_has_its_word_and_its_help() {
        let check = |error: secret::Error, state: &str, help: &str| {
            let row = row(Err(error));
            assert_eq!((row.state, row.help.as_deref().unwrap()), (state, help));
        };
        let name = || SecretName::new("erp").unwrap();
        let barred = |bar| secret::Error::Barred { name: name(), source_name: "vault", bar, help: "do it".to_owned() };
        let at = Timestamp::from_secs(0);
        check(secret::Error::Missing { name: name(), source_name: "vault", help: "put".to_owned() }, "missing", "put");
        check(barred(Bar::Disabled), "disabled", "do it");
        check(barred(Bar::Expired(at)), "expired", "do it");
        check(barred(Bar::NotYet(at)), "not_yet_valid", "do it");
        check(barred(Bar::Forbidden), "forbidden", "do it");
        check(secret::Error::Unusable { name: name(), why: "it is empty".to_owned() }, "unusable", "set it");
    }

    #[test]
    fn nothing_of_a_value_is_printed() {
        let found = Found { valid_until: Some(Timestamp::from_secs(0)), ..Found::of("hush-4711") };
        let rows = [row(Ok(found))];
        let text = format!("{}{}", words(&rows, 0), rows[0].json());
        assert!(!text.contains("hush") && !text.contains("4711"), "{text}");
        assert!(text.contains("erp   found  1970-01-01T00:00:00.000Z  routes/a.yaml:3"), "{text}");
        assert!(text.contains("1 secret, all can be used"), "{text}");
    }
}
