#!/usr/bin/env bash
# Builds the image around a program that is there already, and runs it as the compose file would:
#
#   infra/check_image.sh target/release/clawhook
#
# Needs buildah, and root for its chroot isolation; no engine has to run. Where debian:bookworm-slim cannot be pulled, it
# is made from Debian's packages by mmdebstrap. Limits and capabilities are the engine's work and are not tried here.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
program=$(readlink --canonicalize -- "${1:?which program: infra/check_image.sh target/release/clawhook}")
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
scratch=$(mktemp --directory)
container='' gateway=''
finish() {
    [ -z "$gateway" ] || kill "$gateway" 2>/dev/null || true
    [ -z "$container" ] || buildah rm "$container" >/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT

fail() {
    printf 'FAIL  %s\n' "$1" >&2
    [ ! -s "$scratch/log" ] || tail -n 20 "$scratch/log" >&2
    exit 1
}

base=debian:bookworm-slim
if ! buildah inspect --type image "$base" >/dev/null 2>&1 && ! buildah pull "$base" >/dev/null 2>&1; then
    mmdebstrap --quiet --variant=minbase bookworm "$scratch/base.tar"
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$scratch/base.tar" / >/dev/null
    buildah commit --quiet "$container" "$base" >/dev/null
    buildah rm "$container" >/dev/null
    container=''
fi

# The program stands where the first stage would have put it.
mkdir "$scratch/context" "$scratch/compiled"
cp Dockerfile .dockerignore "$scratch/context/"
cp "$program" "$scratch/compiled/clawhook"
buildah bud --quiet --format docker --pull-never --build-context "compiled=$scratch/compiled" --tag clawhook:check "$scratch/context" >"$scratch/log" 2>&1 ||
    fail 'the image does not build'
container=$(buildah from --pull-never localhost/clawhook:check)
root=$(buildah mount "$container")
printf 'ok    built, %s\n' "$(du --summarize --human-readable "$root" | cut -f 1)"

unexpected=$(find "$root" -xdev -type f -printf '/%P\n' |
    grep --invert-match --extended-regexp '^/(clawhook|etc/(passwd|group|nsswitch\.conf|ssl/certs/ca-certificates\.crt)|lib(64)?/.*\.so[.0-9]*)$' || true)
[ -z "$unexpected" ] || fail "the image holds more than it should: $unexpected"
printf 'ok    only the program, its libraries and the authorities\n'
[ "$(stat --format %u "$root/var/lib/clawhook")" = 10001 ] || fail 'the store is not the account'\''s'

# What compose mounts: the shipped files, a certificate, secrets as files.
"$program" init "$scratch/files" >/dev/null
cp -r "$scratch/files/." "$root/etc/clawhook/"
mkdir -p "$root/run/secrets" "$root/dev" "$root/proc"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -keyout "$root/run/secrets/hooks.key" -out "$root/run/secrets/hooks.crt" 2>/dev/null
for secret in shopify-us-webhook-key erp-api-key control-password; do
    printf 'not-a-real-%s' "$secret" >"$root/run/secrets/$secret"
done
chown -R 10001:10001 "$root/run/secrets"
chmod -R u=rX,go= "$root/run/secrets"

# The environment of the compose file itself, on ports that are free.
python3 - infra/docker-compose.yml >"$scratch/environment" <<'PYTHON'
import sys, yaml
settings = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))["services"]["clawhook"]["environment"]
for name, value in settings.items():
    print(f"{name}={value.replace('0.0.0.0:8443', '127.0.0.1:18443').replace('0.0.0.0:8080', '127.0.0.1:18080')}")
PYTHON
mapfile -t environment <"$scratch/environment"
# `chroot` keeps the environment and cannot change into a folder, so the settings file is named.
env -i PATH="$PATH" "${environment[@]}" CLAWHOOK_LOG_FORMAT=json CLAWHOOK__STORAGE__PATH=/var/lib/clawhook \
    chroot --userspec=10001:10001 "$root" /clawhook serve --config /etc/clawhook/clawhook.yaml >"$scratch/log" 2>&1 &
gateway=$!
curl --silent --fail --output /dev/null --retry 20 --retry-delay 1 --retry-all-errors --max-time 5 http://127.0.0.1:18080/healthz ||
    fail 'the control door does not answer'
status=$(curl --silent --cacert "$root/run/secrets/hooks.crt" --output /dev/null --write-out '%{http_code}' \
    --connect-to localhost:443:127.0.0.1:18443 --data '{}' https://localhost/hooks/shopify/us/orders) || fail 'the hooks door does not speak TLS'
[ "$status" = 401 ] || fail "an unsigned delivery was answered $status instead of 401"
status=$(curl --silent --user admin:not-a-real-control-password --output /dev/null --write-out '%{http_code}' http://127.0.0.1:18080/v1/runs)
[ "$status" = 200 ] || fail "the control door answered $status to its password"
kill "$gateway"
code=0
wait "$gateway" || code=$?
gateway=''
[ "$code" = 0 ] || fail "SIGTERM ended it with $code"
printf 'ok    runs as 10001, answers on both doors, stops on SIGTERM\n'
