"""A few words from the model under training."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gptctl.infer.engine import Engine
from gptctl.infer.sampling import SamplingParams
from gptctl.model.gpt import GPT
from gptctl.text.tokenizer import Tokenizer

MAX_TOKENS = 64
TEMPERATURE = 0.8


def write(model: GPT, tokenizer_json: str, prompt: str, seed: int, stopped: Callable[[], bool]) -> str:
    """Return the prompt and what the model makes of it, or as much as was written before `stopped`.

    Random numbers come from a generator of its own, the same each time, so that excerpts of one run compare and
    training's are left alone. The model is left in evaluation mode.
    """
    coder = Tokenizer.from_json(tokenizer_json)
    tokens = [coder.end_of_text_id, *coder.encode_each([prompt])[0].tolist()] if prompt else [coder.end_of_text_id]
    room = max(1, model.config.max_seq_len - 1)
    written: list[int] = []
    sampling = SamplingParams(MAX_TOKENS, TEMPERATURE, seed=seed)
    with torch.compiler.set_stance("force_eager"):  # else compiled blocks would be compiled for each shape here
        for _, token in Engine(model).stream([tokens[-room:]], sampling, (coder.end_of_text_id,)):
            if token == coder.end_of_text_id or stopped():
                break
            written.append(token)
    return prompt + coder.decode(written)
