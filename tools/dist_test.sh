#!/usr/bin/env bash
# Test in several processes on this machine: one per GPU or, without GPUs, on the CPU (gloo).
# Usage: tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [options of tools/test.py]
set -eu
if [ $# -lt 3 ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
config=$1
checkpoint=$2
processes=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
exec "${PYTHON:-python}" "$here/launch.py" "$processes" "$here/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
