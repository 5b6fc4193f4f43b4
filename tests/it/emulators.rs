//! Which emulators and servers are up: `infra/emulators.sh` says so in the environment.

use std::io::Write as _;

/// The value of a variable that `infra/emulators.sh` sets. Without it the test is skipped, loudly; in CI never.
pub(crate) fn wanted(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "`{variable}` is not set: in CI nothing is skipped, so run the tests through `infra/test.sh`"
        );
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Not by `println!`, which the test runner keeps to itself when a test passes.
        let help = "bring the emulators up with `infra/emulators.sh up`";
        drop(writeln!(std::io::stderr(), "SKIPPED: {test}: `{variable}` is not set; {help}"));
    }
    value
}
