# Sluice with its bundled models: docker build -t sluice .
# and then: docker run --rm -p 127.0.0.1:8000:8000 -p 127.0.0.1:8001:8001 sluice
# A digest can be pinned without a change here: --build-arg PYTHON=python:3.11-slim@sha256:...
ARG PYTHON=python:3.11-slim

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /opt/sluice
# What is locked changes less often than the code, and so does this layer.
COPY requirements.lock ./
RUN /opt/sluice/bin/pip install -q --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
# The rooms, and the package, which has links to them.
COPY sluice sluice
COPY gateway gateway
COPY batching batching
COPY cache cache
COPY inference inference
COPY loadgen loadgen
RUN /opt/sluice/bin/pip install -q --no-deps --no-build-isolation . \
    && /opt/sluice/bin/pip uninstall -q -y hatchling editables pip

FROM ${PYTHON}
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.description="An inference gateway: dynamic batching in front of ONNX Runtime workers" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/sluice /opt/sluice
# Text models of scikit-learn ask for this locale by name, to write texts in lower case. C.UTF-8, which is there, does
# so by the same table.
RUN cp -r /usr/lib/locale/C.utf8 /usr/lib/locale/en_US.utf8
COPY examples/models /models
ENV PATH=/opt/sluice/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SLUICE_MODELS_PATH=/models \
    SLUICE_SERVER_HOST=0.0.0.0
# Any user will do: nothing is written, and tensors travel in anonymous memory, so /dev/shm may be as small as it is.
USER 10001:10001
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["sluice", "ready"]
ENTRYPOINT ["sluice"]
CMD ["serve"]
