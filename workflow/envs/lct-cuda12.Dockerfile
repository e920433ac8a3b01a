# Rendered from requirements-cuda12.lock by `make lock`; do not edit. From the project's folder:
#   docker build -f workflow/envs/lct-cuda12.Dockerfile -t lct-cuda12 .
#   docker run --rm --gpus all --user $(id -u):$(id -g) -v $PWD:/lct lct-cuda12 snakemake --config scale=smoke
FROM python:3.11-slim
LABEL torch="2.10.0" cuda="12.8.90" lock="sha256:32bc6835c0f632c22901577b1cd210c5ef2082ca86e257e724dcd3ef480c7db0"
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/* && git config --system --add safe.directory '*'
COPY requirements-cuda12.lock /opt/lct/
RUN echo "32bc6835c0f632c22901577b1cd210c5ef2082ca86e257e724dcd3ef480c7db0  /opt/lct/requirements-cuda12.lock" | sha256sum --check --quiet
RUN python -m pip install --quiet --no-cache-dir --no-deps --require-hashes -r /opt/lct/requirements-cuda12.lock
RUN printf '#!/bin/sh\nexec python -m lct.cli.main "$@"\n' > /usr/local/bin/lct && chmod 755 /usr/local/bin/lct
ENV HOME=/tmp
WORKDIR /lct
CMD ["snakemake"]
