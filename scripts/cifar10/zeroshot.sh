#!/usr/bin/env bash
# CIFAR-10 without training, in nine languages: scripts/cifar10/zeroshot.sh MODEL DATASET OUT
#
# DATASET as for `altclip eval zeroshot`: webdataset:DIR or cifar10:DIR. OUT is a new folder. Pictures are
# embedded once; the other languages find them in the cache.
set -euo pipefail
cd "$(dirname "$0")/../.."
model=${1:?a model} dataset=${2:?a dataset} out=${3:?a new folder}
altclip=${ALTCLIP:-target/release/altclip}
mkdir "$out"
for language in en zh es fr ru ja ko ar it; do
    "$altclip" eval zeroshot --model "$model" --dataset "$dataset" --name cifar10 --language "$language" \
        --classnames scripts/cifar10/names.json --templates scripts/cifar10/templates.json \
        --out "$out/$language" --quiet > /dev/null
done
"$altclip" eval table "$out"/* --markdown
