"""Make docs/models.md from the families that gptctl reads and their tests: python -m tests.docs.models > docs/models.md."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys

from gptctl.model.gguf.tensors import ARCHITECTURES
from gptctl.model.hf import families
from gptctl.model.hf.family_spec import Family
from tests.model.hf import small_families, test_families

HEAD = f"""# Models

These classes of transformers can be used as MODEL in every command, from a folder or [from the hub](hub.md), and exported
([export.md](export.md)). The table is made by
`python -m tests.docs.models > docs/models.md`.

On small random models of each class, `tests/model/hf/test_families.py` compares with transformers 5.24 in float32:

- the logits of a whole context, of a context that is read through the key-value cache, of a padded row, and beyond each sliding window:
  they differ by at most {test_families.TOLERANCE:g} of the largest one
- an export of what was read: every tensor is the same bit for bit
- the gradients of a step of finetuning: they differ by at most {test_families.GRADIENT_TOLERANCE:g} of the largest one of each tensor
- 64 tokens of greedy decoding: they are the same

The logits with int8 weights deviate by at most {test_families.INT8_TOLERANCE:.0%} of their spread (root of the mean square), and by at
most {test_families.INT8_EXPERTS_TOLERANCE:.0%} where a router may choose another expert. OPT's positions begin with two rows that no token
has; an export writes zeros there.

| Models | Class | GGUF | Variants tested |
|---|---|---|---|
"""
TAIL = """
`python -m tests.bench.llama_cpp` compares GGUF files of these small models with llama.cpp itself. With xllamacpp 2026.10, and without its
flash attention, which rounds to float16, the likeliest token was the same after up to 20 and after 94 tokens. Log-probabilities differed by at most
2e-5, and by at most 6e-3 with GELU, which llama.cpp looks up in a table. The cases were llama, llama-biases, llama-llama3, llama-linear,
llama-dynamic, llama-yarn, mistral-full, mixtral-full, qwen2, qwen2-yarn, qwen2-moe, qwen3, qwen3-moe-full, gemma, gemma2-plain,
gemma3-plain, phi3, phi3-partial, olmo, olmo2-plain, olmo3, olmo3-plain, arcee, granite, smollm3, starcoder2-full, stablelm,
stablelm-parallel, gpt-neox, falcon, falcon-old and falcon-two-norms, and Phi-3 with LongRoPE and a context of 768 tokens. llama.cpp computes
the GELU of GPT-NeoX and Falcon by its tanh form, and `export` warns of that.

Sliding windows are written for Gemma 2 and 3 and OLMo 3. llama.cpp has none for the other architectures, and there a file has a context of
one window, within which the results are the same. Such cases are phi3, mistral, mixtral, qwen2-sliding and starcoder2,
compared after 10 tokens of a window of 12. llama.cpp chooses between LongRoPE's two sets of frequencies by the size of its context, not by
the length of the text. For short texts give it the original context as `--ctx-size`. `export` warns of both.

Refused are Qwen3-MoE without `norm_topk_prob`, Falcon with biases or with one sublayer after the other, and biases that an architecture does
not have. llama.cpp has no architecture for OPT, GPT-Neo and the first GPT.

Rotary positions that are scaled by `linear`, `dynamic`, `llama3`, `yarn` and `longrope` are computed as in transformers. `dynamic` changes
nothing within `max_position_embeddings`. Beyond the original context of LongRoPE the frequencies are others: `generate` reads a text again
when it grows that long, and then without drafts.

All other classes and settings are refused with exit code 3 and the reason. Among them are:

- OPT-350M, whose embeddings are projected
- StableLM with `qk_layernorm`, whose norms differ between heads
- Falcon with ALiBi
- Qwen2-MoE and Qwen3-MoE with layers without experts, and any mixture with one expert per token
- a rotated part of each head, except in Phi-3, StableLM and GPT-NeoX
- Gemma 3 with images, and attention in both directions
"""


def titles() -> dict[str, str]:
    """Return what the file of each family says about its models."""
    found = {}
    for entry in pkgutil.iter_modules(families.__path__):
        module = importlib.import_module(f"{families.__name__}.{entry.name}")
        found[module.FAMILY.architecture] = (inspect.getdoc(module) or "").rstrip(".")
    return found


def variants(family: Family) -> str:
    """Return the names of the small models of a class, or where else it is tested."""
    found = [case for case, (model_type, _) in small_families.CASES.items() if model_type == family.model_type]
    return ", ".join(found) or "`tests/model/hf/test_transformers.py`"


def page() -> str:
    """Return the whole page."""
    title = titles()
    rows = []
    for family in families.FAMILIES:
        known = ARCHITECTURES.get(family.architecture)
        gguf = f"`{known.name}`" if known else "no"
        rows.append(f"| {title[family.architecture]} | {family.architecture} | {gguf} | {variants(family)} |\n")
    return HEAD + "".join(rows) + TAIL


if __name__ == "__main__":
    sys.stdout.write(page())
