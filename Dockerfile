# Three images: `countersign` (the clients, the server, the streams' set-up), `init` (makes the keys) and `broker`.
# compose.yaml builds and runs them. No key is in any layer: keys are made on volumes, by a container.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# What is fetched and compiled is kept between builds. The sources are made the newest files of all: one that is older than
# what another checkout left in the cache would be taken for built.
RUN --mount=type=cache,id=countersign-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=countersign-target,target=/src/target,sharing=locked \
    find crates -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --package countersign \
    && install -D -m 0555 target/release/countersign /out/countersign
# Where volumes are mounted. A new volume takes its owner and its mode from here.
RUN install -d -m 0700 /out/run/keys /out/run/state \
    /out/init/keys/all /out/init/keys/broker /out/init/keys/setup /out/init/keys/client /out/init/keys/operator

FROM nats:2.15.1-alpine AS broker
LABEL org.opencontainers.image.title="countersign-broker" \
    org.opencontainers.image.description="nats-server with the configuration of Countersign" \
    org.opencontainers.image.source="https://github.com/countersign/countersign"
COPY --chmod=0444 nats.conf docker/broker.conf /etc/countersign/
RUN install -d -m 0700 -o 10001 -g 10001 /etc/countersign/keys /var/lib/nats
USER 10001:10001
ENTRYPOINT ["nats-server", "-c", "/etc/countersign/broker.conf", "-sd", "/var/lib/nats"]
CMD ["-a", "0.0.0.0", "-p", "4222"]

FROM debian:bookworm-slim AS init
LABEL org.opencontainers.image.title="countersign-init" \
    org.opencontainers.image.description="Makes the keys of Countersign, and gives each service those that it needs" \
    org.opencontainers.image.source="https://github.com/countersign/countersign" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /out/countersign /usr/local/bin/countersign
COPY --chmod=0555 docker/init.sh /usr/local/bin/countersign-init
COPY --from=build --chown=10001:10001 /out/init/ /
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/countersign-init"]

# No shell, no package manager: the C library, and the binary.
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
