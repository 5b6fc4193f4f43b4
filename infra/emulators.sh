#!/usr/bin/env bash
# Brings Azurite, a Key Vault, a managed-identity endpoint, PostgreSQL and a queue server (moto, for Amazon SQS) up for tests, and down again.
# What the variables mean is in infra/emulators/README.md. On two cores the first `up` takes 13 s, and 26 s where
# PostgreSQL must be installed too; a later one 2 to 4 s; one that finds all up 0.1 to 0.3 s.
set -euo pipefail
# The fakes import each other from a folder of the repository, where nothing is to be left.
export PYTHONDONTWRITEBYTECODE=1

# shellcheck disable=SC2016 # the quotes of a sentence
usage='usage: infra/emulators.sh up [azurite] [vault] [postgres] [sqs]
       infra/emulators.sh run [azurite] [vault] [postgres] [sqs] -- COMMAND…
       infra/emulators.sh status
       infra/emulators.sh down
       infra/emulators.sh check

up      starts those named (all when none is), writes target/emulators/env and prints it; what is up stays as it is
run     starts a set of its own, runs the command with the variables set, stops the set; exits as the command did
status  tells what `up` started, and exits with 1 when something of it does not run
down    stops what `up` started, and what a crash left behind, and removes the data
check   holds a set of its own against the official Python clients'

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
here=$root/infra/emulators
top=$root/target/emulators
cache=${CLAWHOOK_EMULATORS_DIR:-$top}
[[ $cache == /* ]] || cache=$root/$cache

start_seconds_max=60
stop_seconds_max=10
install_seconds_max=600
start_tries=3
python_needed='(3, 10)'
node_needed=20

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $1"
    shift
    for help in "$@"; do say "help: $help"; done
    exit 1
}

# --- one set of emulators -------------------------------------------------------------------------------------------
# `instance` is a folder that remembers a set: `data` (the path of its temporary folder), `owner` (the process of a
# `run`, absent for `up`), and `vars.SERVICE` for each service that is up. The temporary folder has `SERVICE.pid`.
instance=$top/up
data=
all=(identity azurite azurite-http vault postgres sqs)
declare -A launched=()

# What the command line of a service names, and no other process has reason to start with.
marker() {
    case $1 in
        identity) printf '%s/identity.port' "$data" ;;
        azurite | azurite-http) printf '%s/%s/main.js' "$data" "$1" ;;
        vault) printf '%s/vault.port' "$data" ;;
        postgres) printf '%s/postgres/data' "$data" ;;
        sqs) printf '%s/sqs/moto_server' "$data" ;;
    esac
}

# The process of a service, or nothing. Its number may be another's since, so the command line must be right too.
process_of() {
    local file=$data/$1.pid pid
    [[ $1 != postgres ]] || file=$data/postgres/data/postmaster.pid
    pid=$(head -n 1 -- "$file" 2>/dev/null) && [[ -n $pid ]] || return 0
    if [[ ${launched[$1]:-} == "$pid" ]] ||
        { tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qF -- "$(marker "$1")"; } 2>/dev/null; then
        if kill -0 "$pid" 2>/dev/null; then printf '%s' "$pid"; fi
    fi
}

alive() { [[ -n $data && -e $instance/vars.$1 && -n $(process_of "$1") ]]; }

# Asks politely, then does not ask. PostgreSQL waits for its clients on TERM; INT sends them away.
stop_service() {
    local signal signals=(TERM KILL) pid end
    [[ $1 != postgres ]] || signals=(INT QUIT KILL)
    for signal in "${signals[@]}"; do
        pid=$(process_of "$1")
        [[ -n $pid ]] || return 0
        kill -"$signal" "$pid" 2>/dev/null || true
        end=$((SECONDS + stop_seconds_max))
        while ((SECONDS < end)) && [[ -n $(process_of "$1") ]]; do sleep 0.05; done
    done
    [[ -z $(process_of "$1") ]] || die "process $pid ($1) does not stop"
}

# Stops and forgets the set that a folder remembers.
remove_instance() {
    local service
    if [[ -s $1/data ]]; then
        data=$(<"$1/data")
        # Nothing but a folder of our own making is ever removed.
        if [[ ${data##*/} == clawhook-emulators.* && -d $data ]]; then
            for service in "${all[@]}"; do stop_service "$service"; done
            rm -rf -- "$data"
        fi
        data=
    fi
    rm -rf -- "$1"
}

remove_abandoned() {
    local one
    for one in "$top"/run.*; do
        [[ -d $one ]] || continue
        [[ -s $one/owner ]] && owns "$(<"$one/owner")" && continue
        remove_instance "$one"
    done
}

# Whether this process is still the `run` that made a set. A number may have been given to another process since.
owns() { { tr '\0' ' ' <"/proc/$1/cmdline" | grep -Eq 'emulators\.sh (run|check) '; } 2>/dev/null; }

open_instance() {
    data=
    if [[ -s $instance/data ]]; then
        data=$(<"$instance/data")
        # A restart of the machine empties the temporary folder.
        [[ -s $data/ca.pem ]] || { remove_instance "$instance"; data=; }
    fi
    if [[ -z $data ]]; then
        mkdir -p -- "$instance"
        data=$(mktemp -d "${TMPDIR:-/tmp}/clawhook-emulators.XXXXXX")
        printf '%s' "$data" >"$instance/data"
        # PostgreSQL runs as another user, and must pass through.
        chmod 711 "$data"
        make_authority
    fi
}

# --- certificates ---------------------------------------------------------------------------------------------------
names='DNS:localhost,IP:127.0.0.1,DNS:devstoreaccount1.blob.core.windows.net,DNS:kv1.vault.azure.net'
names+=',DNS:*.vault.azure.net,DNS:*.vault.azure.cn,DNS:*.vault.usgovcloudapi.net'

make_authority() {
    local curve=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    {
        openssl req -x509 "${curve[@]}" -keyout "$data/ca.key" -out "$data/ca.new" -days 30 -sha256 \
            -subj '/CN=Clawhook test authority' -addext 'basicConstraints=critical,CA:TRUE' \
            -addext 'keyUsage=critical,keyCertSign,cRLSign'
        openssl req "${curve[@]}" -keyout "$data/server.key" -out "$data/server.csr" -subj '/CN=localhost'
        openssl x509 -req -in "$data/server.csr" -CA "$data/ca.new" -CAkey "$data/ca.key" -CAcreateserial -days 30 -sha256 \
            -out "$data/server.pem" -extfile <(printf '%s\n' 'basicConstraints=critical,CA:FALSE' \
                'keyUsage=critical,digitalSignature' 'extendedKeyUsage=serverAuth' 'subjectKeyIdentifier=hash' \
                'authorityKeyIdentifier=keyid' "subjectAltName=$names")
    } >"$data/openssl.log" 2>&1 || die "the test certificates could not be made: $(tail -n 3 "$data/openssl.log")"
    mv -- "$data/ca.new" "$data/ca.pem"
}

# --- installing -----------------------------------------------------------------------------------------------------
need_tools() {
    local tool
    for tool in python3 openssl flock setsid timeout; do
        command -v "$tool" >/dev/null || die "$tool was not found" \
            "on Debian and Ubuntu: apt-get install python3 openssl util-linux coreutils"
    done
    python3 -c "import sys; sys.exit(sys.version_info < $python_needed)" || die "Python is too old: $(python3 -V)" \
        "Python 3.10 or later is needed"
}

install_azurite() {
    cmp -s "$here/azurite/package-lock.json" "$cache/azurite/package-lock.json" && return
    command -v npm >/dev/null || die 'npm was not found' "Azurite needs Node.js $node_needed or later"
    node -e "process.exit(parseInt(process.versions.node) < $node_needed ? 1 : 0)" || die "Node.js is too old: $(node -v)" \
        "Azurite needs $node_needed or later"
    say 'installing Azurite'
    local new=$cache/azurite.new
    rm -rf -- "$new" "$cache/azurite"
    mkdir -p -- "$new"
    cp -- "$here/azurite/package.json" "$here/azurite/package-lock.json" "$new"
    timeout "$install_seconds_max" npm ci --prefix "$new" --ignore-scripts --omit=optional --no-audit --no-fund \
        >"$cache/npm.log" 2>&1 </dev/null || die "npm could not install Azurite: $(tail -n 3 "$cache/npm.log")" \
        "the whole story is in $cache/npm.log"
    mv -- "$new" "$cache/azurite"
}

install_sqs() {
    cmp -s "$here/sqs/requirements.txt" "$cache/sqs/requirements.txt" && return
    say 'installing moto'
    rm -rf -- "$cache/sqs"
    {
        python3 -m venv "$cache/sqs" &&
            timeout "$install_seconds_max" "$cache/sqs/bin/pip" install --quiet --requirement "$here/sqs/requirements.txt"
    } >"$cache/sqs.log" 2>&1 </dev/null || die "moto could not be installed: $(tail -n 3 "$cache/sqs.log")" \
        'on Debian and Ubuntu: apt-get install python3-venv' "the whole story is in $cache/sqs.log"
    cp -- "$here/sqs/requirements.txt" "$cache/sqs"
}

# The folder of initdb and pg_ctl: Debian keeps them off the path, one folder a version. Fails when there is none.
postgres_bin() {
    local found
    found=$(printf '%s\n' /usr/lib/postgresql/*/bin/pg_ctl | sort -V | tail -n 1)
    [[ -x $found ]] || found=$(command -v pg_ctl) || return 1
    dirname -- "$found"
}

install_postgres() {
    postgres_bin >/dev/null && return
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        die 'PostgreSQL was not found' 'on Debian and Ubuntu: sudo apt-get install postgresql'
    fi
    say 'installing PostgreSQL'
    # The package would start a server of its own on port 5432.
    if [[ ! -e /etc/postgresql-common/createcluster.conf ]]; then
        mkdir -p /etc/postgresql-common
        printf 'create_main_cluster = false\n' >/etc/postgresql-common/createcluster.conf
    fi
    {
        timeout "$install_seconds_max" apt-get update
        DEBIAN_FRONTEND=noninteractive timeout "$install_seconds_max" apt-get install -y --no-install-recommends \
            -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=120 postgresql
    } >"$cache/apt.log" 2>&1 </dev/null || die "apt-get could not install PostgreSQL: $(tail -n 3 "$cache/apt.log")" \
        "the whole story is in $cache/apt.log"
    postgres_bin >/dev/null || die 'the package of PostgreSQL brought no pg_ctl' "see $cache/apt.log"
}

# --- starting -------------------------------------------------------------------------------------------------------
# Starts a program that outlives this script, away from its terminal and its locks.
launch() {
    local service=$1
    shift
    (
        cd -- "$data"
        printf '%s\n' "$BASHPID" >"$data/$service.pid"
        exec setsid "$@" >"$data/$service.log" 2>&1 </dev/null 9>&-
    ) &
    launched[$service]=$!
    disown
}

# Waits until a command succeeds; gives up when the program ended, or after a minute.
await() {
    local service=$1 end=$((SECONDS + start_seconds_max))
    shift
    until "$@" >/dev/null 2>&1; do
        kill -0 "${launched[$service]}" 2>/dev/null || fail "$service ended while it started" "$service"
        ((SECONDS < end)) || fail "$service did not answer within $start_seconds_max s" "$service"
        sleep 0.05
    done
}

# The log is kept, as the data will be removed.
fail() {
    local kept=$top/$2.log
    cp -- "$data/$2.log" "$kept" 2>/dev/null || : >"$kept"
    die "$1: $(tail -n 3 "$kept")" "its log is $kept"
}

vars() {
    local service=$1
    shift
    printf 'export %s\n' "$@" >"$instance/vars.$service.new"
    mv -- "$instance/vars.$service.new" "$instance/vars.$service"
}

launch_identity() {
    identity_header=$(openssl rand -hex 16)
    rm -f -- "$data/identity.port"
    launch identity python3 "$here/identity.py" --secret "$identity_header" --port-file "$data/identity.port"
}
await_identity() {
    await identity test -s "$data/identity.port"
    local base
    base=http://127.0.0.1:$(<"$data/identity.port")
    await identity python3 "$here/tools.py" answers "$base/count"
    vars identity "CLAWHOOK_TEST_IDENTITY_URL=$base" \
        "CLAWHOOK_TEST_IDENTITY_ENDPOINT=$base/metadata/identity/oauth2/token" \
        "CLAWHOOK_TEST_IDENTITY_HEADER=$identity_header"
}

azurite() {
    local service=$1
    shift
    mkdir -p -- "$data/$service"
    # Under this name it can be told from another set's.
    ln -sfn -- "$cache/azurite/node_modules/azurite/dist/src/blob/main.js" "$data/$service/main.js"
    launch "$service" node "$data/$service/main.js" --blobHost 127.0.0.1 --blobPort 0 \
        --silent --disableTelemetry --skipApiVersionCheck --inMemoryPersistence "$@"
}
# Azurite chooses the port, and its log tells which.
azurite_port() { sed -n 's/.*successfully listens on https\?:\/\/127\.0\.0\.1:\([0-9]*\).*/\1/p' "$data/$1.log" | grep .; }

launch_azurite() { azurite azurite --oauth basic --cert "$data/server.pem" --key "$data/server.key"; }
await_azurite() {
    local port
    await azurite azurite_port azurite
    port=$(azurite_port azurite)
    await azurite python3 "$here/tools.py" answers "https://127.0.0.1:$port/devstoreaccount1" "$data/ca.pem"
    vars azurite "CLAWHOOK_TEST_AZURITE_URL=https://127.0.0.1:$port/devstoreaccount1" \
        'CLAWHOOK_TEST_AZURITE_HOST_URL=https://devstoreaccount1.blob.core.windows.net' \
        "CLAWHOOK_TEST_AZURITE_ADDRESS=127.0.0.1:$port"
}

launch_azurite-http() { azurite azurite-http; }
await_azurite-http() {
    local port
    await azurite-http azurite_port azurite-http
    port=$(azurite_port azurite-http)
    await azurite-http python3 "$here/tools.py" answers "http://127.0.0.1:$port/devstoreaccount1"
    vars azurite-http "CLAWHOOK_TEST_AZURITE_HTTP_URL=http://127.0.0.1:$port/devstoreaccount1" \
        "CLAWHOOK_TEST_AZURITE_SAS='$(python3 "$here/tools.py" sas)'"
}

launch_vault() {
    rm -f -- "$data/vault.port"
    launch vault python3 "$here/vault.py" --cert "$data/server.pem" --key "$data/server.key" --port-file "$data/vault.port"
}
await_vault() {
    local port
    await vault test -s "$data/vault.port"
    port=$(<"$data/vault.port")
    await vault python3 "$here/tools.py" answers "https://127.0.0.1:$port/emulator/count" "$data/ca.pem"
    vars vault 'CLAWHOOK_TEST_VAULT_URL=https://kv1.vault.azure.net' "CLAWHOOK_TEST_VAULT_ADDRESS=127.0.0.1:$port"
}

# PostgreSQL refuses to be root.
as_postgres_user() {
    local user=
    if ((EUID != 0)); then
        (cd -- "$data/postgres" && "$@")
        return
    fi
    for user in postgres nobody; do id -u "$user" >/dev/null 2>&1 && break; done
    chown -R "$user" "$data/postgres"
    (cd -- "$data/postgres" && exec runuser -u "$user" -- "$@")
}

launch_postgres() {
    local bin folder=$data/postgres
    bin=$(postgres_bin)
    postgres_password=$(openssl rand -hex 16)
    rm -rf -- "$folder"
    mkdir -p -- "$folder"
    printf '%s\n' "$postgres_password" >"$folder/password"
    cp -- "$data/server.pem" "$data/server.key" "$folder"
    chmod 600 "$folder/server.key" "$folder/password"
    as_postgres_user timeout "$start_seconds_max" "$bin/initdb" -D "$folder/data" -U clawhook --pwfile="$folder/password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync >"$data/postgres.log" 2>&1 </dev/null ||
        fail 'initdb failed' postgres
    cat >>"$folder/data/postgresql.conf" <<-CONF
		listen_addresses = '127.0.0.1'
		unix_socket_directories = ''
		max_connections = 300
		fsync = on
		ssl = on
		ssl_cert_file = '$folder/server.pem'
		ssl_key_file = '$folder/server.key'
		password_encryption = scram-sha-256
		log_line_prefix = '%m [%p] %d '
	CONF
    # As in Azure: TLS only, and a role for an Entra identity sends its token as a plain password inside of it.
    cat >"$folder/data/pg_hba.conf" <<-HBA
		hostssl all +entra 127.0.0.1/32 password
		hostssl all all    127.0.0.1/32 scram-sha-256
	HBA
}
await_postgres() {
    local bin port try folder=$data/postgres
    bin=$(postgres_bin)
    for ((try = 1; ; try++)); do
        port=$(python3 "$here/tools.py" port)
        as_postgres_user timeout "$((start_seconds_max + 5))" "$bin/pg_ctl" -D "$folder/data" -l "$folder/log" \
            -w -t "$start_seconds_max" -o "-p $port" start >>"$data/postgres.log" 2>&1 </dev/null 9>&- && break
        cat -- "$folder/log" >>"$data/postgres.log" 2>/dev/null || true
        # Someone else may have taken the port in between.
        if ((try == start_tries)) || ! grep -q 'Address already in use' "$folder/log" 2>/dev/null; then
            fail 'PostgreSQL did not start' postgres
        fi
        rm -f -- "$folder/log"
    done
    PGPASSWORD=$postgres_password "$bin/psql" -h 127.0.0.1 -p "$port" -U clawhook \
        -d "dbname=postgres sslmode=verify-full sslrootcert=$data/ca.pem connect_timeout=$start_seconds_max" \
        -qXc 'create role entra nologin' >>"$data/postgres.log" 2>&1 </dev/null || fail 'PostgreSQL does not answer' postgres
    vars postgres "CLAWHOOK_TEST_POSTGRES_URL=postgres://clawhook:$postgres_password@127.0.0.1:$port/postgres"
}

launch_sqs() {
    mkdir -p -- "$data/sqs"
    # Under this name it can be told from another set's.
    ln -sfn -- "$cache/sqs/bin/moto_server" "$data/sqs/moto_server"
    launch sqs "$cache/sqs/bin/python" "$data/sqs/moto_server" -H 127.0.0.1 -p 0
}
# moto chooses the port, and its log tells which.
sqs_port() { sed -n 's/.*Running on http:\/\/127\.0\.0\.1:\([0-9]*\).*/\1/p' "$data/sqs.log" | grep .; }
await_sqs() {
    local port
    await sqs sqs_port
    port=$(sqs_port)
    await sqs python3 "$here/tools.py" answers "http://127.0.0.1:$port/moto-api/"
    vars sqs "CLAWHOOK_TEST_SQS_URL=http://127.0.0.1:$port"
}

# What the words of the command line stand for, in the order of starting. All want the test CA; two the identity.
services() {
    case " $* " in *' azurite '* | *' vault '*) printf 'identity\n' ;; esac
    case " $* " in *' azurite '*) printf 'azurite\nazurite-http\n' ;; esac
    case " $* " in *' vault '*) printf 'vault\n' ;; esac
    case " $* " in *' postgres '*) printf 'postgres\n' ;; esac
    case " $* " in *' sqs '*) printf 'sqs\n' ;; esac
}

bring_up() {
    local service words=("$@") new=()
    ((${#words[@]})) || words=(azurite vault postgres sqs)
    need_tools
    mkdir -p -- "$top" "$cache"
    # Two at once would install over each other.
    exec 8>"$cache/install.lock"
    flock 8
    case " ${words[*]} " in *' azurite '*) install_azurite ;; esac
    case " ${words[*]} " in *' postgres '*) install_postgres ;; esac
    case " ${words[*]} " in *' sqs '*) install_sqs ;; esac
    exec 8>&-
    open_instance
    for service in $(services "${words[@]}"); do
        alive "$service" && continue
        rm -f -- "$instance/vars.$service"
        stop_service "$service"
        new+=("$service")
    done
    for service in "${new[@]}"; do "launch_$service"; done
    for service in "${new[@]}"; do "await_$service"; done
    write_env
}

write_env() {
    {
        printf 'export CLAWHOOK_TEST_CA=%s\n' "$data/ca.pem"
        cat -- "$instance"/vars.*
    } >"$instance/env.new"
    mv -- "$instance/env.new" "$instance/env"
}

check_words() {
    local word
    for word in "$@"; do
        case $word in
            azurite | vault | postgres | sqs) ;;
            *) die "there is no emulator called \`$word\`" "$usage" ;;
        esac
    done
}

lock() {
    mkdir -p -- "$top"
    exec 9>"$top/lock"
    flock 9
}

up() {
    check_words "$@"
    lock
    remove_abandoned
    trap undo EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    bring_up "$@"
    trap - EXIT
    cp -- "$instance/env" "$top/env"
    cat -- "$top/env"
}

# What was up before a start that failed stays up; what it began is taken back.
undo() {
    local service
    trap '' INT TERM HUP
    [[ -n $data ]] || return 0
    for service in "${all[@]}"; do [[ -e $instance/vars.$service ]] || stop_service "$service"; done
    if compgen -G "$instance/vars.*" >/dev/null; then
        write_env
        cp -- "$instance/env" "$top/env"
    else
        remove_instance "$instance"
        rm -f -- "$top/env"
    fi
}

down() {
    lock
    rm -f -- "$top/env"
    remove_instance "$instance"
    remove_abandoned
    rm -rf -- "$top"/*.new
}

status() {
    local file service places missing=0 any=0
    [[ -s $instance/data ]] && data=$(<"$instance/data")
    for file in "$instance"/vars.*; do
        [[ -e $file ]] || continue
        any=1
        service=${file##*/vars.}
        if alive "$service"; then
            # The password of the database stays in the file.
            places=$(sed -nE 's/^export CLAWHOOK_TEST_([A-Z_]*(URL|ADDRESS))=/\1=/p' "$file" | sed 's/:[0-9a-f]*@/:…@/')
            printf '%-13s up    %s\n' "$service" "${places//$'\n'/ }"
        else
            printf '%-13s gone\n' "$service"
            missing=1
        fi
    done
    ((any)) || { printf 'nothing is up\n'; return 1; }
    return "$missing"
}

run() {
    local words=() child status=0
    while (($#)) && [[ $1 != -- ]]; do words+=("$1"); shift; done
    (($# > 1)) || die 'there is no command to run' "$usage"
    shift
    check_words "${words[@]}"
    lock
    remove_abandoned
    instance=$top/run.$$
    mkdir -p -- "$instance"
    printf '%s' $$ >"$instance/owner"
    # Others may start theirs meanwhile.
    exec 9>&-
    # The data go, whatever happens to the command or to the start.
    trap 'trap "" INT TERM HUP; remove_instance "$instance"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    bring_up "${words[@]}"
    # shellcheck disable=SC1091 # made above
    . "$instance/env"
    # In the background, so that a signal to this script reaches the command at once; with the signals of a foreground one.
    (trap - INT QUIT; exec "$@") <&0 &
    child=$!
    trap 'kill -TERM "$child" 2>/dev/null || true' TERM HUP
    trap 'kill -INT "$child" 2>/dev/null || true' INT
    # A signal ends `wait` early.
    while :; do
        status=0
        wait "$child" || status=$?
        kill -0 "$child" 2>/dev/null || break
    done
    exit "$status"
}

# The clients are Microsoft's, so what they accept is not our own opinion.
check() {
    local venv=$cache/venv
    need_tools
    mkdir -p -- "$cache"
    if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
        say 'installing the Python clients'
        rm -rf -- "$venv"
        {
            python3 -m venv "$venv" &&
                timeout "$install_seconds_max" "$venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
        } >"$cache/pip.log" 2>&1 </dev/null || die "the Python clients could not be installed: $(tail -n 3 "$cache/pip.log")" \
            'on Debian and Ubuntu: apt-get install python3-venv' "the whole story is in $cache/pip.log"
        cp -- "$here/requirements.txt" "$venv"
    fi
    run azurite vault -- "$venv/bin/python" "$here/check.py"
}

case ${1:-} in
    up | down | run | status | check) "$@" ;;
    -h | --help | help) printf '%s\n' "$usage" ;;
    "") die 'a command is missing' "$usage" ;;
    *) die "\`$1\` is not something this script does" "$usage" ;;
esac
