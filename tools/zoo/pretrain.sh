#!/bin/bash
# Pretrain the encoder of a small model by masked autoencoding on data/zoo. Usage: tools/zoo/pretrain.sh [MINUTES] [tiny|small]
# Run it again to go on after an interruption. Then: FROM=$WORK/SIZE_mae/last.pth tools/zoo/train.sh ... (printed at the end).
# PYTHON (python), ZOO (data/zoo), WORK (work_dirs/zoo) and BACKGROUNDS (a folder of photographs without people) may be set.
set -euo pipefail
. "$(dirname "$0")/stage.sh"
outputs ZOO WORK
inputs BACKGROUNDS
MINUTES=$(share "${1:-60}" 1) SIZE=${2:-tiny}
ZOO=${ZOO:-data/zoo} WORK=${WORK:-work_dirs/zoo}
"$PYTHON" tools/train.py configs/pretrain/sapiens_tiny_zoo_mae.py --resume --precision probe --work-dir "$WORK/${SIZE}_mae" \
    --cfg-options default_hooks.budget.minutes="$MINUTES" model.backbone.arch="$SIZE" \
    train_dataloader.dataset.data_root="$ZOO/train/" ${BACKGROUNDS:+train_dataloader.dataset.background="$BACKGROUNDS"}
printf 'FROM=%q tools/zoo/train.sh 240 %s\n' "$(cat "$WORK/${SIZE}_mae/last_checkpoint")" "$SIZE"
