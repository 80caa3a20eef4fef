#!/usr/bin/env bash
# Check that training and decoding are right, and fast, on one CUDA GPU: bash tests/gpu/check.sh right|fast [--list] [--cpu]
#
# It needs Python 3.12 and torch 2.11 or newer, and no network. WHEELS=FOLDER names a folder with wheels of other packages
# that are missing; they are installed into a temporary folder. tests/gpu/__main__.py describes the options.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# For the processes that the checks start, too. They stay in this folder, so that relative paths mean what they say here.
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1
exec "${PYTHON:-python3}" -m tests.gpu "$@"
