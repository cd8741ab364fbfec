#!/bin/sh
# Train: sh scripts/train.sh -c pointins/scannet-pretrain [options]
#
#   -c CONFIG   pointins/NAME, NAME (with -d pointins) or a path to a .py file
#   -d DATASET  folder of the config and of the run (default: the config's)
#   -n NAME     name of the run (default: the config's)
#   -w WEIGHT   checkpoint to start from
#   -r true     go on with the run of this name from its last checkpoint
#   -g N        processes on this machine (default: its GPUs, or 1)
#   -m N        machines (under Slurm, or with MASTER_ADDR and NODE_RANK)
#   -p PYTHON   interpreter (default: see _environment.sh)
#   -o K=V ...  overrides of the config, up to the end of the line
#
# Paths are relative to the repository. The run lies in exp/DATASET/NAME: config.py, train.log,
# metrics.jsonl, model/, and code/, the plugin as it was, with Pointcept beside it where
# POINTCEPT_ROOT names a checkout or PYTHONPATH holds one.
set -eu

DATASET= CONFIG= NAME= WEIGHT=None RESUME=false GPUS= MACHINES=1 INTERPRETER=
OPTIONS=false
while [ $# -gt 0 ]; do
    case $1 in
    -o) shift; OPTIONS=true; break ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '$d'; exit 0 ;;
    -[pdcnwgmr])
        [ $# -ge 2 ] || { echo "pointins: error: $1 needs a value" >&2; exit 2; }
        case $1 in
        -p) INTERPRETER=$2 ;; -d) DATASET=$2 ;; -c) CONFIG=$2 ;; -n) NAME=$2 ;;
        -w) WEIGHT=$2 ;; -g) GPUS=$2 ;; -m) MACHINES=$2 ;; -r) RESUME=$2 ;;
        esac
        shift 2 ;;
    *) echo "pointins: error: unknown option $1; see sh scripts/train.sh -h" >&2
        exit 2 ;;
    esac
done
[ -n "$CONFIG" ] || {
    echo "pointins: error: name a config: -c pointins/demo-pretrain" >&2
    exit 2
}
case $RESUME in
true | false) ;;
*) echo "pointins: error: -r is true or false, not $RESUME" >&2; exit 2 ;;
esac

if [ -n "$INTERPRETER" ]; then
    PYTHON=$INTERPRETER
    ROOT=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
else
    . "$(dirname "$0")/_environment.sh"
    ensure_environment demo core
fi
. "$(dirname "$0")/_launch.sh"
POINTCEPT=$(sh "$ROOT/scripts/_pointcept.sh")

cd "$ROOT"
find_data
case $CONFIG in
*/*) [ -n "$DATASET" ] || DATASET=$(basename "$(dirname "$CONFIG")") ;;
*) DATASET=${DATASET:-pointins} CONFIG=$DATASET/$CONFIG ;;
esac
[ -n "$NAME" ] || NAME=$(basename "$CONFIG" .py)
RUN=exp/$DATASET/$NAME
count_gpus
find_machines "$RUN"

if [ "$RESUME" = true ] && [ -f "$RUN/model/model_last.pth" ]; then
    CONFIG=$RUN/config.py
    WEIGHT=$RUN/model/model_last.pth
    CODE=$ROOT/$RUN/code
    [ -d "$CODE/pointins_plugin" ] || CODE=$ROOT
else
    if [ "$RESUME" = true ]; then
        echo "pointins: $RUN has no checkpoint yet: starting afresh" >&2
        RESUME=false
    fi
    CODE=$ROOT
    # A config that is not there leaves nothing behind: the command says what is wrong.
    if [ -f "$CONFIG" ] || [ -f "configs/${CONFIG%.py}.py" ]; then
        CODE=$ROOT/$RUN/code
        mkdir -p "$RUN/model"
        rm -rf "$CODE"
        mkdir -p "$CODE"
        tar cf - --exclude=__pycache__ setup.py scripts configs pointins_plugin |
            (cd "$CODE" && tar xf -)
        if [ -n "$POINTCEPT" ]; then
            (cd "$POINTCEPT" && tar cf - --exclude=__pycache__ pointcept tools libs) |
                (cd "$CODE" && tar xf -)
        fi
    fi
fi
if [ -n "$POINTCEPT" ] && [ -d "$CODE/pointcept" ]; then
    POINTCEPT_ROOT=$CODE
    export POINTCEPT_ROOT
fi

# Behind the snapshot, what a config of your own imports from here.
PYTHONPATH=$CODE:$ROOT${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
if [ "$OPTIONS" = false ]; then
    set --
fi
# shellcheck disable=SC2086
exec $PYTHON -c "$COMMAND" train --config-file "$CONFIG" \
    --num-gpus "$GPUS" --num-machines "$MACHINES" \
    --machine-rank "$NODE" --dist-url "$URL" \
    --options save_path="$RUN" resume="$RESUME" weight="$WEIGHT" "$@"
