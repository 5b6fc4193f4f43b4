#!/usr/bin/env bash
# Builds and starts a gateway with the shipped settings, routes and workflows, and a stand-in ERP for them to call.
# Everything listens on 127.0.0.1, runs are kept in ./data, and the keys below are made up. Ctrl-C stops both.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd -- "$root"
erp_port=9400

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $1"
    shift
    for help in "$@"; do say "help: $help"; done
    exit 1
}

# A fresh rustup may not be on the path of this shell yet.
command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
command -v cargo >/dev/null || die "cargo was not found" "install Rust from https://rustup.rs, then run this again"
command -v cc >/dev/null || die "no C compiler was found; SQLite and the TLS library need one" \
    "on Debian and Ubuntu: sudo apt-get install build-essential"

say "building; the first time takes a few minutes"
cargo build --release --locked --bin clawhook --bin standin
target=$(cargo metadata --format-version 1 --no-deps --offline | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
bin=$target/release

# Made up, so that the shipped routes and connections work at once. What is set already stays.
shopify_key=demo-key-for-shopify-webhooks
export CLAWHOOK_SECRET_SHOPIFY_US_WEBHOOK_KEY="${CLAWHOOK_SECRET_SHOPIFY_US_WEBHOOK_KEY:-$shopify_key}"
export CLAWHOOK_SECRET_ERP_API_KEY="${CLAWHOOK_SECRET_ERP_API_KEY:-demo-key-for-the-erp}"

log=$(mktemp)
standin='' gateway=''
# shellcheck disable=SC2317 # the trap calls it
stop() {
    trap - EXIT
    for process in $gateway $standin; do kill "$process" 2>/dev/null || true; done
    rm -f -- "$log"
}
trap stop EXIT

"$bin/standin" --port "$erp_port" --api-key "$CLAWHOOK_SECRET_ERP_API_KEY" >"$log" 2>&1 &
standin=$!
for _ in {1..100}; do
    grep -q '^standin listening' "$log" && break
    if ! kill -0 "$standin" 2>/dev/null; then
        cat "$log" >&2
        die "the stand-in ERP did not start" "is port $erp_port taken? another demo may be running"
    fi
    sleep 0.1
done

"$bin/clawhook" serve --config "$root/clawhook.yaml" &
gateway=$!
trap 'kill -TERM "$gateway" 2>/dev/null || true' INT TERM HUP

# A signal ends `wait` early; the gateway then drains, and its own exit code is ours.
status=0
while kill -0 "$gateway" 2>/dev/null; do
    wait "$gateway" && status=0 || status=$?
done
gateway=''
exit "$status"
