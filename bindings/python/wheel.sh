#!/usr/bin/env bash
# Builds the wheel with the profile of everything else: bindings/python/wheel.sh FOLDER [maturin arguments]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
out=$1
shift
tools=$root/build/python/tools
python=${PYTHON:-python3}
# Larger is a mistake; the miniature is 5 MB of it.
limit=25000000

maturin=maturin==1.16.0
if ! [ -e "$tools/$maturin" ]; then
    rm -rf "$tools"
    "$python" -m pip install --quiet --disable-pip-version-check --target "$tools" "$maturin"
    touch "$tools/$maturin"
fi
rm -f "$out"/altclip-*.whl
PYTHONPATH=$tools "$tools/bin/maturin" build --release --locked --quiet \
    --manifest-path "$here/Cargo.toml" --out "$out" "$@"
for wheel in "$out"/altclip-*.whl; do
    bytes=$(stat -c %s "$wheel")
    echo "$(basename "$wheel") $bytes bytes"
    if [ "$bytes" -gt "$limit" ]; then
        echo "the wheel is over $limit bytes" >&2
        exit 1
    fi
done
