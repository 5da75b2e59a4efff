# The command in a container, with PyTorch's CPU build:
#   docker build -t espdl-quantize .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" espdl-quantize check user_quant.py
# What `watch` serves is for the container's own machine alone: give it --network host.
FROM python:3.12-slim

# PyTorch's CPU build: the default wheel brings gigabytes of CUDA packages.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE constraints.txt ./
COPY src ./src
COPY skill ./skill
RUN pip install --no-cache-dir --constraint constraints.txt --extra-index-url "$TORCH_INDEX" \
        '.[mcp,watch,optuna]' \
    && useradd --create-home user

# Compiled kernels are cached there, whoever runs the container.
ENV NUMBA_CACHE_DIR=/tmp/numba
USER user
WORKDIR /work
ENTRYPOINT ["espdl-quantize"]
CMD ["--help"]
