#!/usr/bin/env bash
# The real 864 M-parameter shape with random weights: our classification against transformers'.
# Usage: full_size.sh PICTURES   (a folder; 4 GB of disk under build/full)
set -euo pipefail
cd "$(dirname "$0")/../.."
pictures=$1
python=.venv/bin/python
labels=(--label 一只猫 --label 'a dog' --label 'ein Haus' --label 一张鸟的照片 --label 'a chess board' --label 'un gâteau')

[ -e build/full/model.safetensors ] || "$python" scripts/reference/full_size.py make build/full
cargo build --release --locked -p altclip-cli
# A folder may hold files that are no pictures: they are rows with an error on both sides.
target/release/altclip classify --model build/full "${labels[@]}" --max-bad 100% --json "$pictures" > build/full_ours.jsonl
"$python" scripts/reference/full_size.py classify build/full "${labels[@]}" "$pictures" > build/full_reference.jsonl
"$python" scripts/reference/full_size.py compare build/full_ours.jsonl build/full_reference.jsonl
