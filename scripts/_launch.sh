# Sourced by the scripts beside it: how many processes a run has and where they meet.

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
