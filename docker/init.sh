#!/bin/sh
# The service `init` of compose.yaml: makes or renews the keys on the volume /keys/all, which no other service mounts, and
# copies to each of the other volumes below /keys the files that its service needs. A second run changes only what is due.
set -eu
umask 077

count=${COUNTERSIGN_CLIENTS:-3}
case $count in
'' | *[!0-9]* | ????*) count=0 ;;
esac
if [ "$count" -lt 1 ]; then
    echo "error: COUNTERSIGN_CLIENTS is '${COUNTERSIGN_CLIENTS:-}'" >&2
    echo "expected: the number of clients, from 1 to 999" >&2
    echo "try: COUNTERSIGN_CLIENTS=3" >&2
    exit 2
fi
set --
number=1
while [ $number -le "$count" ]; do
    set -- "$@" --client "worker-$number"
    number=$((number + 1))
done
countersign init --keys /keys/all "$@"

# Replaces each file atomically, because a service may be reading it. Removes files that are no longer in /keys/all.
give() { # VOLUME FILE…
    volume=/keys/$1
    shift
    for file; do
        mkdir -p "$volume/$(dirname "$file")"
        cp -p "$file" "$volume/$file.new"
        mv -f "$volume/$file.new" "$volume/$file"
    done
    (cd "$volume" && find . -type f) | while read -r file; do
        [ -e "$file" ] || rm -f "$volume/$file"
    done
}
cd /keys/all
give broker nats/accounts.conf
give setup trust.json root.thumbprint nats/setup.creds
give client trust.json root.thumbprint clients/*.pem clients/*.jwt nats/client-*.creds
# An operator gets only the credentials of the clients, for their names. The observer's key can only subscribe.
give operator trust.json root.thumbprint operators/*.pem operators/*.jwt nats/operator-*.creds nats/observer.creds clients/*.jwt
