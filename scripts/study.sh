#!/bin/sh
# The study: pre-train and probe every row of configs/study/ladder.py, and write
# docs/study.md: sh scripts/study.sh [--quick] [options; -h lists them]
#
# Stopped at any moment, the same command goes on. Each finished run is one JSON file
# under docs/study/runs. Without a GPU as many runs go at a time as there are cores.
set -eu
. "$(dirname "$0")/_environment.sh"
ensure_environment demo
cd "$ROOT"
exec "$PYTHON" -m pointins_plugin.cli study "$@"
