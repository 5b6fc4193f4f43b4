#!/usr/bin/env bash
# Runs all tests. Arguments go to cargo test: `infra/test.sh --test it webhook`.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
command -v cargo >/dev/null || {
    printf 'error: cargo was not found\nhelp: install Rust from https://rustup.rs\n' >&2
    exit 1
}

# Everything that Cargo.lock names, so that the tests themselves need no network.
cargo fetch --locked --quiet
exec cargo test --locked --offline "$@"
