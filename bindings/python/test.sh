#!/usr/bin/env bash
# Builds the wheel, installs it into a fresh virtual environment, and tests it there:
#   bindings/python/test.sh [pytest arguments]
# With ALTCLIP_FULL=1 also what needs torch, mteb, Ray and notebooks (2 GB of packages).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
work=$root/build/python
python=${PYTHON:-python3}
pip=(-m pip install --quiet --disable-pip-version-check)

"$here/wheel.sh" "$work/wheels"
"$python" -m venv --clear "$work/venv"
venv=$work/venv/bin/python
"$venv" "${pip[@]}" -r "$here/requirements-test.txt" "$work"/wheels/altclip-*.whl
if [ -n "${ALTCLIP_FULL:-}" ]; then
    grep -v '^torch==' "$here/requirements-full.txt" | "$venv" "${pip[@]}" -r /dev/stdin
    "$venv" "${pip[@]}" --no-deps "$(grep '^torch==' "$here/requirements-full.txt")"
    "$venv" "${pip[@]}" --no-deps -r "$here/requirements-mteb.txt"
    "$venv" "$root/scripts/reference/stub_cuda.py"
fi

# The bits are compared with those of the program, where it was built.
if [ -x "$root/target/release/altclip" ]; then
    export ALTCLIP_PROGRAM=$root/target/release/altclip
fi
cd "$here"
"$venv" -m pytest -p no:cacheprovider "$@"
# The types that the package states are those that it has.
"$venv" -m mypy --cache-dir "$work/mypy"
"$work/venv/bin/stubtest" altclip._native --mypy-config-file pyproject.toml
