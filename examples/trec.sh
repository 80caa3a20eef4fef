#!/usr/bin/env bash
# Classify questions with a GPT trained from nothing: pretrain on Python's documentation and the questions themselves,
# finetune on the labels, score the test questions once. The last line of standard output is "accuracy 0.xyz".
#
#   OUT=out/trec bash examples/trec.sh DATA_FOLDER     (DATA_FOLDER holds train.jsonl and test.jsonl: text, label)
set -euo pipefail
DATA=${1:?usage: OUT=folder bash examples/trec.sh DATA_FOLDER}
OUT=${OUT:-out/trec}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$OUT"

python "$here/collect_stdlib.py" "$OUT/stdlib.jsonl" --max-mb 4
# Short texts are what this is about, so no filter may drop them.
gptctl clean "$OUT/stdlib.jsonl" "$DATA/train.jsonl" -o "$OUT/clean" --preset none
gptctl dedup "$OUT/clean" -o "$OUT/unique" --method exact
gptctl tokenize "$OUT/unique" -o "$OUT/tokens" --vocab-size 4096 --val 0.02 --test 0
gptctl pretrain "$OUT/tokens" -o "$OUT/run" --config "$here/trec.toml"
gptctl finetune "$OUT/run" "$DATA/train.jsonl" -o "$OUT/classifier" --config "$here/trec.toml"
gptctl eval "$OUT/classifier" "$DATA/test.jsonl" -o "$OUT/scores" --json > "$OUT/eval.json"
python -c '
import json, sys
metrics = json.load(open(sys.argv[1]))["metrics"]
print("macro f1 %.3f" % metrics["f1"])
print("accuracy %.3f" % metrics["accuracy"])' "$OUT/eval.json"
