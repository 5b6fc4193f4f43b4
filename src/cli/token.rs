//! `clawhook token`: credentials for the control door, signed with the gateway's `JWT_SECRET`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::config;
use super::error::Error;
use super::output;
use super::words::took;
use crate::clock::{Clock, SystemClock};
use crate::domain::duration;
use crate::gateway::Scope;
use crate::http::auth::token::TokenKey;

/// What to do with tokens.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Token {
    /// Makes a token; whoever has it may do what its scopes say until it expires
    Create(Create),
}

/// What the token says.
#[derive(Debug, Clone, Args)]
pub(super) struct Create {
    /// Whom it speaks for: the name that stands in the audit
    #[arg(long, value_name = "NAME")]
    subject: String,
    /// What it may do: words between spaces
    #[arg(long, value_name = "SCOPES", value_parser = scopes)]
    scope: ScopeList,
    /// How long it lives
    #[arg(long, value_name = "DURATION", default_value = "8h", value_parser = ttl)]
    ttl: Duration,
    /// Settings file that names the variable of the secret
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
}

/// Scopes that were all understood.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ScopeList(Vec<Scope>);

fn scopes(text: &str) -> Result<ScopeList, String> {
    let known = || Scope::ALL.map(Scope::as_str).join(", ");
    let words = text.split([' ', ',']).filter(|word| !word.is_empty());
    let read = words
        .map(|word| Scope::parse(word).ok_or_else(|| format!("`{word}` is not a scope; the scopes are {}", known())));
    let read: Vec<_> = read.collect::<Result<_, _>>()?;
    if read.is_empty() { Err(format!("name at least one of {}", known())) } else { Ok(ScopeList(read)) }
}

fn ttl(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(ttl) if ttl < Duration::from_secs(1) => Err("a token lives at least `1s`".to_owned()),
        other => other.map_err(|error| error.to_string()),
    }
}

pub(super) fn run(Token::Create(create): &Token) -> Result<ExitCode, Error> {
    let (variable, secret) = config::jwt_secret(&create.config);
    let Some(secret) = secret else {
        return Err(Error::new(format!("the variable `{variable}` is not set, so no token can be signed"))
            .help(format!("set `{variable}` to what the gateway has; `openssl rand -hex 32` makes a new one")));
    };
    let key = TokenKey::new(&secret).map_err(|error| Error::new(error.to_string()))?;
    output::print(&mint(&key, &create.subject, &create.scope.0, create.ttl)?);
    let millis = u64::try_from(create.ttl.as_millis()).unwrap_or(u64::MAX);
    output::note(&format!("good for {}; send it as `Authorization: Bearer …`, or set CLAWHOOK_TOKEN", took(millis)));
    Ok(ExitCode::SUCCESS)
}

/// A token for one command, when the secret is in the environment: whoever has the secret may do everything anyway.
pub(super) fn for_one_command(config: &Path, user: Option<&str>, ttl: Duration) -> Result<Option<String>, Error> {
    let (_, Some(secret)) = config::jwt_secret(config) else { return Ok(None) };
    let key = TokenKey::new(&secret).map_err(|error| Error::new(error.to_string()))?;
    let subject = format!("cli:{}", user.unwrap_or("unknown"));
    mint(&key, &subject, &[Scope::Admin], ttl).map(Some)
}

fn mint(key: &TokenKey, subject: &str, scopes: &[Scope], ttl: Duration) -> Result<String, Error> {
    if subject.trim().is_empty() {
        return Err(Error::new("a token needs a subject").help("name it with `--subject NAME`; it stands in the audit"));
    }
    key.mint(subject, scopes, ttl, SystemClock.now()).map_err(|error| Error::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_words_that_are_known() {
        assert_eq!(scopes("runs:read runs:write"), Ok(ScopeList(vec![Scope::RunsRead, Scope::RunsWrite])));
        assert!(scopes("runs:reed").is_err_and(|why| why.contains("the scopes are runs:read, ")));
        assert!(scopes(" ").is_err());
        assert!(ttl("0s").is_err() && ttl("8h").is_ok());
    }
}
