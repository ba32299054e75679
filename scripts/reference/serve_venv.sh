#!/bin/sh
# The published clients that scripts/reference/serve_clients.py speaks through, pinned, in build/serve-venv.
set -eu
cd "$(dirname "$0")/../.."
venv=build/serve-venv
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
fi
"$venv/bin/pip" install --quiet --disable-pip-version-check 'openai==3.57.0' 'huggingface_hub==2.4.0' 'requests==2.34.2' 'numpy==2.3.5'
# Its servers' packages (torch, autofaiss) are not needed by the client, which is one file.
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps 'clip-retrieval==2.45.0'
