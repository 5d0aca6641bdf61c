# An image for CPUs. No test builds it; hadolint finds nothing in it.
#   docker build -t inflate3d .
#   docker run --rm -v "$PWD:/data" inflate3d predict runs/Liver scan.nii.gz labels.nii.gz
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt \
        --extra-index-url https://download.pytorch.org/whl/cpu /wheels/*.whl \
    && useradd --create-home --uid 1000 inflate3d
USER 1000
WORKDIR /data
ENTRYPOINT ["inflate3d"]
