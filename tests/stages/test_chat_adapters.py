"""Chat finetuning of other programs' models from ShareGPT rows: what comes out is opened by peft, transformers and gguf."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gptctl.model.folder import load_model
from gptctl.text.chat import ChatTemplate
from gptctl.text.special_tokens import SpecialTokens
from gptctl.text.tokenizer import Tokenizer
from tests.conftest import Ran, write_jsonl
from tests.model.hf.foreign_folders import make_folder

Gptctl = Callable[..., Ran]
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
FOLDERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama-3": ("llama-3", "llama", {"rope_scaling": LLAMA3, "rope_theta": 5e5}),
    "qwen3": ("qwen", "qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
}


def sharegpt(count: int) -> list[dict[str, Any]]:
    """Return conversations of one turn each."""
    return [
        {"conversations": [{"from": "human", "value": f"say {n}"}, {"from": "gpt", "value": str(n % 5) * 3}]}
        for n in range(count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_adapter_and_merged_model_open_elsewhere(gptctl: Gptctl, name: str, tmp_path: Path) -> None:
    """peft's model, the merged one in transformers, and gptctl's own compute the same logits after a chat prompt."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    gguf = pytest.importorskip("gguf")
    family, model_type, changes = FOLDERS[name]
    base = make_folder(tmp_path / "base", family, model_type, **changes)
    write_jsonl(tmp_path / "train.jsonl", sharegpt(40))
    done = gptctl(
        "finetune", base, "train.jsonl", "-o", "run", "--task", "chat", "--lora", "4", "--lr", "1e-2", "--epochs", "2",
        "--batch-size", "4", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["metrics"]["chat_format"] == "sharegpt"
    assert gptctl("export", "run", "-o", "gguf", "--format", "gguf").code == 0
    run = tmp_path / "run"
    saved = load_model(run / "model")
    tokenizer = Tokenizer.from_json(saved.tokenizer_json, SpecialTokens.from_extra(saved.extra))
    question = [{"role": "user", "content": "say 3"}]
    prompt = ChatTemplate(saved.extra["chat_template"], tokenizer).prompt(question)
    theirs = transformers.AutoTokenizer.from_pretrained(run / "model")
    assert theirs.apply_chat_template(question, add_generation_prompt=True, return_dict=False) == prompt
    original = transformers.AutoModelForCausalLM.from_pretrained(base).eval()
    merged = transformers.AutoModelForCausalLM.from_pretrained(run / "model").eval()
    ids = torch.tensor([prompt])
    with torch.no_grad():
        before = original(ids).logits
        wanted = peft.PeftModel.from_pretrained(original, run / "adapter").eval()(ids).logits
        torch.testing.assert_close(merged(ids).logits, wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(saved.model.eval()(ids), wanted, rtol=1e-4, atol=1e-4)
    assert (wanted - before).abs().max() > 0.1
    fields = gguf.GGUFReader(next((tmp_path / "gguf").glob("*.gguf"))).fields
    assert fields["general.architecture"].contents() == model_type
    assert fields["tokenizer.chat_template"].contents() == saved.extra["chat_template"]
    assert json.loads((run / "adapter" / "adapter_config.json").read_text())["r"] == 4
