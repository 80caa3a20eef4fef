"""Write evaluation data as a task of lm-evaluation-harness, so that others can verify the scores with that tool."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from gptctl.core import atomic
from gptctl.core.errors import UsageError
from gptctl.evals.inference.options import InferenceOptions
from gptctl.evals.tasks.choices import questions
from gptctl.io.dataset import shards
from gptctl.io.dataset.shard_format import MAPPED

# The data file is named relative to the folder in which the harness runs.
HEADER = """\
task: {task}
dataset_path: arrow
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
metadata: {{version: 1}}
"""
ROLLING = """\
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: bits_per_byte}
  - {metric: byte_perplexity}
"""
CHOICE = """\
output_type: multiple_choice
doc_to_text: "{{context}}"
doc_to_choice: choices
doc_to_target: label
metric_list:
  - {metric: acc}
  - {metric: acc_norm}
  - {metric: acc_bytes}
"""


def write(folder: Path, name: str, table: pa.Table, task: str, options: InferenceOptions) -> str:
    """Write NAME.yaml and the NAME.arrow that it reads into a folder, and return the path of the YAML file.

    Raises UsageError (2) for a task that lm-eval has no equivalent of.
    """
    if task == "lm":
        data, body = table.select(["id", "text"]), ROLLING
    elif task == "choices":
        rows = questions(table, options.label_column)
        labels = [row["label"] if isinstance(row["label"], int) else row["choices"].index(row["label"]) for row in rows]
        data = pa.table(
            {
                "context": [row["context"] for row in rows],
                "choices": [row["choices"] for row in rows],
                "label": pa.array(labels, pa.int64()),
            }
        )
        body = CHOICE + f"target_delimiter: {json.dumps(options.delimiter)}\n"
    else:
        raise UsageError(f"the task {task} cannot be written for lm-eval", "lm and choices can")
    shards.write_shard(folder, f"{name}.arrow", data, MAPPED)
    atomic.write_text(
        folder / f"{name}.yaml", HEADER.format(task=json.dumps(name), data=json.dumps(f"{name}.arrow")) + body
    )
    return str(folder / f"{name}.yaml")
