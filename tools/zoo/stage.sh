# For train.sh and detector.sh, which set PYTHON, ZOO and, if they like, BACKGROUNDS, PROCESSES, BATCH and WORKERS.
export OMP_NUM_THREADS=1

stage() { # FOLDER CONFIG MINUTES DATASET OPTIONS...: train in a folder, once; after an interruption it goes on
    local work=$1 config=$2 minutes=$3 data=$4
    shift 4
    [ ! -e "$work/done" ] || return 0
    local run=("$PYTHON" tools/train.py "$config")
    [ "${PROCESSES:-1}" = 1 ] || run=(tools/dist_train.sh "$config" "$PROCESSES")
    "${run[@]}" --resume --precision probe --work-dir "$work" --cfg-options default_hooks.budget.minutes="$minutes" \
        "$data.data_root=$ZOO/train/" ${BACKGROUNDS:+"$data.background=$BACKGROUNDS"} \
        ${BATCH:+train_dataloader.batch_size="$BATCH"} \
        ${WORKERS:+train_dataloader.num_workers="$WORKERS" train_dataloader.persistent_workers=True} "$@"
    touch "$work/done"
}
