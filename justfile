# `./just` runs these recipes and installs missing tools. Longer recipes are in scripts/.

set positional-arguments

# List the recipes
[private]
default:
    @'{{ just_executable() }}' --list --unsorted

# Run a broker and worker-1 on this machine, or a broker and clients in containers (`up docker`); wait for verified replies
[no-exit-message]
up *WHERE:
    @scripts/up "$@"

# Open the operator's prompt (in a container: `server docker`); with more words, send one command
[no-exit-message]
server *WORDS:
    @scripts/server "$@"

# Start one more client: NAME, or NAME:group,group
[no-exit-message]
client NAME:
    @scripts/client "$1"

# Follow the logs of the broker and the clients, or of the containers (`logs docker`)
[no-exit-message]
logs *WHERE:
    @scripts/logs "$@"

# Stop what `up` and `client` started; jobs that still run are cancelled
[no-exit-message]
down:
    @scripts/down

# Run every test, or the tests whose names contain one of the words
[no-exit-message]
test *WORDS:
    @scripts/test "$@"

# Benchmark the release binary: print a table of all benchmarks, or of those named
[no-exit-message]
bench *NAMES:
    @scripts/bench "$@"

# Check formatting, lints and documentation
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --exclude countersign --no-deps --locked

# Generate the JSON Schemas from the Rust types
schemas:
    cargo build --quiet --workspace --locked --bin countersign
    "${CARGO_TARGET_DIR:-target}/debug/countersign" schemas --write schemas

# Fuzz one target, or each in turn
[no-exit-message]
fuzz TARGET="" SECONDS="60":
    @scripts/fuzz "$1" "$2"

# Run every check that a change must pass
[no-exit-message]
ci:
    @.ci/run
