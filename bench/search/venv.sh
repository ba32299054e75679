#!/bin/sh
# The pinned Python environment of the search benchmark in build/search-venv.
set -eu
cd "$(dirname "$0")/../.."
[ -x build/search-venv/bin/python ] || python3 -m venv build/search-venv
build/search-venv/bin/pip install --quiet --disable-pip-version-check -r bench/search/requirements.txt
