# Espalier on an NVIDIA GPU: the CPU image's build, plus CuPy and the CUDA 13 wheels it compiles kernels with. The driver
# comes from the host through the NVIDIA container toolkit; docker/compose.cuda.yaml asks for the GPU.
#
#   docker build -f docker/cuda.Dockerfile -t espalier-cuda .

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
RUN /opt/espalier/bin/pip install --no-build-isolation '.[cuda13]' \
    && /opt/espalier/bin/pip uninstall -y scikit-build-core nanobind cmake ninja pip setuptools

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Espalier (CUDA)" \
      org.opencontainers.image.description="OpenAI-compatible server for trellis-quantized (KT) GGUF models" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/espalier /opt/espalier
# /cache keeps compiled kernels between starts; the compose file mounts a volume there.
RUN install -d -o 10001 -g 10001 /cache
ENV PATH=/opt/espalier/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp \
    XDG_CACHE_HOME=/cache CUPY_CACHE_DIR=/cache/cupy ESPALIER_HOST=0.0.0.0 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /models
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('ESPALIER_PORT', '8000') + '/health', timeout=4)"]
ENTRYPOINT ["espalier", "serve"]
