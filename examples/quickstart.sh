#!/bin/sh
# From real text to an evaluated GPT with gptctl alone, without a network: the Python standard library's own documentation
# and source become a corpus, a small GPT learns it, and a classifier tells code, comments and docstrings apart.
#
#   OUT=out/demo sh examples/quickstart.sh
set -eu
OUT=${OUT:-out/demo}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$OUT"

echo "== collect the text, and the labelled lines (split by file)" >&2
python "$here/collect_stdlib.py" "$OUT/raw.jsonl"
python "$here/label_lines.py" "$OUT/labelled"

echo "== clean, dedup, tokenize" >&2
gptctl clean "$OUT/raw.jsonl" -o "$OUT/clean"
gptctl dedup "$OUT/clean" -o "$OUT/unique"
gptctl tokenize "$OUT/unique" -o "$OUT/tokens" --vocab-size 2048 --val 0.02 --test 0.02

echo "== pretrain, finetune, evaluate, generate" >&2
gptctl pretrain "$OUT/tokens" -o "$OUT/run" --config "$here/quickstart.toml" --json > "$OUT/pretrain.json"
gptctl finetune "$OUT/run" "$OUT/labelled" -o "$OUT/classifier" --config "$here/quickstart.toml"
gptctl eval "$OUT/classifier" "$OUT/labelled" -o "$OUT/scores" --json > "$OUT/eval.json"
gptctl generate "$OUT/run" "The following example shows how to" --config "$here/quickstart.toml" > "$OUT/sample.txt"

gptctl report "$OUT/scores" -o "$OUT/report.html"
python "$here/demo_table.py" "$OUT"
