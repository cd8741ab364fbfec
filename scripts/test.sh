#!/bin/sh
# Test a trained model: sh scripts/test.sh -n mosd-insseg-lin [options]
#
#   -d DATASET  folder of the run, and of the config (default: pointins)
#   -n NAME     name of the run (default: the config's)
#   -c CONFIG   pointins/NAME, NAME or a path to a .py file (default: the run's own)
#   -w WEIGHT   a checkpoint of the run by its name (default: model_best, else
#               model_last), or a path to any
#   -g N        processes on this machine (default: its GPUs, or 1)
#   -m N        machines (under Slurm, or with MASTER_ADDR and NODE_RANK)
#   -p PYTHON   interpreter (default: see _environment.sh)
#   -o K=V ...  overrides of the config, up to the end of the line
#
# Paths are relative to the repository. The run lies in exp/DATASET/NAME; scores and
# predictions are written to its folder result/, what is printed to test.log.
set -eu

DATASET= CONFIG= NAME= WEIGHT= GPUS= MACHINES=1 INTERPRETER=
OPTIONS=false
while [ $# -gt 0 ]; do
    case $1 in
    -o) shift; OPTIONS=true; break ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '$d'; exit 0 ;;
    -[pdcnwgm])
        [ $# -ge 2 ] || { echo "pointins: error: $1 needs a value" >&2; exit 2; }
        case $1 in
        -p) INTERPRETER=$2 ;; -d) DATASET=$2 ;; -c) CONFIG=$2 ;; -n) NAME=$2 ;;
        -w) WEIGHT=$2 ;; -g) GPUS=$2 ;; -m) MACHINES=$2 ;;
        esac
        shift 2 ;;
    *) echo "pointins: error: unknown option $1; see sh scripts/test.sh -h" >&2
        exit 2 ;;
    esac
done
[ -n "$NAME$CONFIG" ] || {
    echo "pointins: error: name a run: -n mosd-insseg-lin" >&2
    exit 2
}

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
'') DATASET=${DATASET:-pointins} ;;
*/*) [ -n "$DATASET" ] || DATASET=$(basename "$(dirname "$CONFIG")") ;;
*) DATASET=${DATASET:-pointins} CONFIG=$DATASET/$CONFIG ;;
esac
[ -n "$NAME" ] || NAME=$(basename "$CONFIG" .py)
RUN=exp/$DATASET/$NAME
CONFIG=${CONFIG:-$RUN/config.py}
if [ -z "$WEIGHT" ]; then
    WEIGHT=$RUN/model/model_best.pth
    [ -f "$WEIGHT" ] || WEIGHT=$RUN/model/model_last.pth
elif [ ! -f "$WEIGHT" ]; then
    case $WEIGHT in
    */*) ;;
    *) WEIGHT=$RUN/model/${WEIGHT%.pth}.pth ;;
    esac
fi
count_gpus
find_machines "$RUN"

PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
if [ "$OPTIONS" = false ]; then
    set --
fi
# shellcheck disable=SC2086
exec $PYTHON -c "$COMMAND" test --config-file "$CONFIG" \
    --num-gpus "$GPUS" --num-machines "$MACHINES" \
    --machine-rank "$NODE" --dist-url "$URL" \
    --options save_path="$RUN" weight="$WEIGHT" "$@"
