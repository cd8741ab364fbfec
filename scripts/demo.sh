#!/bin/sh
# The demo, on a machine without GPU and without Pointcept: sh scripts/demo.sh [options]
# Installs what it needs on the first run (see _environment.sh).
set -eu
. "$(dirname "$0")/_environment.sh"
ensure_environment demo
exec "$PYTHON" -m pointins_plugin.cli demo "$@"
