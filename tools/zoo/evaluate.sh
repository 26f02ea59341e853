#!/bin/bash
# Evaluate a model of all tasks: on renders that were kept apart, and on photographs with COCO annotations of persons.
# Usage: tools/zoo/evaluate.sh WEIGHTS ANNOTATIONS.json FOLDER_OF_IMAGES [OUT] [CONFIG]
# EXCLUDE may be set to annotations that were trained on, whose images are left out.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 3 ] || { sed -n 2,4p "$0"; exit 2; }
PYTHON=${PYTHON:-python} ZOO=${ZOO:-data/zoo} OUT=${4:-work_dirs/zoo/evaluation} CONFIG=${5:-configs/multitask/sapiens_tiny_4tasks.py}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
"$PYTHON" tools/test.py "$CONFIG" "$1" --work-dir "$OUT" --out "$OUT/renders" \
    --cfg-options test_dataloader.dataset.data_root="$ZOO/val/"
"$PYTHON" tools/zoo/evaluate.py "$2" --images "$3" ${EXCLUDE:+--exclude "$EXCLUDE"} --config "$CONFIG" \
    --weights "$1" --out "$OUT/photos.json"
"$PYTHON" tools/zoo/evaluate.py "$2" --images "$3" --detectors tiny --out "$OUT/detectors.json"
