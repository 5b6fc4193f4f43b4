#!/usr/bin/env python3
"""Checks the Bicep templates without Azure: `python3 bicep/check.py`. README.md says what is checked and what is not."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

try:
    from checker import readme, roles, rules, schema, security, selftest, syntax
    from checker.problem import Problem
except ImportError as missing:
    sys.exit(f"bicep/check.py cannot start: {missing}\n    help: python3 -m pip install -r bicep/requirements.txt")


def in_ci() -> bool:
    return os.environ.get("CI") == "true" or os.environ.get("CLAWHOOK_CI") == "1"


def problems(folder: Path, types: schema.Types | None) -> list[Problem]:
    templates = syntax.load(folder)
    found = list(rules.syntax(templates))
    if found:
        return found
    found += rules.check(templates)
    found += [*roles.check(templates), *security.check(templates), *readme.check(templates)]
    if types is not None:
        found += schema.check(templates, types)
    return sorted(set(found))


def ask_compiler(folder: Path) -> list[Problem]:
    """The real compiler, where there is one."""
    bicep = shutil.which("bicep")
    if bicep is None:
        print("bicep compiler: not installed, so not asked")
        return []
    found = []
    commands = [["build", "main.bicep", "--stdout"], ["lint", "main.bicep"]]
    commands += [["build-params", file.name, "--stdout"] for file in sorted(folder.glob("*.bicepparam"))]
    for command in commands:
        done = subprocess.run([bicep, *command], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0 or "Warning" in done.stderr:
            found.append(Problem(f"bicep/{command[1]}", 1, f"bicep {command[0]}: {done.stderr.strip()}", "mend what the compiler says"))
    print(f"bicep compiler: {len(commands)} commands")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", action="store_true", help="fail where the official type data is not installed, as in CI")
    parser.add_argument("--self-test", action="store_true", help="break copies of the templates and see each mistake reported")
    parser.add_argument("--write-readme", action="store_true", help="write the table of parameters into README.md")
    arguments = parser.parse_args()

    if arguments.write_readme:
        readme.write(syntax.load(HERE))
        return 0
    types = None
    try:
        types = schema.Types(said=lambda words: print(f"types: {words}", flush=True))
    except schema.Missing as why:
        if arguments.types or in_ci():
            sys.exit(f"the official type data is missing: {why}\n    help: python3 -m pip install -r bicep/requirements.txt")
        print(f"SKIPPED: properties against the official type data ({why})\n    help: python3 -m pip install -r bicep/requirements.txt")

    if arguments.self_test:
        return selftest.run(HERE, lambda folder: problems(folder, types), with_types=types is not None)

    found = problems(HERE, types) + ask_compiler(HERE)
    for problem in found:
        print(problem)
    templates = syntax.load(HERE)
    resources = len(list(templates.resources()))
    said = f"{len(templates.bicep)} templates, {len(templates.parameter_files)} parameter files, {resources} resources"
    print(f"{said}{', types checked' if types else ', TYPES NOT CHECKED'}: {len(found)} problem{'' if len(found) == 1 else 's'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
