#!/usr/bin/env bash
# Installs libraries of platforms that sign webhooks, in fixed versions, under target/senders. tests/it/senders.rs lets them
# call a gateway. Prints where they are; a second call with nothing changed takes no time.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
readonly files=infra/senders
folder=$PWD/${CLAWHOOK_SENDERS_DIR:-target/senders}
wanted=$(cat "$files"/{package.json,package-lock.json,requirements.txt,send.mjs,send.py} | sha256sum)

for program in npm node python3; do
    command -v "$program" >/dev/null || {
        printf 'error: %s was not found\nhelp: install Node.js 20 or later and Python 3.10 or later\n' "$program" >&2
        exit 1
    }
done
if [[ $(cat "$folder/installed" 2>/dev/null) != "$wanted" ]]; then
    rm -rf -- "$folder"
    mkdir -p -- "$folder"
    cp -- "$files"/{package.json,package-lock.json,send.mjs,send.py} "$folder"
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent >&2
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/python3" -m pip install --disable-pip-version-check --quiet -r "$files/requirements.txt" >&2
    printf '%s\n' "$wanted" >"$folder/installed"
fi
printf '%s\n' "$folder"
