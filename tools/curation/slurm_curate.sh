#!/usr/bin/env bash
#SBATCH --ntasks-per-node=1 --exclusive
# Curate on the machines of a Slurm job, with one Ray over all of them. The same command continues a job that ended early.
# Usage: sbatch --nodes=16 [options of sbatch] tools/curation/slurm_curate.sh CONFIG SOURCE OUT [options of sapiens curate]
set -eu
if [ $# -lt 3 ]; then
    sed -n '3,4s/^# //p' "$0" >&2
    exit 2
fi
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))
others=$((SLURM_NNODES - 1))
# Other users of the machines must not run code in this Ray.
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

start_ray() {
    srun --overlap --cpus-per-task="$SLURM_CPUS_ON_NODE" "$@" --block &
}

wait_for() { # machines
    for _ in $(seq "${TRIES:-150}"); do
        if [ "$(ray status --address="$head:$port" 2>/dev/null | grep -c ' node_')" -ge "$1" ]; then
            return
        fi
        sleep 2
    done
    echo "error: Ray did not come up on $1 of $SLURM_NNODES machines; ray start says above why" >&2
    exit 1
}

# The jobs are what start_ray left in the background.
# shellcheck disable=SC2046
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
start_ray --nodes=1 --ntasks=1 --nodelist="$head" ray start --head --port="$port"
wait_for 1
if [ "$others" -gt 0 ]; then
    start_ray --nodes="$others" --ntasks="$others" --exclude="$head" ray start --address="$head:$port"
    wait_for "$SLURM_NNODES"
fi
sapiens curate "$@" --address "$head:$port"
