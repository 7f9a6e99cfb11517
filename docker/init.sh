#!/bin/sh
# What the service `init` of compose.yaml does: makes or renews the keys on the volume /keys/all, which nobody else has, and
# gives each of the other volumes below /keys what its service needs. Running it again changes nothing that is not due.
set -eu
umask 077

count=${COUNTERSIGN_CLIENTS:-3}
case $count in
'' | *[!0-9]* | ????*) count=0 ;;
esac
if [ "$count" -lt 1 ]; then
    echo "error: COUNTERSIGN_CLIENTS is '${COUNTERSIGN_CLIENTS:-}'" >&2
    echo "expected: how many clients are to have keys, from 1 to 999" >&2
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

# Files are replaced at once and as a whole: somebody may be reading. What is no longer in /keys/all goes here too.
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
give broker nats/users.conf
give setup trust.json root.thumbprint nats/setup.nk
give client trust.json root.thumbprint clients/*.pem clients/*.jwt nats/client-*.nk
# Of the clients an operator has the credentials only, by which it knows their names. The observer's key may but listen.
give operator trust.json root.thumbprint operators/*.pem operators/*.jwt nats/operator-*.nk nats/observer.nk clients/*.jwt
