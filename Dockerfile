# Espalier on the CPU. The native module holds three instruction tiers (plain C++, AVX2, AVX512-VNNI) and chooses one when it
# starts, so one image runs on every x86-64 machine. docker/compose.yaml runs it as it is meant to be run.
#
#   docker build -t espalier .
#   docker run --rm -p 127.0.0.1:8000:8000 espalier                                   the demo model
#   docker run --rm -p 127.0.0.1:8000:8000 -v ./models:/models:ro espalier /models/MODEL.gguf

# What only the build needs (compiler, headers, pip's cache) stays in this stage.
FROM python:3.11-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/espalier
WORKDIR /src
COPY constraints.txt ./
ENV PIP_CONSTRAINT=/src/constraints.txt PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1
# hadolint ignore=DL3013
RUN /opt/espalier/bin/pip install scikit-build-core nanobind cmake ninja
COPY pyproject.toml CMakeLists.txt README.md LICENSE ./
COPY kernels kernels
COPY engine engine
COPY server server
COPY tools tools
RUN /opt/espalier/bin/pip install --no-build-isolation . \
    && /opt/espalier/bin/pip uninstall -y scikit-build-core nanobind cmake ninja pip setuptools

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Espalier" \
      org.opencontainers.image.description="OpenAI-compatible server for trellis-quantized (KT) GGUF models" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/espalier /opt/espalier
ENV PATH=/opt/espalier/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp ESPALIER_HOST=0.0.0.0
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /models
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('ESPALIER_PORT', '8000') + '/health', timeout=4)"]
# espalier is process 1 and takes SIGTERM itself: it drains, then ends. It starts no children that would need reaping.
ENTRYPOINT ["espalier", "serve"]
