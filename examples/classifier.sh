#!/usr/bin/env bash
# A text classifier from nothing: pretrain a small GPT on the training texts, finetune it on their labels from several
# seeds, let all of them decide together, and score the test texts once. Used by trec.sh and movie_reviews.sh.
#
#   OUT=folder bash examples/classifier.sh CONFIG DATA_FOLDER [EXTRA_TEXT]
#
# DATA_FOLDER holds train.jsonl and test.jsonl with `text` and `label`; EXTRA_TEXT is more to pretrain on. Of larger data
# there are fewer epochs: EPOCH_MB megabytes of text are read per seed, in at most MAX_EPOCHS epochs.
# The last line of standard output is "accuracy 0.xyz".
set -euo pipefail
CONFIG=${1:?usage: OUT=folder bash examples/classifier.sh CONFIG DATA_FOLDER [EXTRA_TEXT]}
DATA=${2:?usage: OUT=folder bash examples/classifier.sh CONFIG DATA_FOLDER [EXTRA_TEXT]}
shift 2
SECONDS=0

epochs=$(python -c '
import json, sys
path, megabytes, most = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
size = sum(len(json.loads(line)["text"].encode()) for line in open(path, encoding="utf-8") if line.strip())
print(round(min(most, max(1.0, megabytes * 1e6 / size)), 2))' "$DATA/train.jsonl" "$EPOCH_MB" "$MAX_EPOCHS")

# Every text counts here, so no filter may drop one.
gptctl clean "$DATA/train.jsonl" "$@" -o "$OUT/clean" --preset none
gptctl dedup "$OUT/clean" -o "$OUT/unique" --method exact
gptctl tokenize "$OUT/unique" -o "$OUT/tokens" --config "$CONFIG"
gptctl pretrain "$OUT/tokens" -o "$OUT/run" --config "$CONFIG"
gptctl finetune "$OUT/run" "$DATA/train.jsonl" -o "$OUT/classifier" --config "$CONFIG" --epochs "$epochs"
gptctl eval "$OUT/classifier" "$DATA" -o "$OUT/scores" --set ensemble=true --baseline majority,nb --json > "$OUT/eval.json"

python -c '
import json, sys
metrics = json.load(open(sys.argv[1]))["metrics"]
low, high = metrics["intervals"]["accuracy"]
for name, found in metrics["baselines"].items():
    print("baseline %s: accuracy %.3f, macro f1 %.3f" % (name, found["accuracy"], found["f1"]))
print("95 %% interval of the accuracy %.3f to %.3f, n = %d" % (low, high, metrics["n"]))
print("minutes %.1f" % (int(sys.argv[2]) / 60))
print("macro f1 %.3f" % metrics["f1"])
print("accuracy %.3f" % metrics["accuracy"])' "$OUT/eval.json" "$SECONDS"
