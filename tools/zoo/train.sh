#!/bin/bash
# Train a small model of all tasks on data/zoo and export it. Usage: tools/zoo/train.sh [MINUTES] [tiny|small]
# The first parts of the time see smaller pictures. Run it again to go on after an interruption.
# Then: tools/zoo/evaluate.sh. To go on from weights with more data: FROM=weights.safetensors tools/zoo/train.sh ...
# PYTHON (python), ZOO (data/zoo), WORK (work_dirs/zoo), PROCESSES (1), for a GPU BATCH, WORKERS and, with FROM, RATE
# (the batch's size, processes that read, the learning rate to begin with), BACKGROUNDS (a folder of photographs without
# people) and, for a last stage of tiny with photographs among the renders, PEOPLE (COCO annotations with outlines), IMAGES
# (their folder) and FRAMES (a folder of frames of one person each) may be set.
set -euo pipefail
. "$(dirname "$0")/stage.sh"
outputs ZOO WORK
inputs BACKGROUNDS PEOPLE IMAGES FRAMES
names FROM
MINUTES=$(share "${1:-240}" 1) SIZE=${2:-tiny}
ZOO=${ZOO:-data/zoo} WORK=${WORK:-work_dirs/zoo}
[ -z "${PEOPLE:-}" ] || [ -n "${IMAGES:-}" ] && [ "$SIZE" = tiny ] || usage

MAIN=configs/multitask/sapiens_${SIZE}_4tasks.py DATA=train_dataloader.dataset DONE=${FROM:-}
VAL=val_dataloader.dataset.data_root=$ZOO/val/
[ -e "$MAIN" ] || usage
mapfile -t STAGES < <(ls "${MAIN%.py}"_*x*.py | sort -V)
STAGES+=("$MAIN")
PART=$(share "$MINUTES" $((${#STAGES[@]} + ${PEOPLE:+1}+0))) RATE=${RATE:-${FROM:+1e-3}}
for config in "${STAGES[@]}"; do
    name=$(basename "$config" .py)
    stage "$WORK/$name" "$config" "$PART" $DATA "$VAL" ${DONE:+load_from="$DONE"} ${RATE:+optim_wrapper.optimizer.lr="$RATE"} \
        $([ "$config" != "$MAIN" ] || echo ${PEOPLE:+default_hooks.budget.final=0.8})
    DONE=$(cat "$WORK/$name/last_checkpoint") RATE=7e-4
done
if [ -n "${PEOPLE:-}" ]; then
    name=sapiens_${SIZE}_4tasks_photos CUTOUTS=$ZOO/cutouts PHOTOS=$DATA.datasets
    [ -n "${FRAMES:-}" ] || CUTOUTS=$ZOO/people
    "$PYTHON" tools/zoo/outlines.py "$PEOPLE" --images "$IMAGES" --out "$ZOO/people"
    [ -z "${FRAMES:-}" ] || [ -e "$ZOO/cutouts/manifest.jsonl" ] ||
        "$PYTHON" tools/zoo/cutouts.py "$FRAMES"/* --out "$ZOO/cutouts" --config "$MAIN" --weights "$DONE"
    stage "$WORK/$name" "${MAIN%.py}_photos.py" "$PART" $PHOTOS.0 "$VAL" \
        load_from="$DONE" optim_wrapper.optimizer.lr=6e-4 $PHOTOS.1.dataset.data_root="$ZOO/people/" \
        $PHOTOS.2.dataset.ann_file="$PEOPLE" $PHOTOS.2.dataset.data_prefix.img="$IMAGES" \
        $PHOTOS.3.dataset.data_root="$CUTOUTS/" ${BACKGROUNDS:+"$PHOTOS.1.dataset.background=$BACKGROUNDS"} \
        ${BACKGROUNDS:+"$PHOTOS.3.dataset.background=$BACKGROUNDS"}
    DONE=$(cat "$WORK/$name/last_checkpoint")
fi
"$PYTHON" tools/convert_checkpoint.py "$DONE" "$WORK/sapiens_${SIZE}_4tasks.safetensors" \
    --config "$MAIN" --half --force
