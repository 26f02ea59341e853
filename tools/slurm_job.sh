#!/usr/bin/env bash
# What tools/slurm_train.sh submits: start one process per task, and requeue the job when they ask for it (code 75).
script=$1
config=$2
shift 2
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
srun --kill-on-bad-exit=0 "${PYTHON:-python}" "$script" "$config" --launcher slurm --resume "$@"
code=$?
if [ "$code" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
