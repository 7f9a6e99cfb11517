# Five images: `countersign` (the server, `setup`, `admin`), `client` (the clients, with Python), `init` (makes the keys), `shares`
# (gives each client its own) and `broker`. compose.yaml builds, labels and runs them. No layer contains a key: a container makes
# the keys, on volumes.

# The base images. `scripts/pin-images` pins them to the digests that their tags have today.
ARG RUST=rust:1.95-slim-bookworm
ARG DEBIAN=debian:bookworm-slim
ARG NATS=nats:2.15.1-alpine
ARG DISTROLESS=gcr.io/distroless/cc-debian12:nonroot
# Where the binary comes from: the stage that compiles it, or `prebuilt`.
ARG BINARY=compiled

# The manifests with an empty program or library for each crate: what the dependencies depend on, and nothing else.
FROM ${DEBIAN} AS manifests
WORKDIR /all
COPY crates crates
RUN for manifest in crates/*/Cargo.toml; do \
        crate=/out/${manifest%/Cargo.toml} && mkdir -p "$crate/src" && cp "$manifest" "$crate/" \
        && if [ -e "${manifest%/*}/src/main.rs" ]; then echo 'fn main() {}' >"$crate/src/main.rs"; else : >"$crate/src/lib.rs"; fi \
        || exit 1; \
    done

FROM ${RUST} AS compiled
WORKDIR /src
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
COPY --from=manifests /out/ ./
# A layer that stays until a manifest or the lock file changes.
RUN cargo build --release --locked --package countersign
COPY crates crates
# The sources must be newer than what was compiled in their place.
RUN find crates -name '*.rs' -exec touch {} + && cargo build --release --locked --package countersign \
    && install -D -m 0555 target/release/countersign /out/countersign

# A binary that was compiled before, for this system: docker/prebuilt/countersign. Tests build the images with it.
FROM scratch AS prebuilt
COPY --chmod=0555 docker/prebuilt/countersign /out/countersign

FROM ${BINARY} AS binary

FROM ${DEBIAN} AS folders
# The mount points of volumes. A new volume takes its owner and mode from them.
RUN install -d -m 0700 /out/run/keys /out/run/state /out/client/keys /out/client/state /out/shares/shares \
    /out/init/keys/all /out/init/keys/broker /out/init/keys/setup /out/init/keys/shares /out/init/keys/operator \
    /out/init/keys/admin /out/init/keys/history

FROM ${NATS} AS broker
COPY --chmod=0444 nats.conf docker/broker.conf /etc/countersign/
RUN install -d -m 0700 -o 10001 -g 10001 /etc/countersign/keys /var/lib/nats
ENV NATS_ACCOUNTS=/var/lib/nats/accounts
USER 10001:10001
ENTRYPOINT ["nats-server", "-c", "/etc/countersign/broker.conf", "-sd", "/var/lib/nats"]
CMD ["-a", "0.0.0.0", "-p", "4222"]
HEALTHCHECK --interval=5s --timeout=3s --retries=6 CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8222/healthz"]
ARG NATS
LABEL org.opencontainers.image.title="countersign-broker" \
    org.opencontainers.image.description="nats-server with the configuration of Countersign" \
    org.opencontainers.image.base.name="${NATS}"

FROM ${DEBIAN} AS init
RUN apt-get update && apt-get install --yes --no-install-recommends openssl && rm -rf /var/lib/apt/lists/*
COPY --from=binary /out/countersign /usr/local/bin/countersign
COPY --chmod=0555 docker/init.sh /usr/local/bin/countersign-init
COPY --from=folders --chown=10001:10001 /out/init/ /
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/countersign-init"]
# It runs once and ends.
HEALTHCHECK NONE
ARG DEBIAN
LABEL org.opencontainers.image.title="countersign-init" \
    org.opencontainers.image.description="Makes the keys of Countersign, and gives each service the keys that it needs" \
    org.opencontainers.image.base.name="${DEBIAN}"

FROM ${DEBIAN} AS shares
RUN apt-get update && apt-get install --yes --no-install-recommends socat && rm -rf /var/lib/apt/lists/*
COPY --chmod=0555 docker/shares.sh /usr/local/bin/countersign-shares
COPY --from=folders --chown=10001:10001 /out/shares/ /
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/countersign-shares"]
HEALTHCHECK --interval=5s --timeout=3s --retries=6 CMD ["socat", "-u", "OPEN:/dev/null", "TCP4:127.0.0.1:4200"]
ARG DEBIAN
LABEL org.opencontainers.image.title="countersign-shares" \
    org.opencontainers.image.description="Gives the container of each Countersign client its own keys" \
    org.opencontainers.image.base.name="${DEBIAN}"

# What programs need that are commands: a system with a shell and Python. Nothing of it is the client's own.
FROM ${DEBIAN} AS client
RUN apt-get update && apt-get install --yes --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*
COPY --from=binary /out/countersign /usr/local/bin/countersign
COPY --chmod=0555 docker/client.sh /usr/local/bin/countersign-client
COPY --from=folders --chown=10001:10001 /out/client/ /
COPY --chmod=0444 examples/commands.d/ /commands.d/
# Only their owner, root, may write to the folder of definitions, or a client refuses it.
RUN chmod 0755 /commands.d
ENV COUNTERSIGN_KEYS=/keys COUNTERSIGN_STATE=/state COUNTERSIGN_COMMANDS=/commands.d \
    COUNTERSIGN_HEALTH=/run/countersign/health
WORKDIR /
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/countersign"]
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=5s CMD ["/usr/local/bin/countersign", "health"]
ARG DEBIAN
LABEL org.opencontainers.image.title="countersign-client" \
    org.opencontainers.image.description="A client of Countersign that runs programs, with Python and the example commands" \
    org.opencontainers.image.base.name="${DEBIAN}"

# Only the C library and the binary: no shell, no package manager.
FROM ${DISTROLESS} AS countersign
COPY --from=binary /out/countersign /usr/local/bin/countersign
COPY --from=folders --chown=10001:10001 /out/run/ /
ENV COUNTERSIGN_KEYS=/keys COUNTERSIGN_STATE=/state
WORKDIR /
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/countersign"]
# A command ends by itself, and a prompt is looked at by whoever opened it.
HEALTHCHECK NONE
ARG DISTROLESS
LABEL org.opencontainers.image.title="countersign" \
    org.opencontainers.image.description="Signed commands and verified replies for fleets of workers over NATS" \
    org.opencontainers.image.base.name="${DISTROLESS}"
