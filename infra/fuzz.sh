#!/usr/bin/env bash
# Builds the fuzz target of `fuzz/` and runs it for a bounded time on the kept inputs, the test vectors and what earlier runs
# on this machine found. Any panic, any input that takes long, and any that takes much memory ends it with an error.
#
#   infra/fuzz.sh               FUZZ_SECONDS (30) of it, as CI does
#   infra/fuzz.sh INPUT...      these inputs once each: what a failed run left behind, say
#
# The compiler is the ordinary one: fuzz/rustc.sh says how branches are counted. Crates are those of the ordinary build, in the
# same target folder, so that only clawhook itself is compiled again.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
readonly seconds=${FUZZ_SECONDS:-30}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
readonly work=$CARGO_TARGET_DIR/fuzz
# Memory of the process, MiB, and the most that it may ask for at all, KiB: an allocation without bounds fails at once.
readonly rss_mib_max=768 virtual_kib_max=$((4 * 1024 * 1024))

# The versions of Cargo.lock, and two crates on top whose versions fuzz/Cargo.toml names.
cp -- Cargo.lock fuzz/Cargo.lock
(
    cd fuzz
    cargo fmt --check
    cargo fetch --quiet
    CARGO_INCREMENTAL=0 RUSTC_WRAPPER=$PWD/rustc.sh cargo build --offline
)
readonly program=$CARGO_TARGET_DIR/debug/clawhook-fuzz
readonly limits=(-rss_limit_mb="$rss_mib_max" -timeout=10 -max_len=65536)
ulimit -v "$virtual_kib_max"
if (($# > 0)); then
    exec "$program" "${limits[@]}" "$@"
fi

rm -rf -- "$work/seeds"
mkdir -p -- "$work/seeds" "$work/corpus" "$work/found"
log=$work/log
if ! FUZZ_SEEDS=$work/seeds "$program" "${limits[@]}" -max_total_time="$seconds" -print_final_stats=1 \
    -artifact_prefix="$work/found/" "$work/corpus" fuzz/corpus "$work/seeds" >"$log" 2>&1; then
    tail -n 40 -- "$log" >&2
    printf 'error: the fuzz target ended early\nhelp: where an input broke a parser, it is in %s/: infra/fuzz.sh FILE runs it alone\n' \
        "$work/found" >&2
    printf 'help: mend the parser, and keep the input in fuzz/corpus/\n' >&2
    exit 1
fi
grep -E 'Done [0-9]+ runs|INITED|stat::(peak_rss_mb|slowest_unit)' -- "$log"
