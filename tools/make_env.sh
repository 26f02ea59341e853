#!/bin/sh
# Make the virtual environment of `make demo` and `make test`: the core, the tests and, on Python 3.10 and 3.11,
# the OpenMMLab toolkits. Run again after a change of requirements, it updates what differs.
set -eu
: "${PYTHON:=python3}" "${VENV:=.venv}"
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $version in
    3.10 | 3.11) toolkits='-r requirements/openmmlab.txt' ;;
    3.12 | 3.13 | 3.14) toolkits='' ;;
    *)
        echo "error: Python $version is not supported: install Python 3.10 to 3.14 and run make PYTHON=python3.11" >&2
        exit 1
        ;;
esac
if [ ! -x "$VENV/bin/python" ]; then
    echo "[1/2] making the environment $VENV with Python $version"
    "$PYTHON" -m venv "$VENV"
fi
if [ -n "$toolkits" ]; then
    echo '[2/2] installing the core, the tests, the renderer and the OpenMMLab toolkits (minutes, the first time)'
else
    echo "[2/2] installing the core, the tests and the renderer; the OpenMMLab toolkits need Python 3.10 or 3.11, this is $version"
fi
# shellcheck disable=SC2086  # the variable holds two words
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt \
    $toolkits -e '.[tests,docs]'
"$VENV/bin/python" -m pip check || true
sh tools/headless_opencv.sh "$VENV/bin/python"
