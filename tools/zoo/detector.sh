#!/bin/bash
# Train the detector of people on data/zoo and export it. Usage: BACKGROUNDS=FOLDER tools/zoo/detector.sh [MINUTES]
# BACKGROUNDS is a folder of photographs without people. After tools/zoo/train.sh with PEOPLE, half of the time sees
# people of photographs too. Run it again to go on after an interruption.
# PYTHON (python), ZOO (data/zoo), WORK (work_dirs/zoo), for a GPU BATCH and WORKERS, and FROM (the model whose first layers it
# begins with) may be set.
set -euo pipefail
. "$(dirname "$0")/stage.sh"
outputs ZOO WORK
inputs BACKGROUNDS
names FROM
ZOO=${ZOO:-data/zoo} WORK=${WORK:-work_dirs/zoo} CONFIG=configs/detection/sapiens_tiny_persons.py
[ -d "${BACKGROUNDS:-}" ] || usage
PHOTOS=$([ ! -e "$ZOO/people/manifest.jsonl" ] || echo 1)
MINUTES=$(share "${1:-60}" $((1 + PHOTOS))) DATA=train_dataloader.dataset RUNS=$WORK/persons

stage "$RUNS/renders" "$CONFIG" "$MINUTES" $DATA load_from="${FROM:-tiny}" "load_skip=['neck.','heads.']" ${PHOTOS:+default_hooks.budget.final=0.8}
LAST=renders
if [ -n "$PHOTOS" ]; then
    LAST=photos PEOPLE=$DATA.datasets.1.dataset CUTOUTS=$DATA.datasets.2.dataset FOUND=$ZOO/cutouts/
    [ -e "$FOUND/manifest.jsonl" ] || FOUND=$ZOO/people/
    stage "$RUNS/photos" "${CONFIG%.py}_photos.py" "$MINUTES" $DATA.datasets.0 load_from="$(cat "$RUNS/renders/last_checkpoint")" \
        $PEOPLE.data_root="$ZOO/people/" $PEOPLE.background="$BACKGROUNDS" \
        $CUTOUTS.data_root="$FOUND" $CUTOUTS.background="$BACKGROUNDS"
fi
"$PYTHON" tools/convert_checkpoint.py "$(cat "$RUNS/$LAST/last_checkpoint")" "$WORK/sapiens_tiny_persons.safetensors" \
    --config "$CONFIG" --half --force
echo "If it is to ship: tools/curation/calibrate.py says what its scores are worth in configs/curation/humans_offline.py"
