# Sourced by the scripts beside it, from the repository's root: where things lie, and which processes are ours.
# shellcheck shell=sh

run=$PWD/.run
url=${NATS_URL:-nats://127.0.0.1:4222}
binary=${CARGO_TARGET_DIR:-target}/release/countersign

say() { printf '%s\n' "$@"; }

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Prints the process id in .run/NAME.pid if that process is alive and was started with every one of the ARGUMENTs.
# A file left over from before a reboot, or a number that another program has by now, is not ours.
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

# True once a process has ended, waited for or not. Its state tells; its command line is empty for a moment in each exec too.
ended() { # PID
    ! grep -q '^State:[[:space:]]*[^XZ[:space:]]' "/proc/$1/status" 2>/dev/null
}

# Starts COMMAND in a session of its own, so that it outlives this terminal; sets `pid`. Descriptor 9 is the lock of `up`.
start() { # NAME COMMAND…
    name=$1
    shift
    if [ -e "$run/$name.log" ]; then mv -f "$run/$name.log" "$run/$name.log.old"; fi
    setsid "$@" </dev/null >"$run/$name.log" 2>&1 9>&- &
    pid=$!
    echo "$pid" >"$run/$name.pid"
}

# Prints the ids of this folder's containers that run, or others by a filter; none where there is no Docker.
containers() { # OPTION…
    docker ps --quiet --filter "label=com.docker.compose.project.working_dir=$(pwd -P)" "$@" 2>/dev/null || true
}

# Starts a client unless it runs, and waits until it has answered a signed `status` with a signed reply.
start_client() { # NAME
    if pid=$(client_pid "$1"); then
        say "$1 runs already."
    else
        start "client-$1" "$binary" client --name "$1" --state "$run/state" --keys keys --nats-url "$url"
    fi
    tries=0
    until operator status "$1" --timeout 1s >"$run/status" 2>&1; do
        tries=$((tries + 1))
        if ended "$pid"; then
            tail -n 5 "$run/client-$1.log" >&2
            fail "$1 ended at once (its last words are above; all of them: .run/client-$1.log)."
        fi
        if [ $tries -ge 20 ]; then
            cat "$run/status" >&2
            fail "$1 runs, but gave no verified reply to $tries calls of status (the last answer is above)." \
                "'./just logs' shows what it says."
        fi
        sleep 0.3
    done
    cat "$run/status"
}

# Runs the binary as an operator whose key is here: the one of the environment, else the first in the folder.
operator() {
    if [ -z "${COUNTERSIGN_OPERATOR:-}" ]; then
        for key in keys/operators/*.pem; do
            COUNTERSIGN_OPERATOR=${key##*/}
            COUNTERSIGN_OPERATOR=${COUNTERSIGN_OPERATOR%.pem}
            break
        done
        export COUNTERSIGN_OPERATOR
    fi
    "$binary" "$@" --keys keys --nats-url "$url"
}

# Ends a process that is ours: asked first, and after ten seconds not asked any more.
stop() { # PID WHAT
    kill -TERM "$1" 2>/dev/null || true
    tries=0
    until ended "$1"; do
        tries=$((tries + 1))
        if [ $tries -ge 100 ]; then
            kill -KILL "$1" 2>/dev/null || true
            say "Killed $2: it had not ended 10 seconds after SIGTERM."
            return
        fi
        sleep 0.1
    done
    say "Stopped $2."
}
