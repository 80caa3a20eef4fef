#!/usr/bin/env bash
# Classify long texts, such as movie reviews, with a GPT trained from nothing: pretrained on the training texts, which it
# reads in windows side by side. The last line of standard output is "accuracy 0.xyz".
#
#   OUT=out/movies bash examples/movie_reviews.sh DATA
#
# DATA is a folder with train.jsonl and test.jsonl (text, label), or one file of JSON lines with a column `fold`, of which
# fold FOLD (9) is the test.
set -euo pipefail
DATA=${1:?usage: OUT=folder bash examples/movie_reviews.sh DATA}
export OUT=${OUT:-out/movies} EPOCH_MB=${EPOCH_MB:-28} MAX_EPOCHS=${MAX_EPOCHS:-4}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$OUT"
if [ -f "$DATA" ]; then
    mkdir -p "$OUT/data"
    python -c '
import gzip, json, sys
source, out, fold = sys.argv[1:]
files = {name: open(f"{out}/{name}.jsonl", "w", encoding="utf-8") for name in ("train", "test")}
for line in (gzip.open if source.endswith(".gz") else open)(source, "rt", encoding="utf-8"):
    files["test" if str(json.loads(line)["fold"]) == fold else "train"].write(line)' "$DATA" "$OUT/data" "${FOLD:-9}"
    DATA=$OUT/data
fi
bash "$here/classifier.sh" "$here/movie_reviews.toml" "$DATA"
