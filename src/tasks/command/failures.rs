//! What a `command` says when it fails.

use std::path::Path;

use super::name_of;
use super::run::{Ended, NotRun};
use super::settings::Bounds;
use crate::domain::byte_size;
use crate::domain::failure::{Class, Failure, Fault, Sent};
use crate::domain::masking::Masker;

/// Characters of the end of what a program said that its failure quotes: errors stand last.
const QUOTED_CHARS_MAX: usize = 500;

/// The end of what a program said.
fn quoted(said: &str) -> String {
    let said = said.trim();
    if said.is_empty() {
        return String::new();
    }
    let skipped = said.chars().count().saturating_sub(QUOTED_CHARS_MAX);
    let dots = if skipped > 0 { "…" } else { "" };
    format!(": {dots}{}", said.chars().skip(skipped).collect::<String>())
}

pub(super) fn masked(mut failure: Failure, masker: &Masker) -> Failure {
    failure.message = masker.mask(&failure.message).into_owned();
    failure
}

/// It did not come to its end.
pub(super) fn not_run(error: &NotRun, program: &Path) -> Failure {
    let message = format!("`{}` was not run: {error}", program.display());
    let failure = match error {
        NotRun::Off => Failure::new("command.off", Fault::Config, message)
            .help("add `commands: { allow: […] }` to clawhook.yaml, restart the gateway, then resume the run"),
        NotRun::Refused(refused) => Failure::new("command.not_allowed", Fault::Config, message)
            .help(format!("{}; the gateway reads `commands` at start only", refused.help())),
        NotRun::Unbounded(_) => Failure::new("command.unbounded", Fault::Here, message)
            .help("run `clawhook doctor`; in the unit of the service write `Delegate=cpu memory pids`"),
        NotRun::Here { .. } => Failure::new("command.start", Fault::Here, message).retriable(Class::Connect, None),
        NotRun::Launch(_) => Failure::new("command.start", Fault::Config, message).help(
            "run the program by hand as the user of the gateway; a script needs a first line such as `#!/bin/sh`",
        ),
        NotRun::TooMuch(_) => {
            let message = format!("`{}` was killed: {error}", program.display());
            Failure::new("command.output_too_large", Fault::Config, message)
                .help("let the program write less, or write to a place of its own and print where")
                .sent(Sent::Maybe)
        }
    };
    failure.at(name_of(program))
}

/// It ended, and not as was wanted; `said` is what it said, without secrets.
pub(super) fn ended_badly(program: &Path, ended: &Ended, bounds: Bounds, said: &str) -> Failure {
    let (name, said) = (program.display(), quoted(said));
    let failure = if ended.out_of_memory {
        let memory = byte_size::format(bounds.memory_bytes);
        let message = format!("`{name}` was killed, because it took more memory than its limit of {memory}{said}");
        Failure::new("command.memory", Fault::Config, message)
            .help("raise `memory` of the task, up to that of `commands` in clawhook.yaml")
    } else {
        let how = match (ended.exit(), ended.signal()) {
            (Some(exit), _) => format!("ended with exit code {exit}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "did not end properly".to_owned(),
        };
        let failure = Failure::new("command.exit", Fault::Far, format!("`{name}` {how}{said}"));
        if ended.out_of_processes {
            let most = bounds.processes;
            failure.help(format!("it wanted more than its limit of {most} processes: raise `processes` of the task"))
        } else {
            failure
        }
    };
    failure.retriable(Class::Exit, None).sent(Sent::Maybe).at(name_of(program))
}

/// It ended as was wanted, and wrote something else than JSON.
pub(super) fn not_json(program: &Path, error: &serde_json::Error, said: &str) -> Failure {
    let message = format!("`{}` did not write JSON ({error}){}", program.display(), quoted(said));
    Failure::new("command.output", Fault::Far, message)
        .help("let the program write one JSON value to stdout, or write `output: text`")
        .sent(Sent::Maybe)
        .at(name_of(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_was_said_is_kept() {
        assert_eq!(quoted(" \n"), "");
        assert_eq!(quoted("no\n"), ": no");
        let long = "错".repeat(QUOTED_CHARS_MAX) + "end";
        let cut = quoted(&long);
        assert!(cut.starts_with(": …错") && cut.ends_with("错end"), "{cut}");
        assert_eq!(cut.chars().count(), QUOTED_CHARS_MAX + 3);
    }
}
