#!/bin/sh
# What `make test-all` needs beyond pip, on Debian and Ubuntu: a browser and LaTeX for the report's tests. The tests on
# SLURM install their own packages: tests/slurm/slurm-up.
set -eu
missing=
command -v chromium >/dev/null || missing="$missing chromium"
command -v pdflatex >/dev/null || missing="$missing texlive-latex-base texlive-latex-recommended"
command -v pdftotext >/dev/null || missing="$missing poppler-utils"
[ -z "$missing" ] && exit 0
[ "$(id -u)" = 0 ] || { echo "make test-all: expected$missing, found none; as root: apt-get install$missing" >&2; exit 1; }
echo "Installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing >/dev/null
