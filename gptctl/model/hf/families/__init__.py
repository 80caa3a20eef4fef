"""The classes of transformers that gptctl reads and writes: one file each, with FAMILY.

The tables follow transformers 5, src/transformers/models/*/configuration_*.py. Needs no torch.
"""

from gptctl.model.hf.families import (
    arcee,
    gpt2,
    gpt_neo,
    llama,
    mistral,
    mixtral,
    openai_gpt,
    qwen2,
    qwen3,
    qwen3_moe,
)

# A model that several classes compute is exported for the first of them, if its config names none.
FAMILIES = (
    openai_gpt.FAMILY,
    gpt2.FAMILY,
    gpt_neo.FAMILY,
    arcee.FAMILY,
    llama.FAMILY,
    qwen3.FAMILY,
    mixtral.FAMILY,
    qwen3_moe.FAMILY,
    mistral.FAMILY,
    qwen2.FAMILY,
)
