#!/bin/sh
# A pipeline for CI: clean the texts, pretrain a small GPT on them, finetune a classifier, hold its F1 against a bar, and write
# one page about it all.
#
#   OUT=out/ci BAR=0.80 sh examples/ci/pipeline.sh DATA
#
# DATA holds train.jsonl, val.jsonl and test.jsonl with `text` and `label`. The exit code is that of `gptctl eval`: 7 where a
# score is below its bar. Where OUT is kept between runs, finished stages say "up to date", and one that was killed goes on.
set -eu
DATA=${1:?usage: OUT=folder BAR=0.80 sh examples/ci/pipeline.sh DATA}
OUT=${OUT:-out/ci}
BAR=${BAR:-0.80}
CONFIG=$(cd "$(dirname "$0")" && pwd)/pipeline.toml
mkdir -p "$OUT"

gptctl clean "$DATA/train.jsonl" -o "$OUT/clean" --config "$CONFIG"
gptctl dedup "$OUT/clean" -o "$OUT/unique"
gptctl tokenize "$OUT/unique" -o "$OUT/tokens" --config "$CONFIG"
gptctl pretrain "$OUT/tokens" -o "$OUT/run" --config "$CONFIG"
gptctl finetune "$OUT/run" "$DATA" -o "$OUT/classifier" --config "$CONFIG"

code=0
gptctl eval "$OUT/classifier" "$DATA" -o "$OUT/scores" --config "$CONFIG" --fail-under "f1=$BAR" \
    --junit "$OUT/eval.xml" --markdown "$OUT/eval.md" || code=$?
[ "$code" -eq 0 ] || [ "$code" -eq 7 ] || exit "$code"

gptctl report "$OUT/scores" -o "$OUT/report.html"
exit "$code"
