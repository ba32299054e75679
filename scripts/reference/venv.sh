#!/usr/bin/env bash
# Make .venv at the repository root: PyTorch (CPU), transformers, Pillow, pinned.
# torch comes without its CUDA wheels (several GB); stub_cuda.py stands in for them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/../../.venv}
python=${PYTHON:-python3}

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
grep -v '^torch==' "$here/requirements.txt" | "$venv/bin/pip" install -q -r /dev/stdin
"$venv/bin/pip" install -q --no-deps "$(grep '^torch==' "$here/requirements.txt")"
"$venv/bin/python" "$here/stub_cuda.py"
"$venv/bin/python" -c 'import torch, transformers; print(torch.__version__, transformers.__version__)'
