# syntax=docker/dockerfile:1
# Three images from one file:
#   docker build --target worker     -t dlts-worker .      Beam workers (Dataflow, Flink), Flex Template launcher
#   docker build --target worker-gpu -t dlts-worker-gpu .  the same with CUDA, for --gpu
#   docker build --target trainer    -t dlts-trainer .     training, on a GPU where there is one
ARG PYTHON=3.11
ARG BEAM=2.77.0
ARG DEBIAN=bookworm
ARG LAUNCHER=gcr.io/dataflow-templates-base/python311-template-launcher-base:20230622_RC00

FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS beam

# A program of its own, which runs the image's Python, whatever its version.
FROM ${LAUNCHER} AS launcher

FROM python:${PYTHON}-slim-${DEBIAN} AS base
ARG VERSION=0.1.0
LABEL org.opencontainers.image.vendor="dlts-beam" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.documentation="docs/running.md"
# Where Dataflow and container engines put a GPU's driver.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/usr/local/nvidia/lib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /opt/dlts
COPY setup.py pyproject.toml constraints.txt ./
COPY dlts_beam dlts_beam
COPY pipelines pipelines
COPY trainer trainer

FROM base AS worker
ARG BEAM
LABEL org.opencontainers.image.title="dlts-beam worker" \
      org.opencontainers.image.description="Beam worker of Dataflow and Flink, and Flex Template launcher" \
      org.apache.beam.version="${BEAM}"
# GDAL's and ONNX Runtime's wheels need these two libraries, which the slim image leaves out. Debian keeps no
# old versions of a package, so a pinned one could not be built again.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libexpat1 libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN pip install -c constraints.txt '.[beam,gcp]' && pip check
WORKDIR /
# The SDK harness of the very version that is pinned.
COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher
COPY deploy/dataflow/flex_main.py /opt/dlts/flex_main.py
# Everything is installed: no worker makes an environment of its own when it starts.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/dlts/flex_main.py
RUN python -c "import apache_beam, dlts_beam, geopandas, onnxruntime, pipelines, rasterio, tensorflow, tfx_bsl" \
    && python -c "import apache_beam, os; assert apache_beam.__version__ == os.environ['BEAM'], apache_beam.__version__" \
    && test -x /opt/apache/beam/boot \
    && test -x /opt/google/dataflow/python_template_launcher
# Dataflow starts its containers with folders that belong to root, so this one stays root.
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM worker AS worker-gpu
LABEL org.opencontainers.image.title="dlts-beam worker with CUDA"
WORKDIR /opt/dlts
RUN pip install -c constraints.txt 'tensorflow[and-cuda]' && pip check
WORKDIR /

FROM base AS trainer
LABEL org.opencontainers.image.title="dlts-beam trainer" \
      org.opencontainers.image.description="Trains the models of dlts-beam, on a GPU where there is one"
RUN pip install -c constraints.txt '.[trainer,gcp]' 'tensorflow[and-cuda]' && pip check
WORKDIR /
RUN python -c "import dlts_beam, google.cloud.storage, keras, onnx, sklearn, tensorflow, tf2onnx, trainer" \
    && python -m trainer --list-models \
    && useradd --create-home --uid 10001 dlts
USER 10001
WORKDIR /home/dlts
ENTRYPOINT ["python", "-m", "trainer"]
