# Rendered from requirements.lock by `make lock`; do not edit. From the project's folder:
#   docker build -f workflow/envs/lct.Dockerfile -t lct .
#   docker run --rm --gpus all --user $(id -u):$(id -g) -v $PWD:/lct lct snakemake --config scale=smoke
FROM python:3.11-slim
LABEL torch="2.15.0" cuda="13.2.86" lock="sha256:490d852c80c7ad67a5689e9899da362b7867b67eae3d2715942f803e20824dcc"
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/* && git config --system --add safe.directory '*'
COPY requirements.lock /opt/lct/
RUN echo "490d852c80c7ad67a5689e9899da362b7867b67eae3d2715942f803e20824dcc  /opt/lct/requirements.lock" | sha256sum --check --quiet
RUN python -m pip install --quiet --no-cache-dir --no-deps --require-hashes -r /opt/lct/requirements.lock
RUN printf '#!/bin/sh\nexec python -m lct.cli.main "$@"\n' > /usr/local/bin/lct && chmod 755 /usr/local/bin/lct
ENV HOME=/tmp
WORKDIR /lct
CMD ["snakemake"]
