#!/usr/bin/env bash
# Train as a Slurm job, on one machine or several. Two minutes before the time limit, and on preemption, every process
# saves and leaves with exit code 75; the job then requeues itself and continues.
# Usage: [NODES=2] [GPUS_PER_NODE=8] [CPUS_PER_TASK=8] [SBATCH_ARGS='--time=12:00:00'] \
#            tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of tools/train.py]
set -eu
if [ $# -lt 3 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
fi
partition=$1
name=$2
config=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
gpus=${GPUS_PER_NODE:-8}
# shellcheck disable=SC2086  # SBATCH_ARGS holds several words
exec sbatch --partition="$partition" --job-name="$name" --nodes="${NODES:-1}" --ntasks-per-node="$gpus" \
    --gres="gpu:$gpus" --cpus-per-task="${CPUS_PER_TASK:-8}" --signal=USR1@120 --requeue --open-mode=append \
    --output="${name}_%j.log" ${SBATCH_ARGS:-} "$here/slurm_job.sh" "$here/train.py" "$config" "$@"
