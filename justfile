# `./just` runs these with fitting tools, brought where they are missing. Longer ones are scripts/.

set positional-arguments

# List the recipes
[private]
default:
    @'{{ just_executable() }}' --list --unsorted

# Run a broker and worker-1 on this machine, or a broker and clients in containers (`up docker`); wait for verified replies
[no-exit-message]
up *WHERE:
    @scripts/up "$@"

# Open the operator's prompt, in a container with `server docker`; with more words, give one command
[no-exit-message]
server *WORDS:
    @scripts/server "$@"

# Start one more client: NAME, or NAME:group,group
[no-exit-message]
client NAME:
    @scripts/client "$1"

# Follow what the broker and the clients write, or what the containers write (`logs docker`)
[no-exit-message]
logs *WHERE:
    @scripts/logs "$@"

# Stop what `up` and `client` started
[no-exit-message]
down:
    @scripts/down

# Run every test, or those whose names contain one of the words
[no-exit-message]
test *WORDS:
    @scripts/test "$@"

# Measure the release binary: one table, of every benchmark or of those that are named
[no-exit-message]
bench *NAMES:
    @scripts/bench "$@"

# Check formatting, lints and documentation
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --exclude countersign --no-deps --locked

# Write the JSON Schemas anew from the Rust types
schemas:
    cargo run --quiet --locked --package countersign -- schemas --write schemas

# Feed made-up input to one fuzz target, or to each in turn
[no-exit-message]
fuzz TARGET="" SECONDS="60":
    @scripts/fuzz "$1" "$2"

# Do all that decides whether a change may land
[no-exit-message]
ci:
    @.ci/run
