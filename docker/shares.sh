#!/bin/sh
# The service `shares` of compose.yaml: whoever connects is sent the files of the client that its container is for, as a tar archive.
# The engine's name server tells which container has an address: PROJECT-client-2 gets those of worker-2. A container can change
# neither its address nor that name, and nothing that it sends is read.
set -eu

if [ -z "${SOCAT_PEERADDR:-}" ]; then
    exec socat -U TCP4-LISTEN:4200,fork,reuseaddr,max-children=64 EXEC:/usr/local/bin/countersign-shares
fi
container=$(getent hosts "$SOCAT_PEERADDR" | awk '{ sub(/\..*/, "", $2); print $2 }')
number=${container##*[-_]}
case $number in '' | 0* | *[!0-9]* | ????*) number= ;; esac
case ${container%[-_]*} in *[-_]client) ;; *) number= ;; esac
if [ -z "$number" ]; then
    # The health check connects from this container.
    [ "$SOCAT_PEERADDR" = 127.0.0.1 ] || echo "$SOCAT_PEERADDR ($container) is no client's container, and gets nothing" >&2
elif [ -d "/shares/worker-$number" ]; then
    echo "$container gets the files of worker-$number" >&2
    exec timeout 10 tar --create --directory "/shares/worker-$number" .
else
    # Tells a surplus client that there is nothing to wait for.
    echo "$container gets nothing: there are $(cat /shares/count) clients" >&2
    exec timeout 10 tar --create --directory /shares count
fi
