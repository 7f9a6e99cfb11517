#!/bin/bash
# The container of a client: fetches its own files from the service `shares`, and runs the client whose they are. Arguments are
# those of `countersign client`. It exits with 0 only after `terminate`, and where there is no client for it, so that it stays down
# then: the end of the engine or of the machine is an end by a signal, after which the engine starts it again.
set -u
umask 077

# bash opens this path as a connection. The files appear in /keys only when all of them are here.
fetch() {
    rm -rf /keys/new && mkdir /keys/new &&
        timeout 10 tar --extract --no-same-owner --directory /keys/new <"/dev/tcp/${COUNTERSIGN_SHARES:-shares}/4200" &&
        { [ -e /keys/new/trust.json ] || [ -e /keys/new/count ]; }
}

# A shell that is process 1 ignores signals that it has no trap for.
trap 'exit 143' TERM INT
until why=$(fetch 2>&1); do
    [ -n "${said:-}" ] || echo "waiting for this client's files from the service 'shares': $why" >&2
    said=yes
    sleep 1
done
if [ -e /keys/new/count ]; then
    echo "There is no client for this container: there are $(cat /keys/new/count). For more: COUNTERSIGN_CLIENTS" >&2
    exit 0
fi
# What a start before left here is replaced as a whole.
find /keys -mindepth 1 -maxdepth 1 ! -name new -exec rm -rf {} +
mv /keys/new/* /keys/ && rmdir /keys/new || exit 1
name=$(basename /keys/clients/*.pem .pem)

countersign client --name "$name" "$@" &
client=$!
stopped=
trap 'stopped=yes; kill -TERM $client' TERM INT
trap 'kill -HUP $client' HUP
while :; do
    wait $client
    code=$?
    # A signal ends `wait` too.
    kill -0 $client 2>/dev/null || break
done
if [ $code = 0 ] && [ -n "$stopped" ]; then code=143; fi
exit $code
