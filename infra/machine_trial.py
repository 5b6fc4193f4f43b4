"""Runs the scripts of cloud-init.yaml in a folder that stands for a machine: a file for its disk, stand-ins for the
commands that need a real one. What they do to disks, files and releases is real."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

# Absolute folders that the scripts name and that the trial gives them elsewhere.
MOVED = ("/etc/", "/usr/local/", "/var/lib/clawhook", "/dev/disk/", "/run/lock/")
DISK_BYTES = 64 * 1024 * 1024

STAND_INS = {
    "id": "exit 0",
    "useradd": "exit 0",
    "sleep": "exit 0",
    "nproc": "echo 4",
    "mountpoint": "exit 1",
    "mount": 'echo "mount $*" >>"$TRIAL/said"',
    # runuser --user NAME -- COMMAND
    "runuser": 'shift 3; exec "$@"',
    "systemctl": 'echo "systemctl $*" >>"$TRIAL/said"; [ "$*" != "restart clawhook" ] || ! grep -q BROKEN "$TRIAL/usr/local/bin/clawhook"',
    # The last argument is the address; a release is a file of that name.
    "curl": """address=${*: -1}
case $address in
http://127.0.0.1:8080/healthz) exit 0 ;;
http://169.254.169.254/*) echo '{"access_token": "'"${address##*resource=}"'"}'; exit 0 ;;
*/secrets/*)
    [ -e "$TRIAL/vault" ] || exit 22
    echo "$address $(cat)" >"$TRIAL/asked"
    cat "$TRIAL/vault"
    exit 0
    ;;
esac
while [ $# -gt 0 ]; do [ "$1" != --output ] || target=$2; shift; done
cp "$TRIAL/releases/${address##*/}" "$target" """,
}


class Machine:
    """A folder that stands for a machine, with the files that cloud-init would have written."""

    def __init__(self, root: Path, document: dict) -> None:
        self.root = root
        self.disk = root / "disk.img"
        (root / "bin").mkdir(parents=True)
        (root / "releases").mkdir()
        for folder in ("etc", "run/lock", "dev/disk/azure/scsi1", "etc/systemd/system"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "etc/fstab").write_text("UUID=0-0 / ext4 defaults 0 1\n")
        for name, body in STAND_INS.items():
            write_program(root / "bin" / name, f"#!/bin/bash\n{body}\n")
        for file in document["write_files"]:
            path = root / file["path"].lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.moved(file["content"]))
            path.chmod(int(file["permissions"], 8))
        self.attach(bytes())

    def moved(self, text: str) -> str:
        for folder in MOVED:
            text = text.replace(folder, f"{self.root}{folder}")
        return text

    def attach(self, content: bytes) -> None:
        with self.disk.open("wb") as disk:
            disk.write(content)
            disk.truncate(DISK_BYTES)
        link = self.root / "dev/disk/azure/scsi1/lun0"
        link.unlink(missing_ok=True)
        link.symlink_to(self.disk)

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}:/usr/sbin:/sbin", "TRIAL": str(self.root), "LC_ALL": "C"}
        return subprocess.run([str(self.root / "usr/local/sbin" / script), *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False)

    def release(self, name: str, version: str, *, starts: bool = True, accepts: bool = True, files: dict[str, str] | None = None) -> str:
        """Makes an archive that can be downloaded, and tells its SHA-256."""
        top = self.root / "releases" / f"{name}.d" / f"clawhook-{version}"
        top.mkdir(parents=True)
        program = f'#!/bin/bash\ncase $1 in --version) echo "clawhook {version}" ;; check) [ "${{#JWT_SECRET}}" -ge 32 ] || exit 1; exit {0 if accepts else 1} ;; esac\n'
        write_program(top / "clawhook", program + ("" if starts else "# BROKEN\n"))
        for path, content in (files or {}).items():
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).write_text(content)
        archive = self.root / "releases" / name
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(top, arcname=top.name)
        shutil.rmtree(top.parent)
        return hashlib.sha256(archive.read_bytes()).hexdigest()

    def read(self, path: str) -> str:
        return (self.root / path).read_text().replace(str(self.root), "")

    def version(self) -> str:
        program = self.root / "usr/local/bin/clawhook"
        return subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False).stdout.strip() if program.exists() else "none"

    def uuid(self) -> str:
        return subprocess.run(["/sbin/blkid", "--probe", "--output", "value", "--match-tag", "UUID", str(self.disk)], capture_output=True, text=True, check=False).stdout.strip()


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


# What the settings must be, whichever way the script makes them.
def expected_settings(values: dict[str, str]) -> dict:
    storage = {
        "sqlite": {"backend": "sqlite", "path": "/var/lib/clawhook"},
        "azure-blob": {
            "backend": "azure-blob",
            "endpoint": values["BLOB_ENDPOINT"].rstrip("/"),
            "container": values["BLOB_CONTAINER"],
            "path": "/var/lib/clawhook",
        },
        "postgres": {
            "backend": "postgres",
            "host": values["POSTGRES_HOST"],
            "database": values["POSTGRES_DATABASE"],
            "user": values["POSTGRES_USER"],
            "auth": "entra",
        },
    }[values["STORAGE_BACKEND"]]
    if values["RECORDS_CONTAINER"]:
        storage["records"] = {"endpoint": values["BLOB_ENDPOINT"].rstrip("/"), "container": values["RECORDS_CONTAINER"]}
    return {
        "version": 1,
        "listen": {
            "hooks": {"address": "0.0.0.0:443", "tls": {"key_vault_certificate": "hooks"}},
            "control": {"address": "127.0.0.1:8080"},
        },
        "auth": {"jwt": {"secret_env": "JWT_SECRET"}},
        "storage": storage,
        "secrets": {"source": "key-vault", "vault_url": values["VAULT_URL"].rstrip("/")},
        "azure": {"cloud": values["CLOUD"], "identity": "managed", "client_id": values["CLIENT_ID"]},
        "paths": {"routes": "./routes", "workflows": "./workflows"},
    }


def first_boot(machine: Machine, values: dict[str, str]) -> Iterator[str]:
    """A new machine and an empty disk, and then the same document again, as after an upgrade of the image."""
    done = machine.run("clawhook-setup")
    if done.returncode != 0:
        yield f"clawhook-setup ends with {done.returncode}: {done.stderr.strip()}"
        return
    if yaml.safe_load(machine.read("etc/clawhook/clawhook.yaml")) != expected_settings(values):
        yield f"the settings are not what they should be: {machine.read('etc/clawhook/clawhook.yaml')}"
    if machine.version() != f"clawhook {values['CLAWHOOK_VERSION']}":
        yield f"the program is `{machine.version()}` after the first start"
    before = (machine.uuid(), machine.read("etc/clawhook/clawhook.env"))
    if f"UUID={before[0]} /var/lib/clawhook ext4 " not in machine.read("etc/fstab"):
        yield "the disk is not mounted by its UUID"
    if (machine.root / "etc/clawhook/clawhook.env").stat().st_mode & 0o077:
        yield "others may read the secret that signs tokens"
    done = machine.run("clawhook-setup")
    if done.returncode != 0:
        yield f"clawhook-setup ends with {done.returncode} the second time: {done.stderr.strip()}"
    if (machine.uuid(), machine.read("etc/clawhook/clawhook.env")) != before:
        yield "the second time makes another file system or another secret"
    if machine.read("etc/fstab").count("/var/lib/clawhook") != 1:
        yield "the second time mounts the disk twice"
    said = machine.read("said")
    for command in ("systemctl enable clawhook", "systemctl restart --no-block clawhook", "systemctl daemon-reload", "mount /var/lib/clawhook"):
        if command not in said:
            yield f"`{command}` was not done"


def shared_secret(machine: Machine, values: dict[str, str]) -> Iterator[str]:
    """Several machines sign with one secret of the vault, and a vault that is away stops none that has it."""
    drop_in = machine.root / "etc/systemd/system/clawhook.service.d/secret.conf"
    if not drop_in.is_file() or "ExecStartPre=+/usr/local/sbin/clawhook-secret" not in machine.read("etc/systemd/system/clawhook.service.d/secret.conf"):
        yield "the service does not ask the vault before a start"
        return
    file = machine.root / "etc/clawhook/clawhook.env"
    file.write_text("CLAWHOOK__RETENTION__RUNS=10d\n")
    if machine.run("clawhook-secret").returncode == 0:
        yield "a start without any secret is let through"
    for secret in ("0123456789abcdef" * 4, "fedcba9876543210" * 4):
        (machine.root / "vault").write_text(f'{{"value": "{secret}"}}')
        done = machine.run("clawhook-secret")
        if done.returncode != 0 or file.read_text() != f"CLAWHOOK__RETENTION__RUNS=10d\nJWT_SECRET={secret}\n":
            yield f"the secret of the vault is not taken: {done.stderr.strip()}"
        if file.stat().st_mode & 0o077:
            yield "others may read the shared secret"
    scope = {"public": "azure.net", "china": "azure.cn", "usgov": "usgovcloudapi.net"}[values["CLOUD"]]
    asked = f"{values['VAULT_URL'].rstrip('/')}/secrets/jwt-secret?api-version=7.4 header = \"Authorization: Bearer https://vault.{scope}&client_id={values['CLIENT_ID']}\""
    if machine.read("asked").strip() != asked:
        yield f"the vault was asked `{machine.read('asked').strip()}`"
    before = file.read_text()
    for answer in ('{"value": "short"}', '{"value": "0123456789abcdef0123456789abcdef\\nX=1"}', "no JSON", None):
        if answer is None:
            (machine.root / "vault").unlink()
        else:
            (machine.root / "vault").write_text(answer)
        if machine.run("clawhook-secret").returncode != 0 or file.read_text() != before:
            yield f"the answer {answer} of the vault takes the secret of before away"


def other_disks(machine: Machine) -> Iterator[str]:
    """A disk with anything on it stays as it is, to the last byte."""
    partition_table = bytes(446) + bytes([0, 32, 33, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little") + (65536).to_bytes(4, "little") + bytes(48) + b"\x55\xaa"
    swap = bytes(1024) + (1).to_bytes(4, "little") + (16383).to_bytes(4, "little") + bytes(4) + bytes(range(16)) + bytes(4096 - 1024 - 28 - 10) + b"SWAPSPACE2"
    unknown = bytes(1024 * 1024) + b"the orders of last year"
    for name, content in (("a partition table", partition_table), ("swap space", swap), ("unknown bytes", unknown)):
        machine.attach(content)
        before = hashlib.sha256(machine.disk.read_bytes()).hexdigest()
        done = machine.run("clawhook-disk")
        if done.returncode == 0:
            yield f"a disk with {name} is taken"
        if hashlib.sha256(machine.disk.read_bytes()).hexdigest() != before:
            yield f"a disk with {name} is written to"
    (machine.root / "dev/disk/azure/scsi1/lun0").unlink()
    if machine.run("clawhook-disk").returncode == 0:
        yield "a machine without its disk is set up"


def releases(machine: Machine, values: dict[str, str]) -> Iterator[str]:
    """Whatever is wrong with a new release, the one before stays or comes back, with its files."""
    now = f"clawhook {values['CLAWHOOK_VERSION']}"
    (machine.root / "etc/clawhook/routes/own.yaml").write_text("of the owner\n")
    (machine.root / "etc/clawhook/site.yaml").write_text("retention: { runs: 10d }\n")

    def refused(name: str, *arguments: str) -> Iterator[str]:
        done = machine.run("clawhook-install", *arguments)
        if done.returncode == 0:
            yield f"{name} is installed"
        if machine.version() != now:
            yield f"after {name} the program is `{machine.version()}`"
        if not (machine.root / "etc/clawhook/routes/own.yaml").is_file():
            yield f"after {name} the owner's files are gone"
        left = [path.name for path in (machine.root / "usr/local/lib/clawhook").glob("stage.*")]
        if left or (machine.root / "etc/clawhook.new").exists():
            yield f"{name} leaves its stage behind"

    at = "https://releases.example/"
    good = machine.release("good", "9.0.0", files={"routes/new.yaml": "of the release\n"})
    yield from refused("a failed download", "9.0.0", f"{at}missing", good)
    yield from refused("an archive with another SHA-256", "9.0.0", f"{at}good", "0" * 64)
    yield from refused("an archive of another version", "9.0.1", f"{at}good", good)
    yield from refused("a version that is a path", "../9.0.0", f"{at}good", good)
    yield from refused("a release that refuses the files", "9.1.0", f"{at}strict", machine.release("strict", "9.1.0", accepts=False))
    broken = machine.release("broken", "9.2.0", starts=False, files={"routes/new.yaml": "of the release\n"})
    yield from refused("a release that does not start", "9.2.0", f"{at}broken", broken)

    done = machine.run("clawhook-install", "v9.0.0", f"{at}good", good.upper())
    if done.returncode != 0 or machine.version() != "clawhook 9.0.0":
        yield f"a good release is not installed: {done.stderr.strip()}"
        return
    if sorted(path.name for path in (machine.root / "etc/clawhook/routes").iterdir()) != ["new.yaml"]:
        yield "the files of a release do not take the place of those before"
    if yaml.safe_load(machine.read("etc/clawhook/clawhook.yaml")).get("retention") != {"runs": "10d"}:
        yield "site.yaml is not part of the settings"
    done = machine.run("clawhook-install", "--rollback")
    if done.returncode != 0 or machine.version() != now:
        yield f"there is no way back: {done.stderr.strip()}"
    if not (machine.root / "etc/clawhook/routes/own.yaml").is_file():
        yield "the way back forgets the owner's files"


def run(scratch: Path, render: Callable[[dict[str, str]], str], variants: list[dict[str, str]]) -> Iterator[str]:
    for values in variants:
        backend = values["STORAGE_BACKEND"]
        root = scratch / backend
        prepared = Machine(root, yaml.safe_load(render(values)))
        sha256 = prepared.release("first", values["CLAWHOOK_VERSION"])
        values = values | {"CLAWHOOK_DOWNLOAD_URL": "https://releases.example/first", "CLAWHOOK_DOWNLOAD_SHA256": sha256}
        archive = (root / "releases/first").read_bytes()
        shutil.rmtree(root)
        machine = Machine(root, yaml.safe_load(render(values)))
        (root / "releases/first").write_bytes(archive)
        found = [*first_boot(machine, values)]
        if not found and backend == "sqlite":
            found += [*releases(machine, values), *other_disks(machine)]
        if not found and values["JWT_SECRET_NAME"]:
            found += shared_secret(machine, values)
        yield from (f"{backend}: {what}" for what in found)
