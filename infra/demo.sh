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

# The address of the hooks door, as clawhook.yaml has it.
hooks=$(sed -n 's/^ *hooks:.*address: *"\{0,1\}\([0-9.]*:[0-9]*\).*/\1/p' clawhook.yaml | head -n 1)
hooks=${hooks:-127.0.0.1:8443}
is_open() { (exec 3<>"/dev/tcp/${hooks%:*}/${hooks##*:}") 2>/dev/null; }
for _ in {1..100}; do
    is_open && break
    kill -0 "$gateway" 2>/dev/null || break
    sleep 0.1
done

# An order as Shopify would send it. Its signature belongs to the made-up key and to exactly these bytes.
order='{"id":5500070652191,"name":"#1042","currency":"USD","total_price":"129.90","line_items":[{"sku":"LAMP-OAK","quantity":2,"price":"64.95"}]}'
signature='qQFzAN7asTdgKEcj8RIkoRjV90sMsFIGQ5NsxmqFW6I='
if is_open && [[ $CLAWHOOK_SECRET_SHOPIFY_US_WEBHOOK_KEY == "$shopify_key" ]]; then
    cat >&2 <<EOM

The gateway is up. Send it a signed order from another terminal:

curl -i http://$hooks/hooks/shopify/us/orders \\
  -H 'Content-Type: application/json' \\
  -H 'X-Shopify-Topic: orders/create' \\
  -H 'X-Shopify-Shop-Domain: us-shop.example.com' \\
  -H 'X-Shopify-Triggered-At: 2026-11-23T08:00:00Z' \\
  -H "X-Shopify-Webhook-Id: demo-\$(date +%s)" \\
  -H 'X-Shopify-Hmac-Sha256: $signature' \\
  --data-raw '$order'

Then look at what became of it:

$bin/clawhook runs list
curl http://127.0.0.1:$erp_port/orders -H 'X-Api-Key: $CLAWHOOK_SECRET_ERP_API_KEY'

EOM
fi

# A signal ends `wait` early; the gateway then drains, and its own exit code is ours.
status=0
while kill -0 "$gateway" 2>/dev/null; do
    wait "$gateway" && status=0 || status=$?
done
gateway=''
exit "$status"
