# What the scripts beside it share. They source it first, in the folder in which they were called; it goes to the root of
# the repository. A path that was given is one from the caller's folder.
HERE=$PWD SCRIPT=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
cd "$(dirname "$SCRIPT")/../.."
PYTHON=${PYTHON:-python}
export OMP_NUM_THREADS=1 PYTHON

usage() { # print the script's header
    sed -n '/^# /p; /^set/q' "$SCRIPT" >&2
    exit 2
}

names() { # VARIABLE...: each may hold a path or a name, of weights, say
    local name
    for name; do
        [ ! -e "$HERE/${!name:-/}" ] || outputs "$name"
    done
}

outputs() { # VARIABLE...: each holds nothing or a path
    local name
    for name; do
        case ${!name:-/} in /*) ;; *) printf -v "$name" %s "$HERE/${!name}" ;; esac
    done
}

inputs() { # VARIABLE...: each holds nothing or a path at which there is something
    local name
    outputs "$@"
    for name; do
        [ -e "${!name:-/}" ] || { echo "error: $name=${!name}: no such file or folder" >&2; exit 1; }
    done
}

share() { # MINUTES PARTS: minutes of a part, which need not be whole
    [[ $1 =~ ^[0-9]+([.][0-9]+)?$ ]] || usage
    LC_ALL=C awk -v minutes="$1" -v parts="$2" 'BEGIN { print minutes / parts }'
}

stage() { # FOLDER CONFIG MINUTES DATASET OPTIONS...: train in a folder, once; after an interruption it goes on
    local work=$1 config=$2 minutes=$3 data=$4
    shift 4
    [ ! -e "$work/done" ] || { echo "$work: trained before; remove it to train again"; return 0; }
    local run=("$PYTHON" tools/train.py "$config")
    [ "${PROCESSES:-1}" = 1 ] || run=(tools/dist_train.sh "$config" "$PROCESSES")
    "${run[@]}" --resume --precision probe --work-dir "$work" --cfg-options default_hooks.budget.minutes="$minutes" \
        "$data.data_root=$ZOO/train/" ${BACKGROUNDS:+"$data.background=$BACKGROUNDS"} \
        ${BATCH:+train_dataloader.batch_size="$BATCH"} \
        ${WORKERS:+train_dataloader.num_workers="$WORKERS" train_dataloader.persistent_workers=True} "$@"
    touch "$work/done"
}

case $PYTHON in */*) inputs PYTHON ;; esac
