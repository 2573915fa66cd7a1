# The programs as they ship. By digest: --build-arg NODE_IMAGE=node:26.10.0-trixie-slim@sha256:... with what your registry says.
ARG NODE_IMAGE=node:26.10.0-trixie-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
# Nothing of what is installed runs a script.
RUN npm ci --ignore-scripts
COPY . .
RUN npm run build && npm run sbom

# Node, and one folder: nothing of node_modules, no sources.
FROM ${NODE_IMAGE}
LABEL org.opencontainers.image.title="MazeVault" \
      org.opencontainers.image.description="Secrets management and PKI as a Kubernetes operator" \
      org.opencontainers.image.version="0.1.0"
COPY --from=build /src/dist /opt/mazevault
# A user that exists nowhere else. It owns nothing here, and no program writes to its own file system.
USER 65532:65532
# It has no home, which the command line asks for.
ENV HOME=/tmp
WORKDIR /opt/mazevault
# Without core dumps, which would hold every key that is in memory; what Node is told: NODE_ARGUMENTS in build/bundle.ts.
ENTRYPOINT ["/bin/sh", "-c", "ulimit -c 0 && exec \"$0\" \"$@\"", "node", "--max-semi-space-size=8", "--heap-growing-percent=50", "--disable-warning=DEP0040"]
# operator.mjs, rest.mjs (REST without the operator), ocsp.mjs (the OCSP responder), backup.mjs (backup and recovery) or mazevault.mjs (the command line).
CMD ["operator.mjs"]
