"""Measure the memory that loading, generating with and exporting an open model take, above that of the imports.

    python -m tests.bench.weights_memory [FOLDER]

It writes random folders of about 500 MB into FOLDER, or into a temporary one, and runs each command in a process of its
own. `ratio` is the largest resident memory (ru_maxrss) above the imports, divided by the size of the weights in float32.
The last line is one JSON document.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.evals.small_model import END_ID, tokenizer_json

SIZES: dict[str, Any] = {"vocab_size": 16000, "hidden_size": 1024, "num_attention_heads": 16, "eos_token_id": END_ID}
LLAMA = {"intermediate_size": 2816, "num_key_value_heads": 8, "max_position_embeddings": 512}
MIXTRAL = LLAMA | {"intermediate_size": 1024, "num_local_experts": 8, "sliding_window": None}
CASES: dict[str, tuple[str, dict[str, Any], torch.dtype]] = {
    "llama-bf16": ("llama", {"num_hidden_layers": 21} | LLAMA, torch.bfloat16),
    "llama-fp32": ("llama", {"num_hidden_layers": 10} | LLAMA, torch.float32),
    "gpt2-bf16": ("gpt2", {"n_layer": 17, "n_positions": 512}, torch.bfloat16),
    "mixtral-bf16": ("mixtral", {"num_hidden_layers": 8} | MIXTRAL, torch.bfloat16),
}
IMPORTS = "import torch, gguf, gptctl.infer.generator, gptctl.model.gguf.writer, gptctl.model.folder"
LOAD = "import sys, pathlib, gptctl.model.folder as f; f.load_model(pathlib.Path(sys.argv[1]))"


def make_folder(case: str, folder: Path) -> int:
    """Write the folder of a case and return the bytes of its weights in float32."""
    import transformers

    model_type, settings, dtype = CASES[case]
    config = transformers.AutoConfig.for_model(model_type, **SIZES, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    return 4 * sum(parameter.numel() for parameter in model.parameters())


def peak(*command: str) -> int:
    """Run a command and return its largest resident memory in bytes."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(folder: Path, size: int) -> dict[str, float]:
    """Return the ratio of each command for a folder whose weights have `size` bytes in float32."""
    out = folder / "out"
    export = ("-m", "gptctl", "export", str(folder), "-o", str(out), "-q")
    commands = {
        "load": ("-c", LOAD, str(folder)),
        "generate": ("-m", "gptctl", "generate", str(folder), "Hello", "--max-tokens", "3", "--device", "cpu", "-q"),
        "export hf": export,
        "export hf bfloat16": (*export, "--dtype", "bfloat16"),
        "export gguf": (*export, "--format", "gguf"),
        "export gguf q8_0": (*export, "--format", "gguf", "--dtype", "q8_0"),
    }
    imports, found = peak("-c", IMPORTS), {}
    for name, command in commands.items():
        found[name] = round((peak(*command) - imports) / size, 2)
        shutil.rmtree(out, ignore_errors=True)
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        results: dict[str, Any] = {}
        for case in CASES:
            size = make_folder(case, root / case)
            results[case] = {"bytes_in_float32": size, "ratio": measure(root / case, size)}
            shutil.rmtree(root / case)
            print(case, results[case], flush=True)
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
