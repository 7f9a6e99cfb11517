# Sourced by the other scripts, from the repository's root: paths, and which processes are ours.
# shellcheck shell=sh

# The physical path: the same folder reached by another path, such as a link, has the same processes.
run=$(pwd -P)/.run
binary=${CARGO_TARGET_DIR:-target}/release/countersign

say() { printf '%s\n' "$@"; }

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# A word for a shell, as somebody may paste it.
quoted() { # WORD
    case $1 in
    *[!A-Za-z0-9_./:@%+=-]*) printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")" ;;
    *) printf %s "$1" ;;
    esac
}

# Who runs this, and whose a file is, for messages.
us() { id -un 2>/dev/null || id -u; }
owner() { # FILE
    # shellcheck disable=SC2012
    ls -ld -- "$1" | awk '{ print $3 }'
}

# Fails unless this user may read, or write, below each of the folders that is there; one that is not is to be made in this one.
require() { # readable|writable FOLDER…
    kind=$1
    shift
    for folder; do
        if [ ! -e "$folder" ] && [ "$kind" = writable ]; then folder=.; fi
        [ -e "$folder" ] || continue
        if [ -x "$folder" ] && [ -r "$folder" ] && { [ "$kind" = readable ] || [ -w "$folder" ]; }; then continue; fi
        if [ "$folder" = . ]; then folder=$(pwd -P); fi
        if [ "$(owner "$folder")" = "$(us)" ]; then
            fail "$folder is not $kind, although it is yours ($(us)): check its mode and how its disk is mounted."
        fi
        fail "$folder is not $kind for $(us): it belongs to $(owner "$folder")." \
            "Run this as $(owner "$folder"), or in a clone of your own."
    done
}

# Takes the lock of this folder until this script ends, so that no other script starts or stops anything here.
lock() { # SECONDS
    require writable "$run"
    mkdir -p "$run"
    chmod 700 "$run"
    exec 9>"$run/lock"
    flock -n 9 && return
    if [ "$1" -gt 0 ]; then say "Waiting up to $1 s for another 'up', 'client' or 'down' in this folder to end…"; fi
    flock -w "$1" 9 || fail "Another 'up', 'client' or 'down' is running in this folder. Wait for it to end, or interrupt it."
}

# The clock time, in seconds, that many seconds from now. On a busy machine, a number of tries does not limit the time.
deadline() { # SECONDS
    echo $(($(date +%s) + $1))
}

passed() { # DEADLINE
    [ "$(date +%s)" -ge "$1" ]
}

# Prints the process id in .run/NAME.pid if that process is alive and was started with every ARGUMENT. After a reboot, or
# when another program has the id, the process is not ours.
alive() { # NAME ARGUMENT…
    pid=$(cat "$run/$1.pid" 2>/dev/null) || return 1
    shift
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    for argument; do
        tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -- "$argument" || return 1
    done
    echo "$pid"
}

broker_pid() { alive nats-server "$run/jetstream"; }

# Sets `url`: while this folder's broker runs, where that one is, whatever the environment of the moment says. NATS_URL says
# where `up` starts one, and must not contradict the one that runs.
choose_url() {
    url=${NATS_URL:-nats://127.0.0.1:4222}
    running=$(broker_pid) || return 0
    url=nats://127.0.0.1:$(tr '\0' '\n' <"/proc/$running/cmdline" | sed -n '/^-p$/{ n; p; }')
    case ${NATS_URL:-$url} in
    "$url" | "nats://localhost:${url##*:}") ;;
    *) fail "NATS_URL is $NATS_URL, but the broker of this folder runs at $url." \
        "To use that one: unset NATS_URL. To stop it first: ./just down" ;;
    esac
}
client_pid() { alive "client-$1" "$run/state" "$1"; }

# True once a process has ended, reaped or not. Reads its state, because its command line is also empty during an exec.
ended() { # PID
    ! grep -q '^State:[[:space:]]*[^XZ[:space:]]' "/proc/$1/status" 2>/dev/null
}

# Starts COMMAND in a session of its own, so that it outlives this terminal, and sets `pid`. Descriptor 9 is the lock.
start() { # NAME COMMAND…
    name=$1
    shift
    if [ -e "$run/$name.log" ]; then mv -f "$run/$name.log" "$run/$name.log.old"; fi
    setsid "$@" </dev/null >"$run/$name.log" 2>&1 9>&- &
    pid=$!
    echo "$pid" >"$run/$name.pid"
}

# Prints a setting of compose: that of the environment, else that of the file .env.
setting() { # NAME
    value=$(printenv "$1" || true)
    if [ -z "$value" ]; then value=$(sed -n "s/^$1=//p" .env 2>/dev/null | tail -n 1 | tr -d "\"'\r"); fi
    printf %s "$value"
}

# Sets and exports the compose project of this checkout: by default one that no other checkout has, whatever the name of its folder.
# It is written into .env, so that compose finds the same one without these scripts. A copied folder has the .env of another one.
choose_project() {
    COUNTERSIGN_CHECKOUT=$(pwd -P | sha256sum | cut -c 1-8)
    if [ "$(sed -n 's/^COUNTERSIGN_CHECKOUT=//p' .env 2>/dev/null)" != "$COUNTERSIGN_CHECKOUT" ] && [ -w . ]; then
        kept=$(sed '/^COUNTERSIGN_CHECKOUT=/d; /^COMPOSE_PROJECT_NAME=countersign-[0-9a-f]\{8\}$/d' .env 2>/dev/null || true)
        {
            if [ -n "$kept" ]; then say "$kept"; fi
            say "COUNTERSIGN_CHECKOUT=$COUNTERSIGN_CHECKOUT"
            case $kept in
            *COMPOSE_PROJECT_NAME=*) ;;
            *) say "COMPOSE_PROJECT_NAME=countersign-$COUNTERSIGN_CHECKOUT" ;;
            esac
        } >.env.new
        mv -f .env.new .env
    fi
    COMPOSE_PROJECT_NAME=$(setting COMPOSE_PROJECT_NAME)
    COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-countersign-$COUNTERSIGN_CHECKOUT}
    export COMPOSE_PROJECT_NAME COUNTERSIGN_CHECKOUT
}

# Prints the ids of this project's running containers, or of others by a filter; none without Docker.
containers() { # OPTION…
    choose_project
    docker ps --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" "$@" 2>/dev/null || true
}

# Starts a client unless it runs, and waits until it answers a signed `status` with a signed reply. Each call waits one second
# longer than the last, so that both a fast and a slow client are found soon. A client that was started here and does not answer
# is stopped again: it would go on connecting, and nobody would know of it.
start_client() { # NAME
    choose_operator
    found=
    if pid=$(client_pid "$1"); then
        found=yes
        say "$1 is already running."
    else
        launch_client "$1"
    fi
    starting=$1
    trap 'give_up "$starting"; exit 130' INT
    trap 'give_up "$starting"; exit 143' TERM HUP
    limit=$(deadline 30)
    tries=1
    until operator status "$1" --timeout "${tries}s" >"$run/status" 2>&1; do
        result=$?
        if ended "$pid" && [ -n "$found" ]; then
            # It was already terminating.
            found=
            say "$1 has ended; restarting it."
            launch_client "$1"
            limit=$(deadline 30)
            tries=0
        elif ended "$pid"; then
            tail -n 5 "$run/client-$1.log" >&2
            fail "$1 ended at once. The last lines of its log are above; the whole log is .run/client-$1.log."
        # Exit statuses 2 and 5: no later call does better.
        elif passed "$limit" || [ $result -eq 2 ] || [ $result -eq 5 ]; then
            cat "$run/status" >&2
            say "$1 runs, but sent no verified reply to $tries calls of status. The last output is above." >&2
            give_up "$1" >&2
            exit 1
        fi
        tries=$((tries + 1))
        sleep 0.3
    done
    trap - INT TERM HUP
    cat "$run/status"
}

# Stops a client that was started here, or says that one that ran before is left.
give_up() { # NAME
    if [ -n "$found" ]; then
        say "$1 ran before, and is left running: process $pid. './just down' stops it. Its log: .run/client-$1.log"
    else
        stop "$pid" "$1"
        rm -f "$run/client-$1.pid"
        say "Its log: .run/client-$1.log"
    fi
}

launch_client() { # NAME
    start "client-$1" "$binary" client --name "$1" --state "$run/state" --keys keys --nats-url "$url"
}

# Sets the operator: that of the environment, else the first one with a key in the folder.
choose_operator() {
    require readable keys keys/operators
    if [ -z "${COUNTERSIGN_OPERATOR:-}" ]; then
        for key in keys/operators/*.pem; do
            [ -e "$key" ] || fail "keys/operators has no operator's key. Make the keys first: ./just up"
            COUNTERSIGN_OPERATOR=${key##*/}
            COUNTERSIGN_OPERATOR=${COUNTERSIGN_OPERATOR%.pem}
            break
        done
        export COUNTERSIGN_OPERATOR
    fi
}

# Runs the binary as that operator.
operator() {
    "$binary" "$@" --keys keys --nats-url "$url"
}

# Ends one of our processes: by SIGTERM, and after ten seconds by SIGKILL. Waits for its end, because the next process needs
# its port or its lock.
stop() { # PID WHAT
    kill -TERM "$1" 2>/dev/null || true
    tries=0
    until ended "$1"; do
        tries=$((tries + 1))
        if [ $tries -eq 100 ]; then
            kill -KILL "$1" 2>/dev/null || true
            say "Killing $2: it did not end within 10 seconds of SIGTERM."
        fi
        [ $tries -lt 200 ] || fail "$2 (process $1) does not end, not even after SIGKILL."
        sleep 0.1
    done
    say "Stopped $2."
}
