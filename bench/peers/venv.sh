#!/usr/bin/env bash
# Make build/peers-venv: PyTorch, OpenVINO with NNCF, ONNX Runtime, pinned (about 2 GB).
# torch comes without its CUDA wheels, as in scripts/reference/venv.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
venv=${1:-$root/build/peers-venv}
python=${PYTHON:-python3}

if cmp -s "$here/requirements.txt" "$venv/installed.txt"; then exit 0; fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
grep -v '^torch==' "$here/requirements.txt" | "$venv/bin/pip" install -q -r /dev/stdin
"$venv/bin/pip" install -q --no-deps "$(grep '^torch==' "$here/requirements.txt")"
"$venv/bin/python" "$root/scripts/reference/stub_cuda.py"
"$venv/bin/python" -c 'import nncf, onnxruntime, openvino, torch, transformers'
cp "$here/requirements.txt" "$venv/installed.txt"
