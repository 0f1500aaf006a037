# Takes registry:2's place: its paths, port, volume, arguments and file names (docs/getting-started/one-machine.md).
# Whatever depends on the architecture is copied from images of it; nothing is run for a foreign one.

FROM --platform=$BUILDPLATFORM node:24-bookworm-slim AS build
WORKDIR /build
COPY package.json package-lock.json .npmrc ./
# Why not `npm ci`: scripts/prepare.mjs. The sums in the lockfile are checked all the same.
RUN npm install --no-save --ignore-scripts
COPY nest-cli.json tsconfig.json tsconfig.build.json ./
COPY src src
RUN npx --no-install nest build \
  && npm prune --omit=dev --no-save --ignore-scripts \
  && find dist node_modules -type f -regextype posix-extended -regex '.*\.([cm]?ts|map|md)' ! -iname 'licen[cs]e*' -delete
COPY docs/openapi.yaml root/usr/local/lib/cistern/docs/
COPY deploy/config/default.yml root/usr/local/lib/cistern/deploy/config/
COPY deploy/config/hub-mirror.yml root/etc/docker/registry/config.yml
COPY --chmod=755 deploy/image/entrypoint deploy/image/healthcheck root/usr/local/lib/cistern/
COPY --chmod=755 deploy/image/nc root/usr/local/bin/
RUN mv dist package.json root/usr/local/lib/cistern/ \
  && chmod 755 root/usr/local/lib/cistern/dist/main.js \
  && mkdir -p root/usr/bin root/usr/local/bin volumes/registry volumes/cistern/spool \
  && chmod 1777 volumes/cistern/spool \
  && ln -s /usr/local/lib/cistern/dist/main.js root/usr/local/bin/cistern \
  # What registry:2's image has under these names, and people use in its containers.
  && ln -s /usr/local/bin/cistern root/usr/bin/registry \
  && ln -s busybox root/usr/local/bin/wget

FROM node:24-bookworm-slim AS node
FROM busybox:1.37-musl AS busybox

# Without npm: nothing of it is needed to run.
FROM debian:bookworm-slim
LABEL org.opencontainers.image.title=Cistern \
  org.opencontainers.image.description="A clustered pull-through mirror for container images" \
  org.opencontainers.image.licenses=Apache-2.0
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=busybox /bin/busybox /usr/local/bin/busybox
COPY --from=build /build/node_modules /usr/local/lib/cistern/node_modules
COPY --from=build /build/root /
# A new volume gets this owner, and with it the server, which leaves root for it (docs/getting-started/one-machine.md).
COPY --from=build --chown=1000:1000 /build/volumes/registry /var/lib/registry
COPY --from=build --chown=1000:1000 /build/volumes/cistern /var/lib/cistern
ENV CISTERN_LEAVE_ROOT=true
VOLUME /var/lib/registry
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=5 CMD ["/usr/local/lib/cistern/healthcheck"]
ENTRYPOINT ["/usr/local/lib/cistern/entrypoint"]
CMD ["/etc/docker/registry/config.yml"]
