#!/usr/bin/env bash
# The miniature, one step a call: recipes/emoji/train.sh teacher|stage1|stage2|table|all [SEED]
#
# Works in build/emoji, after `just emoji-set`. A step that was interrupted goes on when it is called again.
set -euo pipefail
cd "$(dirname "$0")/../.."
step=${1:?teacher, stage1, stage2, table or all}
seed=${2:-1}
set=build/emoji/set
run=build/emoji/runs/$seed
altclip=${ALTCLIP:-target/release/altclip}
common=(--precision bf16 --chunk-size 512 --seed "$seed" --resume --images "$set")

case $step in
teacher)
    model=build/emoji/models/teacher
    mkdir -p "$model"
    cp build/emoji/tokenizers/teacher/* recipes/emoji/models/teacher/* "$model"
    "$altclip" train clip --config "$model/config.json" --pairs "$set/train.en.jsonl" --out "$run/teacher" \
        --batch-size 256 --max-steps 5400 --lr 1e-3 --warmup-steps 200 --augment strong --save-bf16 \
        --eval "$set/eval.openmoji.en-base.jsonl" --eval-every 900 "${common[@]}"
    ;;
stage1)
    model=build/emoji/models/student
    mkdir -p "$model"
    cp build/emoji/tokenizers/student/* recipes/emoji/models/student/* "$model"
    pairs=()
    for language in zh es fr ru ja ko ar it; do pairs+=(--pairs "$set/parallel.$language.tsv"); done
    "$altclip" train distill --teacher "$run/teacher" --student "$model" "${pairs[@]}" --add-identity-pairs \
        --out "$run/stage1" --batch-size 512 --max-steps 3200 --lr 1.5e-3 --lr-schedule cosine --warmup-steps 100 \
        --weight-decay 0.01 --beta1 0.9 --beta2 0.98 --precision bf16 --chunk-size 512 --seed "$seed" --resume
    ;;
stage2)
    "$altclip" train contrastive --model "$run/stage1" --pairs "$set/train.en-names.jsonl" \
        --pairs "$set/train.zh-names.jsonl" --out "$run/stage2" --batch-size 256 --max-steps 300 --lr 1e-5 --lr-schedule cosine --warmup-steps 20 \
        --weight-decay 0.05 --save-bf16 "${common[@]}"
    ;;
table)
    # OpenMoji, which no step has seen. Names in three parts, in English and Chinese over the same pictures: seen in
    # training; combinations of seen words; words that Chinese training never had.
    results=$run/results
    rm -rf "$results"
    mkdir -p "$results"
    for model in teacher stage1 stage2; do
        while read -r part name; do
            "$altclip" eval retrieval --model "$run/$model" --dataset "jsonl:$set/eval.openmoji.$part.jsonl" \
                --images "$set" --name "$name" --out "$results/$model-$part" --worst 5 --quiet < /dev/null > /dev/null
        done <<PARTS
en-base all base emoji
en-seen-base (a) seen names
zh-seen-base (a) seen names
en-combined (b) new combinations
zh-combined (b) new combinations
en-unseen (c) unseen words
zh-unseen (c) unseen words
PARTS
    done
    results=$(cd "$results" && pwd)
    "$altclip" eval table "$results"/{teacher,stage1,stage2}-{en-base,en-seen-base,zh-seen-base,en-combined,zh-combined,en-unseen,zh-unseen} \
        --markdown | tee "$results/table.md"
    ;;
all)
    for each in teacher stage1 stage2 table; do "$0" "$each" "$seed"; done
    ;;
*)
    echo "unknown step $step" >&2
    exit 2
    ;;
esac
