#!/bin/sh
# The service `init` of compose.yaml: makes or renews the keys on the volume /keys/all, which no other service mounts, and
# copies to each of the other volumes below /keys the files that its service needs. A second run changes only what is due.
set -eu
umask 077

count=${COUNTERSIGN_CLIENTS:-3}
case $count in
'' | 0* | *[!0-9]* | ????*)
    echo "error: COUNTERSIGN_CLIENTS is '$count'" >&2
    echo "expected: the number of clients, from 1 to 999" >&2
    echo "try: COUNTERSIGN_CLIENTS=3" >&2
    exit 2
    ;;
esac
set --
number=1
while [ $number -le "$count" ]; do
    set -- "$@" --client "worker-$number"
    number=$((number + 1))
done
countersign init --keys /keys/all "$@"

# TLS: an authority of this project alone, and by it the broker's certificate. Both are made again past half their life; the broker
# takes its new one when it starts again, and every other service trusts the authority that it was given at its own last start.
mkdir -p /keys/all/tls
cd /keys/all/tls
holds() { # CERTIFICATE DAYS
    openssl x509 -in "$1" -noout -checkend $(($2 * 86400)) >/dev/null 2>&1
}
if ! holds ca.pem 1825; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key.new -out ca.pem.new -days 3650 \
        -subj "/CN=Countersign containers" -addext basicConstraints=critical,CA:TRUE \
        -addext keyUsage=critical,keyCertSign 2>openssl.log || { cat openssl.log >&2 && exit 1; }
    rm -f broker.pem
    mv -f ca.key.new ca.key
    mv -f ca.pem.new ca.pem
    echo "made     tls/ca.pem"
fi
if ! holds broker.pem 365; then
    cat >broker.ext <<'END'
subjectAltName = DNS:broker, DNS:localhost, IP:127.0.0.1
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
END
    { openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout broker.key.new -out broker.csr -subj /CN=broker &&
        openssl x509 -req -in broker.csr -CA ca.pem -CAkey ca.key -days 730 -extfile broker.ext -out broker.pem.new; } \
        2>openssl.log || { cat openssl.log >&2 && exit 1; }
    mv -f broker.key.new broker.key
    mv -f broker.pem.new broker.pem
    echo "made     tls/broker.pem"
fi

# Replaces each file atomically, because a service may be reading it. Removes files that are no longer in /keys/all.
give() { # FOLDER FILE…
    folder=/keys/$1
    shift
    for file; do
        mkdir -p "$folder/$(dirname "$file")"
        cp -p "$file" "$folder/$file.new"
        mv -f "$folder/$file.new" "$folder/$file"
    done
    find "$folder" -type f | while read -r old; do
        for file; do
            if [ "$old" = "$folder/$file" ]; then continue 2; fi
        done
        rm -f "$old"
    done
}
cd /keys/all
all="trust.json root.thumbprint tls/ca.pem"
# An operator gets only the credentials of the clients, for their names: of those that there are to be.
number=1
names=
while [ $number -le "$count" ]; do
    name=worker-$number
    names="$names clients/$name.jwt"
    # shellcheck disable=SC2086
    give "shares/$name" $all "clients/$name.pem" "clients/$name.jwt" "nats/client-$name.creds" "nats/client-$name.jwt"
    number=$((number + 1))
done
# What is no longer wanted is taken back; its keys stay in /keys/all, so that a name comes back as who it was.
for share in /keys/shares/worker-*; do
    if [ "${share##*-}" -gt "$count" ]; then rm -rf "$share"; fi
done
echo "$count" >/keys/shares/count
give broker nats/accounts.conf tls/broker.pem tls/broker.key
# shellcheck disable=SC2086
give setup $all nats/setup.creds
# The observer's key can only subscribe.
# shellcheck disable=SC2086
give operator $all operators/*.pem operators/*.jwt nats/operator-*.creds nats/observer.creds $names
# shellcheck disable=SC2086
give admin $all operators/*.pem operators/*.jwt nats/operator-*.creds nats/setup.creds $names
