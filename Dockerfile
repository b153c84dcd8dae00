ARG BASE=python:3.13-slim-bookworm
FROM ${BASE} AS build

WORKDIR /build
# Only what the lock names, only with the hashes that it names.
COPY requirements.lock ./
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip wheel --no-cache-dir --require-hashes --only-binary=:all: --wheel-dir /wheels -r requirements.lock \
    && /opt/build/bin/pip install --no-cache-dir --no-index --find-links /wheels --upgrade setuptools

COPY pyproject.toml setup.cfg README.md ./
COPY kps ./kps
# From here on nothing comes from the network. The second venv is the one that runs: no pip, no setuptools.
RUN /opt/build/bin/pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
    && python3 -m venv --without-pip /opt/kps \
    && /opt/build/bin/pip --python /opt/kps/bin/python install --no-cache-dir --no-index --find-links /wheels kps \
    && /opt/kps/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/kps/lib


FROM ${BASE}

COPY --from=build /opt/kps /opt/kps
COPY supervisord.conf /app/supervisord.conf
RUN install -d -o 10001 -g 10001 -m 0700 /run/kps /var/log/kps

ENV PATH="/opt/kps/bin:${PATH}" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    KPS_RUN_DIR=/run/kps \
    RUN_DIR=/run/kps \
    LOG_DIR=/var/log/kps

WORKDIR /app
USER 10001:10001
EXPOSE 9100 5001
STOPSIGNAL SIGTERM
# Three refusals in a row: a crowd of slow clients may delay one answer, not three.
HEALTHCHECK --interval=15s --timeout=3s --start-period=30s --retries=3 CMD ["python", "-m", "kps.health", "live"]
ENTRYPOINT ["supervisord", "-c", "/app/supervisord.conf"]
