# Sourced by the scripts beside it: what starts a run, how many processes it has, where
# they meet and where its data lie.

# `python -c "$COMMAND" train ...`: the command `pointins` of the first plugin in
# PYTHONPATH. `python -m` would prefer the one in the current folder.
COMMAND='import sys
sys.argv[0] = "pointins"
sys.path[:] = [folder for folder in sys.path if folder]
from pointins_plugin.cli import main
sys.exit(main())'

# Set POINTINS_DATA to the data of the checkout $POINTCEPT, if there is one and no other
# folder of data.
find_data() {
    [ -n "$POINTCEPT" ] || return 0
    if [ -z "${POINTINS_DATA:-}" ] && [ ! -e data ] && [ -d "$POINTCEPT/data" ]; then
        POINTINS_DATA=$POINTCEPT/data
        export POINTINS_DATA
        echo "pointins: data are read from $POINTINS_DATA" >&2
    fi
}

# Set GPUS, if empty, to the GPUs of this machine, or 1.
count_gpus() {
    if [ -z "$GPUS" ]; then
        # shellcheck disable=SC2086
        GPUS=$($PYTHON -c 'import torch; print(max(torch.cuda.device_count(), 1))')
    fi
}

# Set URL and NODE for the run named $1: from Slurm's variables, or from MASTER_ADDR,
# MASTER_PORT and NODE_RANK.
find_machines() {
    URL=auto
    NODE=${SLURM_NODEID:-${NODE_RANK:-0}}
    PORT=$((10000 + $(printf %s "$1" | cksum | cut -d ' ' -f 1) % 20000))
    if [ -n "${SLURM_NODELIST:-}" ]; then
        HOST=$(scontrol show hostname "$SLURM_NODELIST" | head -n 1)
        URL=tcp://$HOST:$PORT
    elif [ "$MACHINES" != 1 ] && [ -n "${MASTER_ADDR:-}" ]; then
        URL=tcp://$MASTER_ADDR:${MASTER_PORT:-$PORT}
    fi
}
