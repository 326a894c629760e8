# Footfall as a container. Bytewax has wheels for glibc only, so no musl base; LightGBM needs libgomp.
#   docker build --build-arg COMMIT=$(git rev-parse HEAD) --build-arg LOCK=$(sha256sum < requirements.image.lock | cut -c1-64) -t footfall:0.1.0 .
# Name the base by digest where it matters: --build-arg PYTHON=python:3.12-slim-bookworm@sha256:...
ARG PYTHON=python:3.12-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/footfall
ENV PATH=/opt/footfall/bin:$PATH
COPY requirements.image.lock ./
RUN pip install --require-hashes --no-deps --only-binary :all: --requirement requirements.image.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY operators operators
COPY flows flows
RUN pip install --no-index --no-deps --no-build-isolation . \
    && pip uninstall --yes setuptools pip

FROM ${PYTHON}
ARG COMMIT=unknown
ARG LOCK=unknown
LABEL org.opencontainers.image.title="footfall" \
      org.opencontainers.image.description="Turns what a shop hears into what a shop does" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${COMMIT}" \
      footfall.lock.sha256="${LOCK}"
# hadolint ignore=DL3008  # the base fixes the release; its security fixes are wanted
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 65532 footfall \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin footfall \
    && install -d /etc/footfall \
    && install -d -o 65532 -g 65532 -m 0700 /var/lib/footfall
COPY --from=build /opt/footfall /opt/footfall
# One thread for scoring: a process is one worker. Nothing is written outside /var/lib/footfall and /tmp.
ENV PATH=/opt/footfall/bin:$PATH \
    HOME=/tmp \
    MALLOC_ARENA_MAX=2 \
    OMP_NUM_THREADS=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RUST_BACKTRACE=0
USER 65532:65532
WORKDIR /etc/footfall
EXPOSE 9464
ENTRYPOINT ["footfall"]
CMD ["--help"]
