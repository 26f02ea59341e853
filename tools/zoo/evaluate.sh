#!/bin/bash
# Evaluate a model of all tasks: on renders that were kept apart, and on photographs with COCO annotations of persons.
# Usage: tools/zoo/evaluate.sh WEIGHTS ANNOTATIONS.json FOLDER_OF_IMAGES [OUT] [CONFIG]
# EXCLUDE may be set to annotations that were trained on, whose images are left out.
set -euo pipefail
THREADS=${OMP_NUM_THREADS:-1}
. "$(dirname "$0")/stage.sh"
[ $# -ge 3 ] || usage
WEIGHTS=$1 ANNOTATIONS=$2 IMAGES=$3 OUT=${4:-} CONFIG=${5:-}
outputs ZOO OUT
inputs ANNOTATIONS IMAGES EXCLUDE
names WEIGHTS CONFIG
ZOO=${ZOO:-data/zoo} OUT=${OUT:-work_dirs/zoo/evaluation} CONFIG=${CONFIG:-configs/multitask/sapiens_tiny_4tasks.py}
export OMP_NUM_THREADS=$THREADS
"$PYTHON" tools/test.py "$CONFIG" "$WEIGHTS" --work-dir "$OUT" --out "$OUT/renders" \
    --cfg-options test_dataloader.dataset.data_root="$ZOO/val/"
"$PYTHON" tools/zoo/evaluate.py "$ANNOTATIONS" --images "$IMAGES" ${EXCLUDE:+--exclude "$EXCLUDE"} --config "$CONFIG" \
    --weights "$WEIGHTS" --out "$OUT/photos.json"
"$PYTHON" tools/zoo/evaluate.py "$ANNOTATIONS" --images "$IMAGES" --detectors tiny --out "$OUT/detectors.json"
