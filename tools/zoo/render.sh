#!/bin/bash
# Render what the small models learn from, into data/zoo. Usage: tools/zoo/render.sh [MINUTES]
# Run it again to go on: finished pictures stay. After every run, data/zoo/train and data/zoo/val list all that is there.
# PYTHON (python), ZOO (data/zoo), WORKERS (all cores), ASSETS (data/assets), BACKGROUNDS (a folder of photographs
# without people, to stand in front of), HDRIS (a folder of equirectangular .hdr pictures: polyhaven.com has them, CC0)
# and SCALE (1; 0.01 makes hundredths of the sets) may be set.
set -euo pipefail
. "$(dirname "$0")/stage.sh"
outputs ZOO
inputs BACKGROUNDS HDRIS
[ "${ASSETS:-}" = fixture ] || outputs ASSETS
MINUTES=$(share "${1:-100000}" 1)
ZOO=${ZOO:-data/zoo} WORKERS=${WORKERS:-$(OMP_NUM_THREADS= nproc)} ASSETS=${ASSETS:-data/assets}
END=$(($(date +%s) + $(LC_ALL=C awk "BEGIN { print int($MINUTES * 60) }")))
export NUMBA_NUM_THREADS=1

render() { # NAME NUMBER OPTIONS...
    local name=$1 left=$((END - $(date +%s))) number status=0
    number=$("$PYTHON" -c "print(max(2, round($2 * ${SCALE:-1})))")
    shift 2
    [ "$left" -gt 0 ] || return 0
    # The signal lets the writer list what it has. In the background Ctrl-C would not reach it.
    timeout --foreground "$left" "$PYTHON" tools/synthesis/render.py --out "$ZOO/renders/$name" --num "$number" \
        --size 256x192 --workers "$WORKERS" --assets "$ASSETS" "$@" || status=$?
    "$PYTHON" tools/zoo/list_sets.py "$ZOO" || [ "$status" != 0 ]
    case $status in 0 | 124) ;; *) exit "$status" ;; esac # 124: the time is over
}

[ "$ASSETS" = fixture ] || [ -e "$ASSETS/manifest.json" ] || "$PYTHON" tools/synthesis/prepare_assets.py --out "$ASSETS"
render base 6000 --persons 1-3 --seed 100
render more1 8000 --persons 1-4 --seed 200 --val-fraction 0.01
[ -z "${BACKGROUNDS:-}" ] || render photos 6000 --persons 1-4 --seed 300 --val-fraction 0.01 --backgrounds "$BACKGROUNDS"
[ -z "${HDRIS:-}" ] || render hdris 6000 --persons 1-4 --seed 500 --val-fraction 0.01 --hdris "$HDRIS"
render more2 12000 --persons 1-4 --seed 400 --val-fraction 0.01
