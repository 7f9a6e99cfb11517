# Four images: `countersign` (the server, `setup`), `client` (the clients, with Python), `init` (makes the keys) and `broker`.
# compose.yaml builds and runs them. No layer contains a key: a container makes the keys on volumes.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The caches keep what is fetched and compiled between builds. The sources must be newer than the cache: cargo would consider an
# older source file built, if another checkout had filled the cache.
RUN --mount=type=cache,id=countersign-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=countersign-target,target=/src/target,sharing=locked \
    find crates -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --package countersign \
    && install -D -m 0555 target/release/countersign /out/countersign
# The mount points of volumes. A new volume takes its owner and mode from them.
RUN install -d -m 0700 /out/run/keys /out/run/state \
    /out/init/keys/all /out/init/keys/broker /out/init/keys/setup /out/init/keys/client /out/init/keys/operator

FROM nats:2.15.1-alpine AS broker
LABEL org.opencontainers.image.title="countersign-broker" \
    org.opencontainers.image.description="nats-server with the configuration of Countersign" \
    org.opencontainers.image.source="https://github.com/countersign/countersign"
COPY --chmod=0444 nats.conf docker/broker.conf /etc/countersign/
RUN install -d -m 0700 -o 10001 -g 10001 /etc/countersign/keys /var/lib/nats
ENV NATS_ACCOUNTS=/var/lib/nats/accounts
USER 10001:10001
ENTRYPOINT ["nats-server", "-c", "/etc/countersign/broker.conf", "-sd", "/var/lib/nats"]
CMD ["-a", "0.0.0.0", "-p", "4222"]

FROM debian:bookworm-slim AS init
LABEL org.opencontainers.image.title="countersign-init" \
    org.opencontainers.image.description="Makes the keys of Countersign, and gives each service the keys that it needs" \
    org.opencontainers.image.source="https://github.com/countersign/countersign" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /out/countersign /usr/local/bin/countersign
COPY --chmod=0555 docker/init.sh /usr/local/bin/countersign-init
COPY --from=build --chown=10001:10001 /out/init/ /
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/countersign-init"]

# What programs need that are commands: a system with a shell and Python. Nothing of it is the client's own.
FROM debian:bookworm-slim AS client
LABEL org.opencontainers.image.title="countersign-client" \
    org.opencontainers.image.description="A client of Countersign that runs programs, with Python and the example commands" \
    org.opencontainers.image.source="https://github.com/countersign/countersign" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0"
RUN apt-get update && apt-get install --yes --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/countersign /usr/local/bin/countersign
COPY --from=build --chown=10001:10001 /out/run/ /
COPY --chmod=0444 examples/commands.d/ /commands.d/
# Only their owner, root, may write to the folder of definitions, or a client refuses it.
RUN chmod 0755 /commands.d
ENV COUNTERSIGN_KEYS=/keys COUNTERSIGN_STATE=/state COUNTERSIGN_COMMANDS=/commands.d
WORKDIR /
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/countersign"]

# Only the C library and the binary: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot AS countersign
LABEL org.opencontainers.image.title="countersign" \
    org.opencontainers.image.description="Signed commands and verified replies for fleets of workers over NATS" \
    org.opencontainers.image.source="https://github.com/countersign/countersign" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /out/countersign /usr/local/bin/countersign
COPY --from=build --chown=10001:10001 /out/run/ /
ENV COUNTERSIGN_KEYS=/keys COUNTERSIGN_STATE=/state
WORKDIR /
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/countersign"]
