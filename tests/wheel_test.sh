#!/bin/sh
# The wheel is pure Python with its weights inside: install it in an empty environment and use it from another folder,
# with the network cut off. Usage: sh tests/wheel_test.sh PYTHON, from the repository's root.
set -eu
python=$1
root=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

PIP_CONSTRAINT="$root/constraints.txt" "$python" -m build --wheel --outdir "$work/dist" . >"$work/build.log" 2>&1 || {
    cat "$work/build.log"
    exit 1
}
wheel=$(ls "$work"/dist/*.whl)
case $wheel in
*-py3-none-any.whl) ;;
*) echo "not pure Python: $wheel" && exit 1 ;;
esac

"$python" -m venv "$work/env"
PIP_CONSTRAINT="$root/constraints.txt" PIP_DISABLE_PIP_VERSION_CHECK=1 \
    "$work/env/bin/python" -m pip install --quiet "$wheel"

mkdir "$work/elsewhere"
cp "$root/examples/osprey.jpg" "$work/elsewhere/photo.jpg"
cd "$work/elsewhere"
cat >offline.py <<'PYTHON'
"""Run the command with every attempt to reach the network refused, then look at the result."""

import socket
import sys


def refuse(*_arguments, **_settings):
    raise RuntimeError("the network was asked for")


socket.socket.connect = socket.getaddrinfo = refuse

import hat_sr
from hat_sr.cli import main

assert "elsewhere" not in hat_sr.__file__ and "site-packages" in hat_sr.__file__, hat_sr.__file__
try:
    main()
except SystemExit as stopped:
    assert stopped.code == 0, stopped.code
from hat_sr.image.io import read_image

large = read_image("large.png")
assert (large.width, large.height) == (1000, 667), (large.width, large.height)
print("wheel test: 1 passed, 0 failed")
PYTHON
"$work/env/bin/python" offline.py upscale photo.jpg -o large.png --size 1000x
