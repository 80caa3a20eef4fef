"""Run one task of lm-eval with its own model type `hf` and with gptctl's, on small random models of eight families.

    python -m tests.bench.harness_vs_lm_eval [--questions 100]

The task is multiple choice: which of four endings belongs to the beginning of a sentence of Python's documentation. The
table has the accuracies of both, the largest difference between log-likelihoods, also as a share of their size, and the
seconds of both, without loading. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from gptctl.evals.harness.lm_eval import ENVIRONMENT
from gptctl.evals.inference.options import InferenceOptions
from gptctl.evals.inference.worker import InferenceSpec
from tests.model.hf.foreign_folders import make_folder

# The tokenizer, the architecture, and settings that differ from its defaults.
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Llama 2": ("llama-2", "llama", {}),
    "Llama 3": ("llama-3", "llama", {"rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    }}),
    "Qwen2": ("qwen", "qwen2", {}),
    "Qwen3": ("qwen", "qwen3", {"head_dim": 16}),
    "Mistral": ("mistral", "mistral", {"sliding_window": None}),
    "Gemma": ("gemma", "gemma", {"head_dim": 16}),
    "Gemma 2": ("gemma", "gemma2", {"head_dim": 16, "sliding_window": 64}),
    "GPT-NeoX": ("gpt2", "gpt_neox", {"rotary_pct": 0.25}),
}  # fmt: skip
WORDS, WORDS_BEFORE = 16, 12  # of a sentence, and of its beginning
TOLERANCE = 1e-4  # of a log-likelihood
TASK = """\
task: endings
dataset_path: json
dataset_kwargs:
  data_files:
    test: questions.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{beginning}}"
doc_to_choice: choices
doc_to_target: label
metric_list:
  - metric: acc
  - metric: acc_norm
"""


def write_task(folder: Path, questions: int) -> None:
    """Write the task and its data."""
    words = [" ".join(part.split()).split(" ") for topic in sorted(topics) for part in topics[topic].split("\n\n")]
    sentences = [found[:WORDS] for found in words if len(found) >= WORDS][: questions * 4]
    rows = []
    for number in range(questions):
        group = sentences[4 * number : 4 * number + 4]
        endings = [" ".join(found[WORDS_BEFORE:]) for found in group]
        label = number % 4
        rows.append({"beginning": " ".join(group[label][:WORDS_BEFORE]), "choices": endings, "label": label})
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "endings.yaml").write_text(TASK)


def evaluate(model: Any, folder: Path) -> tuple[dict[str, float], list[float], float]:
    """Return the metrics of the task, all log-likelihoods and the seconds."""
    from lm_eval.evaluator import evaluate as evaluate_task
    from lm_eval.tasks import TaskManager

    task = TaskManager(include_path=str(folder), include_defaults=False).load(["endings"])
    for one in task["tasks"].values():
        one.set_config(key="num_fewshot", value=0)
    started = time.perf_counter()
    found = evaluate_task(lm=model, task_dict=task, bootstrap_iters=0, log_samples=True)
    seconds = time.perf_counter() - started
    scores = {name: found["results"]["endings"][f"{name},none"] for name in ("acc", "acc_norm")}
    samples = sorted(found["samples"]["endings"], key=lambda sample: sample["doc_id"])
    return scores, [float(answer[0][0]) for sample in samples for answer in sample["resps"]], seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=100)
    questions = parser.parse_args().questions
    os.environ.update(ENVIRONMENT)
    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers import PreTrainedTokenizerFast

    from gptctl.evals.harness.harness_model import HarnessModel

    torch.set_num_threads(1)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        os.chdir(place)
        os.environ["HF_DATASETS_CACHE"] = scratch
        write_task(place, questions)
        for name, (tokenizer, model_type, changes) in FAMILIES.items():
            folder = place / model_type / tokenizer
            make_folder(folder, tokenizer, model_type, max_position_embeddings=512, **changes)
            plain = PreTrainedTokenizerFast.from_pretrained(folder)  # AutoTokenizer splits as Qwen2 does, not the file
            theirs, wanted, slow = evaluate(HFLM(str(folder), tokenizer=plain, device="cpu", batch_size=8), place)
            spec = InferenceSpec(str(folder), "", "lm", InferenceOptions(), "cpu", threads=1)
            ours, found, fast = evaluate(HarnessModel(spec), place)
            assert len(wanted) == len(found) == 4 * questions
            largest = max(abs(one - other) for one, other in zip(wanted, found, strict=True))
            assert largest <= TOLERANCE, f"{name}: {largest:.1e}"
            assert theirs == ours, name
            share = max(abs(one / other - 1) for one, other in zip(wanted, found, strict=True))
            results.append({
                "family": name, "hf": theirs, "gptctl": ours, "largest_difference": largest,
                "largest_share": share, "hf_seconds": slow, "gptctl_seconds": fast,
            })  # fmt: skip
    print("| family | acc, acc_norm of hf | of gptctl | largest difference | relative | seconds of hf | of gptctl |")
    print("|---|---|---|---|---|---|---|")
    for one in results:
        both = (f"{scores['acc']:.2f}, {scores['acc_norm']:.2f}" for scores in (one["hf"], one["gptctl"]))
        differences = (f"{one[key]:.1e}" for key in ("largest_difference", "largest_share"))
        cells = (*both, *differences, f"{one['hf_seconds']:.1f}", f"{one['gptctl_seconds']:.1f}")
        print(f"| {one['family']} | {' | '.join(cells)} |")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
