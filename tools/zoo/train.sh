#!/bin/bash
# Train a small model of all tasks on data/zoo and export it. Usage: tools/zoo/train.sh [MINUTES] [tiny|small]
# The first part of the time sees smaller pictures. Run it again to go on after an interruption.
# Then: tools/zoo/evaluate.sh. To go on from weights with more data: FROM=weights.safetensors tools/zoo/train.sh ...
# PYTHON (python), ZOO (data/zoo), WORK (work_dirs/zoo), PROCESSES (1), BACKGROUNDS (a folder of photographs without
# people) and, for a last stage of tiny with photographs among the renders, PEOPLE (COCO annotations with outlines), IMAGES
# (their folder) and FRAMES (a folder of frames of one person each) may be set.
set -euo pipefail
cd "$(dirname "$0")/../.."
MINUTES=${1:-240} SIZE=${2:-tiny}
PYTHON=${PYTHON:-python} ZOO=${ZOO:-data/zoo} WORK=${WORK:-work_dirs/zoo} PROCESSES=${PROCESSES:-1}
export OMP_NUM_THREADS=1 PYTHON
[ -z "${PEOPLE:-}" ] || [ -n "${IMAGES:-}" ] && [ "$SIZE" = tiny ] || { sed -n 2,7p "$0"; exit 2; }

stage() { # NAME CONFIG MINUTES DATASET OPTIONS...
    local work="$WORK/$1" config=$2 minutes=$3 data=$4
    shift 4
    [ ! -e "$work/done" ] || return 0
    local run=("$PYTHON" tools/train.py "$config")
    [ "$PROCESSES" = 1 ] || run=(tools/dist_train.sh "$config" "$PROCESSES")
    "${run[@]}" --resume --precision probe --work-dir "$work" --cfg-options default_hooks.budget.minutes="$minutes" \
        "$data.data_root=$ZOO/train/" val_dataloader.dataset.data_root="$ZOO/val/" \
        ${BACKGROUNDS:+"$data.background=$BACKGROUNDS"} "$@"
    touch "$work/done"
}

last() { cat "$WORK/${SIZE}_$1/last_checkpoint"; }

FIRST=$(ls configs/multitask/sapiens_"${SIZE}"_4tasks_*x*.py) SECOND=configs/multitask/sapiens_${SIZE}_4tasks.py
STAGES=$([ -n "${PEOPLE:-}" ] && echo 3 || echo 2) DATA=train_dataloader.dataset
PART=$((MINUTES / STAGES)) LAST=second
stage "${SIZE}_first" "$FIRST" "$PART" $DATA ${FROM:+load_from="$FROM" optim_wrapper.optimizer.lr=1e-3}
stage "${SIZE}_second" "$SECOND" "$((STAGES == 3 ? PART : MINUTES - PART))" $DATA load_from="$(last first)" \
    optim_wrapper.optimizer.lr=7e-4 ${PEOPLE:+default_hooks.budget.final=0.8}
if [ -n "${PEOPLE:-}" ]; then
    LAST=third CUTOUTS=$ZOO/cutouts PHOTOS=$DATA.datasets
    [ -n "${FRAMES:-}" ] || CUTOUTS=$ZOO/people
    "$PYTHON" tools/zoo/outlines.py "$PEOPLE" --images "$IMAGES" --out "$ZOO/people"
    [ -z "${FRAMES:-}" ] || [ -e "$ZOO/cutouts/manifest.jsonl" ] ||
        "$PYTHON" tools/zoo/cutouts.py "$FRAMES"/* --out "$ZOO/cutouts" --config "$SECOND" --weights "$(last second)"
    stage "${SIZE}_third" "${SECOND%.py}_photos.py" "$((MINUTES - 2 * PART))" $PHOTOS.0 \
        load_from="$(last second)" optim_wrapper.optimizer.lr=6e-4 $PHOTOS.1.dataset.data_root="$ZOO/people/" \
        $PHOTOS.2.dataset.ann_file="$PEOPLE" $PHOTOS.2.dataset.data_prefix.img="$IMAGES" \
        $PHOTOS.3.dataset.data_root="$CUTOUTS/" ${BACKGROUNDS:+"$PHOTOS.1.dataset.background=$BACKGROUNDS"} \
        ${BACKGROUNDS:+"$PHOTOS.3.dataset.background=$BACKGROUNDS"}
fi
"$PYTHON" tools/convert_checkpoint.py "$(last $LAST)" "$WORK/sapiens_${SIZE}_4tasks.safetensors" \
    --config "$SECOND" --half --force
