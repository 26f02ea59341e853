#!/bin/bash
# Train the detector of people on data/zoo and export it. Usage: BACKGROUNDS=FOLDER tools/zoo/detector.sh [MINUTES]
# BACKGROUNDS is a folder of photographs without people. Run it again to go on after an interruption.
# PYTHON (python), ZOO (data/zoo), WORK (work_dirs/zoo) and FROM (the model whose first layers it begins with) may be set.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python} ZOO=${ZOO:-data/zoo} WORK=${WORK:-work_dirs/zoo} CONFIG=configs/detection/sapiens_tiny_persons.py
export OMP_NUM_THREADS=1
[ -d "${BACKGROUNDS:-}" ] || { sed -n 2,3p "$0"; exit 2; }
"$PYTHON" tools/train.py "$CONFIG" --resume --precision probe --work-dir "$WORK/persons" --cfg-options \
    default_hooks.budget.minutes="${1:-60}" load_from="${FROM:-tiny}" "load_skip=['neck.','heads.']" \
    train_dataloader.dataset.data_root="$ZOO/train/" train_dataloader.dataset.background="$BACKGROUNDS"
"$PYTHON" tools/convert_checkpoint.py "$(cat "$WORK/persons/last_checkpoint")" "$WORK/sapiens_tiny_persons.safetensors" \
    --config "$CONFIG" --half --force
