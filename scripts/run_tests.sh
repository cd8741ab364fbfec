#!/bin/sh
# Lint and test a clean clone on a new machine: sh scripts/run_tests.sh [pytest options]
# Installs what it needs on the first run (see _environment.sh).
set -eu
. "$(dirname "$0")/_environment.sh"
ensure_environment demo,test
cd "$ROOT"
"$PYTHON" -m ruff check --quiet --output-format concise .
"$PYTHON" -m ruff format --check --quiet . || {
    echo "pointins: not formatted; run: $PYTHON -m ruff format ." >&2
    exit 1
}
# One process a core, one thread a process: the tests are many and small.
OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export OMP_NUM_THREADS
exec "$PYTHON" -m pytest -q -n auto --maxprocesses 8 --dist worksteal "$@"
