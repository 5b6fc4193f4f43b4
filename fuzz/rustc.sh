#!/usr/bin/env bash
# Called by cargo in place of rustc: counts the branches of our own crate and of the parsers under it, and of nothing else,
# so that all other crates are shared with the ordinary build. These are stable flags; no nightly compiler is needed.
set -euo pipefail

rustc=$1
shift
crate=
previous=
for argument in "$@"; do
    [[ $previous == --crate-name ]] && crate=$argument
    previous=$argument
done
case $crate in
    clawhook)
        exec "$rustc" "$@" --cfg fuzzing -Cpasses=sancov-module \
            -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
            -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
        ;;
    *) exec "$rustc" "$@" ;;
esac
