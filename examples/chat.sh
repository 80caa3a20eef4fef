#!/usr/bin/env bash
# A chat model from nothing: pretrain a small GPT on Python's documentation, finetune it on generated instructions, once
# in full and once with low-rank updates, and compare both on questions that neither has seen.
#
#   OUT=out/chat bash examples/chat.sh
#
# The last two lines of standard output are "full: exact match 0.xyz" and "lora: exact match 0.xyz".
set -euo pipefail
OUT=${OUT:-out/chat}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$OUT"

python "$here/collect_stdlib.py" "$OUT/stdlib.jsonl" --max-mb 3
python "$here/make_conversations.py" "$OUT/talk"
gptctl clean "$OUT/stdlib.jsonl" -o "$OUT/clean" --preset none
gptctl tokenize "$OUT/clean" -o "$OUT/tokens" --config "$here/chat.toml"
gptctl pretrain "$OUT/tokens" -o "$OUT/run" --config "$here/chat.toml"
gptctl finetune "$OUT/run" "$OUT/talk" -o "$OUT/full" --config "$here/chat.toml" --task chat
gptctl finetune "$OUT/run" "$OUT/talk" -o "$OUT/lora" --config "$here/chat.toml" --task chat --lora 16 --lr 1e-2

# Questions without their answers, and the answers to compare with.
python -c '
import json, sys
out = sys.argv[1]
with open(f"{out}/questions.jsonl", "w") as questions, open(f"{out}/answers.json", "w") as answers:
    wanted = {}
    for line in open(f"{out}/talk/val.jsonl"):
        row = json.loads(line)
        *before, last = row["messages"]
        questions.write(json.dumps({"id": row["id"], "messages": before}) + "\n")
        wanted[row["id"]] = last["content"]
    json.dump(wanted, answers)' "$OUT"
for name in full lora; do
    gptctl generate "$OUT/$name" --chat --prompts "$OUT/questions.jsonl" --text-column messages -o "$OUT/$name-answers" \
        --temperature 0 --max-tokens 24
    gptctl inspect "$OUT/$name-answers" --limit 0 --format jsonl | python -c '
import json, sys
wanted = json.load(open(sys.argv[1]))
for row in map(json.loads, sys.stdin):
    print(json.dumps({"id": row["id"], "label": wanted[row["id"]], "pred": row["text"]}))' "$OUT/answers.json" > "$OUT/$name.jsonl"
    gptctl eval --predictions "$OUT/$name.jsonl" --metrics exact_match --json > "$OUT/$name.json"
done
python -c '
import json, sys
for name in ("full", "lora"):
    run = json.load(open(f"{sys.argv[1]}/{name}/run.json"))["summary"]["metrics"]
    trained = run.get("trained_parameters", run["parameters"])
    loss = run["best_val_loss"]
    print("%s: %d of %d parameters trained, val loss %.3f" % (name, trained, run["parameters"], loss))
for name in ("full", "lora"):
    found = json.load(open(f"{sys.argv[1]}/{name}.json"))["metrics"]["exact_match"]
    print("%s: exact match %.3f" % (name, found))' "$OUT"
