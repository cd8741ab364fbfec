# Sourced by the scripts beside it: finds or makes a Python that has what they need.
#
#   . "$(dirname "$0")/_environment.sh"
#   ensure_environment demo,test      # then use "$PYTHON"
#   ensure_environment demo core      # an environment of yours may lack the extras
#
# In this order:
#   $POINTINS_PYTHON                  an interpreter of yours, never changed
#   the active virtual or conda environment, if it has the packages, never changed
#   .venv in the repository, made and filled on the first run; with POINTCEPT_ROOT not
#                                     in place of an active one, which has Pointcept's
#                                     requirements
# $POINTINS_TORCH is the torch to put into .venv (default torch==2.13.0).

ROOT=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)

_say() {
    echo "pointins: $*" >&2
}

# The modules behind the packages of the extras asked for, and of setup.py's REQUIRED.
_modules() {
    echo torch numpy scipy addict tqdm
    case ,$1, in *,demo,*) echo sklearn matplotlib ;; esac
    case ,$1, in *,test,*) echo pytest xdist ruff safetensors laspy lazrs ;; esac
}

# Print the modules that interpreter $1 lacks for extras $2; fail if it does not run.
_missing() {
    # shellcheck disable=SC2046
    "$1" - $(_modules "$2") <<'PY'
import importlib.util as u, sys

if sys.version_info < (3, 10):
    sys.exit("Python %d.%d is older than 3.10" % sys.version_info[:2])
print(*[name for name in sys.argv[1:] if u.find_spec(name) is None])
PY
}

_base_python() {
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
            2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

# Run a command quietly; show what it said only if it fails.
_quietly() {
    log=$(mktemp)
    if "$@" >"$log" 2>&1; then
        rm -f "$log"
    else
        tail -n 30 "$log" >&2
        rm -f "$log"
        _say "failed: $*"
        return 1
    fi
}

_fill_venv() {
    venv=$ROOT/.venv
    stamp=$venv/.pointins-$(echo "$1" | tr , -)
    sum="$(cksum <"$ROOT/setup.py") ${POINTINS_TORCH:-}"
    PYTHON=$venv/bin/python
    if ! "$PYTHON" -c 'import pip' 2>/dev/null; then
        base=$(_base_python) || {
            _say "no Python >= 3.10 found; install one or set POINTINS_PYTHON"
            return 2
        }
        _say "making .venv with $base"
        _quietly "$base" -m venv --clear "$venv" || {
            _say "on Debian and Ubuntu: apt-get install python3-venv"
            return 2
        }
    fi
    if [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ]; then
        return 0
    fi
    _say "installing into .venv (only on the first run; takes minutes)"
    # torch first and alone: a range would bring in the newest one.
    if [ -n "${POINTINS_TORCH:-}" ] || ! "$PYTHON" -c 'import torch' 2>/dev/null; then
        # shellcheck disable=SC2086
        _quietly "$PYTHON" -m pip install ${POINTINS_TORCH:-torch==2.13.0} || return 2
    fi
    _quietly "$PYTHON" -m pip install -e "$ROOT[$1]" || return 2
    echo "$sum" >"$stamp"
}

# Set PYTHON to an interpreter that has pointins and its extras $1 (comma-separated),
# or, if it is yours, at least the extras $2 (default: $1; `core` is none).
ensure_environment() {
    if [ -n "${POINTINS_PYTHON:-}" ]; then
        PYTHON=$POINTINS_PYTHON
        lacking=$(_missing "$PYTHON" "${2:-$1}") || {
            _say "POINTINS_PYTHON=$PYTHON cannot be used"
            exit 2
        }
        if [ -n "$lacking" ]; then
            _say "$PYTHON lacks $lacking: $PYTHON -m pip install -e '$ROOT[$1]'"
            exit 2
        fi
    elif [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]; then
        _fill_venv "$1" || exit 2
    elif lacking=$(_missing python "${2:-$1}" 2>/dev/null) && [ -z "$lacking" ]; then
        PYTHON=python
    else
        lacking=${lacking:-a Python that is 3.10 or newer}
        if [ -n "${POINTCEPT_ROOT:-}" ] && [ "${POINTINS_HOST:-}" != standalone ]; then
            _say "the active environment lacks $lacking: pip install -e '$ROOT'"
            exit 2
        fi
        _say "the active environment lacks $lacking: taking .venv"
        _fill_venv "$1" || exit 2
    fi
    # The checkout comes first, whatever version of it is installed.
    PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
    # Threads that spin while they wait starve whatever shares their cores.
    OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
    export PYTHON PYTHONPATH OMP_WAIT_POLICY
}
