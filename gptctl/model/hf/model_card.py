"""The model card, README.md of a model folder."""

from __future__ import annotations

from typing import Any

from gptctl.core.formatting import format_number
from gptctl.model.config import ModelConfig

USE_GPTCTL = '```\ngptctl generate FOLDER "Once upon a time"\ngptctl eval FOLDER DATA\n```'
# Training puts the end-of-text token before each document, so a prompt begins with it.
USE_TRANSFORMERS = (
    "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
    'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
    'model = AutoModelForCausalLM.from_pretrained("FOLDER")\n'
    'inputs = tokenizer(tokenizer.bos_token + "Once upon a time", return_tensors="pt")\n'
    "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))\n```"
)


def model_card(config: ModelConfig, architecture: str, extra: dict[str, Any]) -> str:
    """Return the text of a model card. `architecture` is empty for a model that only gptctl opens."""
    library = (
        ["library_name: transformers", "pipeline_tag: text-generation"] if architecture else ["library_name: gptctl"]
    )
    facts = {
        "parameters": f"{config.parameters():,}",
        "layers, heads, hidden size": f"{config.layers}, {config.heads}, {config.hidden_size}",
        "context length": f"{config.max_seq_len:,} tokens",
        "vocabulary": f"{config.vocab_size:,} tokens",
        "class in transformers": architecture or "none: no class computes the same",
    }
    known = {name: extra[name] for name in ("stage", "preset", "task") if extra.get(name)}
    metrics = {
        name: format_number(value)
        for name, value in (extra.get("metrics") or {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    parts = [
        "\n".join(["---", "license: unknown", "tags:", "- gptctl", "- text-generation", *library, "---"]),
        "# Model",
    ]
    parts.append(table("", "", facts | known))
    if data := extra.get("data"):
        quoted = {name: f"`{value}`" for name, value in data.items()}
        parts += ["## Data", "Fingerprints of what it was trained on:", table("", "", quoted)]
    if metrics:
        parts += ["## Metrics", table("metric", "value", metrics)]
    use = f"{USE_GPTCTL}\n\n{USE_TRANSFORMERS}" if architecture else USE_GPTCTL
    return "\n\n".join([*parts, "## Use", use]) + "\n"


def table(first: str, second: str, rows: dict[str, Any]) -> str:
    """Return a Markdown table of two columns."""
    head = f"| {first} | {second} |" if first else "| | |"
    return "\n".join([head, "|---|---|", *[f"| {name} | {value} |" for name, value in rows.items()]])
