#!/bin/sh
# Usage: headless_opencv.sh PYTHON. OpenCV's usual wheel, which mmengine asks for, needs libraries of a desktop
# (libGL, libxcb, glib). In a container or on a server that has none, its wheel without windows takes its place.
set -eu
if why=$("$1" -c 'import cv2' 2>&1); then exit 0; fi
case $why in
    *'cannot open shared object file'*) ;;
    *) exit 0 ;; # another failure shows where OpenCV is used
esac
version=$("$1" -c 'from importlib.metadata import version; print(version("opencv-python"))')
echo "$(echo "$why" | tail -n 1): installing opencv-python-headless $version in place of opencv-python"
"$1" -m pip uninstall --quiet --yes opencv-python opencv-python-headless
"$1" -m pip install --quiet --disable-pip-version-check --no-deps "opencv-python-headless==$version"
