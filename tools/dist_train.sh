#!/usr/bin/env bash
# Train in several processes on this machine: one per GPU or, without GPUs, on the CPU (gloo).
# Usage: tools/dist_train.sh CONFIG PROCESSES [options of tools/train.py]
# Several machines: the same command on each with NNODES, NODE_RANK, MASTER_ADDR (and MASTER_PORT) set.
set -eu
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
config=$1
processes=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
exec "${PYTHON:-python}" "$here/launch.py" "$processes" "$here/train.py" "$config" --launcher pytorch "$@"
