"""Models, configs and texts from strangers: they are data, and nothing in them is run."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.conftest import REPO, Ran, write_jsonl
from tests.faults.harness import ALONE, expect

Gptctl = Callable[..., Ran]


def test_code_beside_a_model(workspace: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    """A Hugging Face folder whose config asks for classes of its own: its tensors are read, its code is not."""
    assert gptctl("export", workspace / "run", "-o", "hf").code == 0
    (tmp_path / "hf" / "manifest.json").unlink(missing_ok=True)
    canary = tmp_path / "canary"
    (tmp_path / "hf" / "modeling_own.py").write_text(f"open({str(canary)!r}, 'w')\nclass Own: pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        told = json.loads((tmp_path / "hf" / name).read_text())
        own = {
            "AutoConfig": "modeling_own.Own",
            "AutoModelForCausalLM": "modeling_own.Own",
            "AutoTokenizer": ["modeling_own.Own", None],
        }
        (tmp_path / "hf" / name).write_text(json.dumps(told | {"auto_map": own}))
    done = gptctl("generate", "hf", "The", "--max-tokens", "2")
    assert done.code == 0, done.err
    assert not canary.exists()
    before = gptctl("generate", workspace / "run", "The", "--max-tokens", "2")
    assert done.out == before.out


def test_a_pickle_among_the_files(workspace: Path, tmp_path: Path, gptctl: Gptctl) -> None:
    """Beside safetensors it is not opened; in their place it is refused, under either name."""
    pickle = b"\x80\x04cos\nsystem\n(S'touch canary'\ntR."
    model = shutil.copytree(workspace / "run" / "model", tmp_path / "model")
    (model / "pytorch_model.bin").write_bytes(pickle)
    assert gptctl("generate", "model", "The", "--max-tokens", "2").code == 0
    (model / "model.safetensors").unlink()
    (model / "manifest.json").unlink()
    expect(gptctl("generate", "model", "The"), 3, "pytorch_model.bin is a pickle", "run code")
    (model / "pytorch_model.bin").unlink()
    (model / "model.safetensors").write_bytes(pickle)
    expect(gptctl("generate", "model", "The"), 3, "model.safetensors")
    assert not (tmp_path / "canary").exists()


def test_hostile_text_and_config(tmp_path: Path, gptctl: Gptctl) -> None:
    """Escapes and markup in a text are shown, not obeyed; a config file is values."""
    text = "\x1b[31mred [bold]x[/b] {{ 7 * 7 }} <script>alert(1)</script> `touch canary` $(touch canary)"
    write_jsonl(tmp_path / "a.jsonl", [{"id": "\x1b]0;title\x07", "text": text}])
    assert gptctl("clean", "a.jsonl", "-o", "out", *ALONE, "--set", "normalize=false").code == 0
    for shape in ("table", "jsonl"):
        shown = gptctl("inspect", "out", "--format", shape)
        assert shown.code == 0
        assert b"\x1b" not in shown.out + shown.err.encode()
        assert b"49" not in shown.out + shown.err.encode()
    (tmp_path / "c.toml").write_text("[clean]\nkeep_rejects = \"__import__('os').system('touch canary')\"\n")
    expect(gptctl("clean", "a.jsonl", "-o", "other", "--config", "c.toml"), 2, "keep_rejects")
    assert not (tmp_path / "canary").exists()


RUNS_DATA = {"eval", "exec", "torch.load", "torch.save", "yaml.load", "os.system", "numpy.load", "np.load"}
MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib"}
REACHES_OUT = {"requests", "urllib.request", "urllib3", "http.client", "ftplib", "smtplib", "huggingface_hub"}
CARD_DATA = {"DatasetCardData", "EvalResult", "ModelCardData"}  # of the hub, which only write YAML


def names(tree: ast.AST) -> Iterator[str]:
    """Return the modules that are imported and the functions that are called, but for np.load without pickles."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name for alias in node.names for name in (alias.name, alias.name.split(".")[0]))
        elif isinstance(node, ast.ImportFrom) and node.module == "huggingface_hub":
            if not {alias.name for alias in node.names} <= CARD_DATA:
                yield node.module
        elif isinstance(node, ast.ImportFrom):
            yield from (
                str(node.module),
                str(node.module).split(".")[0],
                *(f"{node.module}.{alias.name}" for alias in node.names),
            )
        elif isinstance(node, ast.Call):
            safe = any(word.arg == "allow_pickle" and ast.unparse(word.value) == "False" for word in node.keywords)
            if not safe:
                yield ast.unparse(node.func)
            yield from (f"{word.arg}={ast.unparse(word.value)}" for word in node.keywords)


def test_no_code_of_ours_runs_data_or_reaches_out() -> None:
    """No pickle, eval, shell or remote code; no client of the network but those of storage and the hub for a URI."""
    forbidden = RUNS_DATA | MODULES | REACHES_OUT | {"shell=True", "trust_remote_code=True", "allow_pickle=True"}
    files = sorted((REPO / "gptctl").rglob("*.py"))
    assert len(files) > 200
    for path in files:
        allowed = {"huggingface_hub"} if path == REPO / "gptctl" / "io" / "hub" / "client.py" else set()
        found = (forbidden - allowed).intersection(names(ast.parse(path.read_text(encoding="utf-8"))))
        assert not found, (path, found)
