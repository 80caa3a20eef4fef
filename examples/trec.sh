#!/usr/bin/env bash
# Classify short texts, such as TREC's questions, with a GPT trained from nothing: pretrained on Python's documentation
# and the training texts. The last line of standard output is "accuracy 0.xyz".
#
#   OUT=out/trec bash examples/trec.sh DATA_FOLDER     (DATA_FOLDER holds train.jsonl and test.jsonl: text, label)
set -euo pipefail
DATA=${1:?usage: OUT=folder bash examples/trec.sh DATA_FOLDER}
export OUT=${OUT:-out/trec} EPOCH_MB=${EPOCH_MB:-2.4} MAX_EPOCHS=${MAX_EPOCHS:-8}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$OUT"
python "$here/collect_stdlib.py" "$OUT/stdlib.jsonl" --max-mb 4
bash "$here/classifier.sh" "$here/trec.toml" "$DATA" "$OUT/stdlib.jsonl"
