# A gateway on the embedded store.
#
#   docker build -t clawhook .
#   docker run -p 8443:8443 -v clawhook:/var/lib/clawhook \
#     -e CLAWHOOK_SECRET_SHOPIFY_US_WEBHOOK_KEY=… -e CLAWHOOK_SECRET_ERP_API_KEY=… clawhook
#
# The hooks door speaks plain HTTP here and belongs behind something that ends TLS; with a certificate, mount it and a
# `clawhook.yaml` that names it over /etc/clawhook. The control door stays on the container's loopback:
# `docker exec CONTAINER clawhook runs list`.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin clawhook

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/clawhook --create-home --shell /usr/sbin/nologin clawhook
COPY --from=build /src/target/release/clawhook /usr/local/bin/clawhook
COPY clawhook.yaml /etc/clawhook/clawhook.yaml
COPY routes /etc/clawhook/routes
COPY workflows /etc/clawhook/workflows
ENV CLAWHOOK__LISTEN__HOOKS__ADDRESS=0.0.0.0:8443 \
    CLAWHOOK__LISTEN__HOOKS__INSECURE=true \
    CLAWHOOK__LISTEN__CONTROL__ADDRESS=127.0.0.1:8080 \
    CLAWHOOK__STORAGE__PATH=/var/lib/clawhook
USER 10001
WORKDIR /var/lib/clawhook
VOLUME /var/lib/clawhook
EXPOSE 8443
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["clawhook"]
CMD ["serve", "--config", "/etc/clawhook/clawhook.yaml"]
