# syntax=docker/dockerfile:1
# Two images from one file:
#   docker build --target worker  -t dlts-worker .     Beam workers (Dataflow, Flink)
#   docker build --target trainer -t dlts-trainer .    training, on a GPU where there is one
ARG PYTHON=3.11
ARG BEAM=2.77.0

FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS beam

FROM python:${PYTHON}-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/dlts
COPY setup.py pyproject.toml constraints.txt ./
COPY dlts_beam dlts_beam
COPY pipelines pipelines
COPY trainer trainer

FROM base AS worker
LABEL org.opencontainers.image.title="dlts-beam worker"
# onnxruntime, TensorFlow and GDAL's wheels need these two shared libraries, which the slim image leaves out.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libexpat1 libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN pip install -c constraints.txt '.[beam,gcp]' && pip check
# The SDK harness of the very version that is pinned above.
COPY --from=beam /opt/apache/beam /opt/apache/beam
RUN python -c "import apache_beam, dlts_beam, onnxruntime, pipelines, rasterio"
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM base AS trainer
LABEL org.opencontainers.image.title="dlts-beam trainer"
RUN pip install -c constraints.txt '.[trainer,gcp]' 'tensorflow[and-cuda]' && pip check
RUN python -c "import dlts_beam, tensorflow, trainer"
RUN useradd --create-home dlts
USER dlts
ENTRYPOINT ["python", "-m", "trainer"]
