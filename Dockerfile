# syntax=docker/dockerfile:1
# An image that holds the gateway, the authorities it trusts, and nothing else.
#
#   docker build --tag clawhook .
#   docker compose --file infra/docker-compose.yml up --detach
#
# docs/deploy.md tells the rest. The settings and files are mounted at /etc/clawhook, the store at /var/lib/clawhook.
# `--build-context compiled=FOLDER` takes the program from FOLDER/clawhook instead of compiling it.

# `rust-version` of Cargo.toml; infra/check_machine.py compares them.
FROM rust:1.95-slim-bookworm AS compiled
WORKDIR /src
COPY . .
# The same sources give the same program: versions by Cargo.lock, no paths of this stage in it.
ENV CARGO_INCREMENTAL=0 \
    RUSTFLAGS="--remap-path-prefix=/src=/clawhook --remap-path-prefix=/usr/local/cargo=/cargo"
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --bin clawhook \
    && cp target/release/clawhook /clawhook

# Lays out the files of the image. The program links glibc dynamically, so the few libraries that it names come along
# from this Debian, and are patched by building again; a base image would bring a shell and a package manager with them.
FROM debian:bookworm-slim AS files
# The newest authorities are wanted here, not those of one day.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libgcc-s1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=compiled /clawhook /root/clawhook
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN mkdir -p /files/etc/ssl/certs /files/etc/clawhook /files/tmp /owned/clawhook \
    && install -m 0755 /root/clawhook /files/clawhook \
    && { ldd /files/clawhook || [ $? -eq 1 ]; } | { grep -o '/[^ ]*' || true; } | while read -r library; do \
        install -D -m 0755 "$(readlink --canonicalize "$library")" "/files$library"; \
    done \
    && cp /etc/ssl/certs/ca-certificates.crt /files/etc/ssl/certs/ \
    && echo 'clawhook:x:10001:10001::/var/lib/clawhook:/none' > /files/etc/passwd \
    && echo 'clawhook:x:10001:' > /files/etc/group \
    && echo 'hosts: files dns' > /files/etc/nsswitch.conf \
    && chmod 0700 /owned/clawhook \
    && chmod 1777 /files/tmp \
    && chroot /files /clawhook --version

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="clawhook" \
      org.opencontainers.image.description="Self-hosted webhook and cron gateway" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=files /files/ /
COPY --from=files --chown=10001:10001 /owned/ /var/lib/
ENV CLAWHOOK_LOG_FORMAT=json \
    CLAWHOOK__STORAGE__PATH=/var/lib/clawhook
USER 10001:10001
# The settings file is looked for here, by `serve` as by every other verb.
WORKDIR /etc/clawhook
VOLUME /var/lib/clawhook
EXPOSE 8443 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["/clawhook", "doctor", "--quick"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/clawhook"]
CMD ["serve"]
