#!/bin/bash
# Train a small model of all tasks on data/zoo and export it. Usage: tools/zoo/train.sh [MINUTES] [tiny|small]
# The first half of the time sees smaller pictures. Run it again to go on after an interruption.
# Then: tools/zoo/evaluate.sh. To go on from weights with more data: FROM=weights.safetensors tools/zoo/train.sh ...
# PYTHON (python), ZOO (data/zoo), WORK (work_dirs/zoo), PROCESSES (1) and BACKGROUNDS
# (a folder of photographs without people) may be set.
set -euo pipefail
cd "$(dirname "$0")/../.."
MINUTES=${1:-240} SIZE=${2:-tiny}
PYTHON=${PYTHON:-python} ZOO=${ZOO:-data/zoo} WORK=${WORK:-work_dirs/zoo} PROCESSES=${PROCESSES:-1}
export OMP_NUM_THREADS=1 PYTHON

stage() { # NAME CONFIG MINUTES OPTIONS...
    local work="$WORK/$1" config=$2 minutes=$3
    shift 3
    [ ! -e "$work/done" ] || return 0
    local run=("$PYTHON" tools/train.py "$config")
    [ "$PROCESSES" = 1 ] || run=(tools/dist_train.sh "$config" "$PROCESSES")
    "${run[@]}" --resume --precision probe --work-dir "$work" --cfg-options default_hooks.budget.minutes="$minutes" \
        train_dataloader.dataset.data_root="$ZOO/train/" val_dataloader.dataset.data_root="$ZOO/val/" \
        ${BACKGROUNDS:+train_dataloader.dataset.background="$BACKGROUNDS"} "$@"
    touch "$work/done"
}

FIRST=$(ls configs/multitask/sapiens_"${SIZE}"_4tasks_*x*.py) SECOND=configs/multitask/sapiens_${SIZE}_4tasks.py
stage "${SIZE}_first" "$FIRST" "$((MINUTES / 2))" ${FROM:+load_from="$FROM" optim_wrapper.optimizer.lr=1e-3}
stage "${SIZE}_second" "$SECOND" "$((MINUTES - MINUTES / 2))" \
    load_from="$(cat "$WORK/${SIZE}_first/last_checkpoint")" optim_wrapper.optimizer.lr=7e-4
"$PYTHON" tools/convert_checkpoint.py "$(cat "$WORK/${SIZE}_second/last_checkpoint")" \
    "$WORK/sapiens_${SIZE}_4tasks.safetensors" --config "$SECOND" --half --force
