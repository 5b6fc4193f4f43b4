#!/usr/bin/env bash
# Checks what is not Rust: the Bicep templates, what is installed on a machine, and that official clients accept the
# emulators. Python packages go to a folder of their own under target/.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
venv=target/checks
if [[ ! -x $venv/bin/python3 ]]; then
    python3 -m venv "$venv"
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1
"$venv/bin/python3" -m pip install --quiet -r bicep/requirements.txt -r infra/requirements.txt

"$venv/bin/python3" bicep/check.py
"$venv/bin/python3" bicep/check.py --self-test
"$venv/bin/python3" infra/check_machine.py
"$venv/bin/python3" infra/check_machine.py --self-test
infra/emulators.sh check
