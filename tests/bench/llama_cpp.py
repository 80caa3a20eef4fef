"""Compare GGUF files with llama.cpp itself: the same top token, and log-probabilities within 1e-2 in float32.

Tokens whose log-probabilities differ by less than that count as the same.

It needs the package xllamacpp, which has wheels with llama.cpp inside:

    pip install --target LIB --no-deps xllamacpp
    PYTHONPATH=LIB python -m tests.bench.llama_cpp [CASE|MODEL ...]

The cases are the small models of tests/model/hf/small_families.py that an architecture of GGUF computes, and one with
LongRoPE whose contexts are multiples of 256, as those of llama.cpp are. A model folder
can be named instead, such as RUN/model. For each one the log-probabilities of the next token are compared after prompts
of several lengths. Without a name, the tokens of probe texts are compared as well, for the tokenizers of six families.
"""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import torch

from gptctl.core.errors import UsageError
from gptctl.model.folder import load_model
from gptctl.model.gguf.llama_cpp_tokens import PROBES
from gptctl.model.gguf.tensors import gguf_context
from gptctl.model.gguf.writer import write_gguf
from gptctl.model.rope import switches_to_long
from gptctl.model.saved_model import SavedModel
from gptctl.text.tokenizer import Tokenizer
from tests.evals.small_model import tokenizer_json
from tests.model.hf.foreign_folders import FAMILIES, make_folder
from tests.model.hf.small_families import CASES, LONGROPE, save

TOLERANCE = 1e-2
LONG = "phi3-longrope-768"
CASES[LONG] = (
    "phi3",
    {"max_position_embeddings": 768, "original_max_position_embeddings": 256, "rope_scaling": LONGROPE},
)
del CASES["phi3-longrope"]
SHOWN = 40  # log-probabilities of each prompt


def serve(path: Path, context: int) -> Any:
    """Return a server of llama.cpp for a file."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_gpu_layers, params.warmup, params.n_parallel = context, 0, False, 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED  # it rounds to float16
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    return xllamacpp.Server(params)


def their_logprobs(server: Any, prompt: list[int], chosen: int) -> dict[int, float]:
    """Return the log-probabilities of the likeliest next tokens."""
    # The token that is chosen must be text of its own, or the answer leaves it out; it changes no log-probability.
    request = {"prompt": prompt, "max_tokens": 1, "logprobs": SHOWN, "logit_bias": [[chosen, 1000]]}
    answer = server.handle_completions(request)
    answer = json.loads(answer) if isinstance(answer, str | bytes) else answer
    first = answer["choices"][0]["logprobs"]["content"][0]
    return {token["id"]: token["logprob"] for token in first["top_logprobs"]}


def compare(case: str, folder: Path) -> float | str:
    """Return the largest difference of a log-probability, or why GGUF does not compute the case."""
    if is_case := case in CASES:
        save(case, folder)
    found: SavedModel = load_model(folder if is_case else Path(case))
    tokenizer, extra = (tokenizer_json(), {}) if is_case else (found.tokenizer_json, found.extra)
    path = folder / "model.gguf"
    try:
        write_gguf(path, found.model, tokenizer, extra)
    except UsageError as error:
        return str(error)
    config, worst = found.config, 0.0
    context = gguf_context(config)
    lengths = {context: (3, min(20, context - 4), context - 2)}
    if switches_to_long(config) and (original := config.rope_scaling.original_max_seq_len) < context:
        lengths = {original: (3, 20, original - 2), context: (original + 2, context - 2)}
    chosen = ord("a") if is_case else Tokenizer.from_json(tokenizer).encode("a")[0]
    for size, length in ((size, length) for size, several in lengths.items() for length in several):
        server = serve(path, size)
        generator = torch.Generator().manual_seed(length)
        prompt = torch.randint(0, config.vocab_size - 1, (length,), generator=generator)
        with torch.no_grad():
            mine = found.model(prompt[None])[0, -1].log_softmax(-1)
        theirs = their_logprobs(server, prompt.tolist(), chosen)
        if mine.max() - mine[max(theirs, key=lambda token: theirs[token])] > TOLERANCE:
            return f"another top token after {length} tokens"
        worst = max(worst, *(abs(mine[token].item() - logprob) for token, logprob in theirs.items()))
    return worst


def compare_tokens(family: str, folder: Path) -> int:
    """Return the number of probe texts of which llama.cpp makes other tokens than the tokenizer of a family."""
    found = load_model(make_folder(folder / "model", family))
    write_gguf(folder / "model.gguf", found.model, found.tokenizer_json, found.extra)
    server, tokenizer = (
        serve(folder / "model.gguf", found.config.max_seq_len),
        Tokenizer.from_json(found.tokenizer_json),
    )
    different = 0
    for text in (*PROBES, "a <s> b</s>", "<|endoftext|><|im_end|>"):
        data = json.dumps({"content": text, "add_special": False, "parse_special": False}).encode()
        request = urllib.request.Request(f"{server.listening_address}/tokenize", data)
        with urllib.request.urlopen(request) as answer:
            different += json.load(answer)["tokens"] != tokenizer.encode(text)
    return different


def main() -> int:
    failed = 0
    for family in () if sys.argv[1:] else FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            different = compare_tokens(family, Path(folder))
        failed += different > 0
        print(f"tokens of {family:10} {different} texts differ", flush=True)
    for case in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            result = compare(case, Path(folder))
        failed += isinstance(result, float) and result > TOLERANCE
        failed += isinstance(result, str) and result.startswith("another")
        print(f"{case[-40:]:20} {result if isinstance(result, str) else f'{result:.1e}'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
