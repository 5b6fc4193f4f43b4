#!/usr/bin/env bash
# Runs all tests. Arguments go to cargo test: `infra/test.sh --test it webhook`.
#
# Tests that need Azurite, a vault, PostgreSQL or a queue server use those of `infra/emulators.sh up`, those that let libraries
# of platforms send use what `infra/senders.sh` installed, and both say loudly that they are skipped when these were not
# called. With CI set nothing is skipped: emulators are brought up for the tests, and down after, and the libraries are
# installed.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
command -v cargo >/dev/null || {
    printf 'error: cargo was not found\nhelp: install Rust from https://rustup.rs\n' >&2
    exit 1
}

# Everything that Cargo.lock names, so that the tests themselves need no network.
cargo fetch --locked --quiet
senders=$PWD/${CLAWHOOK_SENDERS_DIR:-target/senders}
if [[ -n ${CI:-} ]]; then
    senders=$(infra/senders.sh)
fi
if [[ -f $senders/installed ]]; then
    export CLAWHOOK_SENDERS=$senders
fi
if [[ -n ${CI:-} ]]; then
    exec infra/emulators.sh run -- cargo test --locked --offline "$@"
fi
emulators=${CLAWHOOK_EMULATORS_DIR:-target/emulators}/env
if [[ -f $emulators ]] && infra/emulators.sh status >/dev/null 2>&1; then
    # shellcheck disable=SC1090 # written by infra/emulators.sh
    . "$emulators"
fi
exec cargo test --locked --offline "$@"
