# Sourced by the other scripts, from the repository's root: paths, and which processes are ours.
# shellcheck shell=sh

# The physical path: the same folder reached by another path, such as a link, has the same processes.
run=$(pwd -P)/.run
url=${NATS_URL:-nats://127.0.0.1:4222}
binary=${CARGO_TARGET_DIR:-target}/release/countersign

say() { printf '%s\n' "$@"; }

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Takes the lock of this folder until this script ends, so that no other script starts or stops anything here.
lock() { # SECONDS
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

# Prints the ids of this folder's running containers, or of others by a filter; none without Docker.
containers() { # OPTION…
    docker ps --quiet --filter "label=com.docker.compose.project.working_dir=$(pwd -P)" "$@" 2>/dev/null || true
}

# Starts a client unless it runs, and waits until it answers a signed `status` with a signed reply. Each call waits one second
# longer than the last, so that both a fast and a slow client are found soon.
start_client() { # NAME
    found=
    if pid=$(client_pid "$1"); then
        found=yes
        say "$1 is already running."
    else
        launch_client "$1"
    fi
    limit=$(deadline 30)
    tries=1
    until operator status "$1" --timeout "${tries}s" >"$run/status" 2>&1; do
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
        fi
        if passed "$limit"; then
            cat "$run/status" >&2
            fail "$1 runs, but sent no verified reply to $tries calls of status. The last output is above." \
                "'./just logs' shows its log."
        fi
        tries=$((tries + 1))
        sleep 0.3
    done
    cat "$run/status"
}

launch_client() { # NAME
    start "client-$1" "$binary" client --name "$1" --state "$run/state" --keys keys --nats-url "$url"
}

# Runs the binary as the operator of the environment, else as the first one with a key in the folder.
operator() {
    if [ -z "${COUNTERSIGN_OPERATOR:-}" ]; then
        for key in keys/operators/*.pem; do
            [ -e "$key" ] || fail "keys/operators has no operator's key. Make the keys first: ./just up"
            COUNTERSIGN_OPERATOR=${key##*/}
            COUNTERSIGN_OPERATOR=${COUNTERSIGN_OPERATOR%.pem}
            break
        done
        export COUNTERSIGN_OPERATOR
    fi
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
