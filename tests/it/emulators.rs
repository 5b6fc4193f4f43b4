//! Which emulators and servers are up: `infra/emulators.sh` says so in the environment.

/// The value of a variable that `infra/emulators.sh` sets. Without it the test is skipped, loudly; in CI never.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
pub(crate) fn wanted(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "`{variable}` is not set: in CI nothing is skipped, so run the tests through `infra/test.sh`"
        );
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        println!("SKIPPED: {test}: `{variable}` is not set; bring the emulators up with `infra/emulators.sh up`");
    }
    value
}
