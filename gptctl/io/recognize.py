"""Recognise what a path holds, so that an error can name it and the command that makes what is needed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gptctl.core.errors import DataError
from gptctl.core.run_record import is_of_data_or_settings
from gptctl.io.dataset import manifest
from gptctl.io.dataset.manifest import Manifest
from gptctl.io.files import open_raw, plain_path, read_if_exists
from gptctl.io.object_storage.address import is_uri, join

Need = Literal["documents", "tokens", "model", "predictions", "output"]

# What the kinds of a manifest are called, and what recognize() finds besides.
NAMES = {
    "documents": "documents",
    "tokens": "tokens",
    "samples": "generated samples",
    "predictions": "predictions",
    "scores": "predictions",
    "choices": "predictions",
    "run": "a trained model",
    "filter": "a quality filter, a model for clean --filters classifier",
    "export": "an exported model",
    "model": "a model",
    "checkpoint": "a checkpoint",
    "adapter": "an adapter",
    "gguf": "a GGUF file",
    "weights": "a file of weights",
    "bin": ".bin files of token ids",
    "tokenizer": "a tokenizer",
    "report": "a page of gptctl report",
    "datasets": "a dataset that Hugging Face's datasets saved",
    "texts": "files",
    "empty": "nothing",
    "missing": "nothing",
}
NEEDED = {
    "documents": "documents",
    "tokens": "tokens",
    "model": "a model",
    "predictions": "predictions",
    "output": "an output of gptctl",
}
READ = {"documents": "documents", "tokens": "shards of gptctl"}
MODELS = ("run", "export", "model", "checkpoint", "adapter")
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
# How files begin that torch.save writes: a ZIP archive, and before version 1.6 a pickled magic number.
PICKLES = (b"PK\x03\x04", bytes.fromhex("80028a0a6cfc9c46f9206aa85019"))
REPORT_MARK = b" - gptctl report</title>"
HEAD_BYTES = 4096


@dataclass(frozen=True)
class Content:
    """What a path holds.

    kind: a key of NAMES. manifest: that of a complete output of gptctl.
    """

    path: str
    kind: str
    manifest: Manifest | None = None

    def __str__(self) -> str:
        """Return what the path holds in words, such as "tokens" or "a model"."""
        return NAMES.get(self.kind, self.kind)

    @property
    def is_model(self) -> bool:
        """Return whether it is a model that a command can load."""
        return self.kind in MODELS

    @property
    def stage(self) -> str:
        """Return the name of the command that wrote it, or an empty string."""
        return self.manifest.stage if self.manifest else str(manifest.record_of(self.path).get("stage", ""))

    def command(self) -> str:
        """Return the command line that wrote it."""
        argv = manifest.record_of(self.path).get("argv")
        return shlex.join(["gptctl", *argv]) if argv else f"gptctl {self.stage} ..."

    def sources(self) -> list[str]:
        """Return the paths that it was made from."""
        recorded: dict[str, list[str]] = manifest.record_of(self.path).get("sources", {})
        return [place for places in recorded.values() for place in places]


def recognize(path: str) -> Content:
    """Return what a path or URI holds. Only names and records are read.

    Raises DataError (3) for an output of gptctl whose manifest is damaged.
    """
    path = plain_path(path)
    if manifest.is_ours(path):
        found = manifest.read(path)
        return Content(path, found.kind, found)
    if manifest.record_of(path):
        return Content(path, "unfinished")
    if is_uri(path):
        return Content(path, "texts")
    place = Path(path)
    if place.is_dir():
        return Content(path, "damaged" if manifest.is_damaged_output(path) else kind_of_folder(place))
    return Content(path, kind_of_file(place) if place.is_file() else "missing")


def kind_of_folder(folder: Path) -> str:
    """Return the kind of a folder without records of gptctl."""
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    has_weights = any(name.endswith(".safetensors") for name in names)
    if "adapter_config.json" in names and not any(name.startswith("model") for name in names):
        return "adapter"
    if "config.json" in names and (has_weights or any(name.startswith("pytorch_model") for name in names)):
        return "checkpoint" if folder.resolve().parent.name == "checkpoints" else "model"
    if has_weights:
        return "weights"
    if "dataset_dict.json" in names or {"dataset_info.json", "state.json"} <= names:
        return "datasets"
    if any(name.endswith(".gguf") for name in names):
        return "gguf"
    if {"train.bin", "val.bin"} & names:
        return "bin"
    if names and names <= {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "tokenizer.model"}:
        return "tokenizer"
    return "texts" if names else "empty"


def kind_of_file(file: Path) -> str:
    """Return the kind of a file."""
    if file.suffix == ".gguf":
        return "gguf"
    if file.suffix in WEIGHTS:
        return "bin" if file.suffix == ".bin" and not is_pickle(str(file)) else "weights"
    if file.name == "tokenizer.json":
        return "tokenizer"
    if file.suffix == ".html":
        with file.open("rb") as opened:
            return "report" if REPORT_MARK in opened.read(HEAD_BYTES) else "texts"
    return "texts"


def is_pickle(path: str) -> bool:
    """Return whether a file begins as one that torch.save wrote."""
    with open_raw(path) as file:
        return bytes(file.read(len(PICKLES[1]))).startswith(PICKLES)


def wrong_content(found: Content, need: Need) -> DataError:
    """Return the error for a path that holds something else than a command needs.

    The message names what it holds, and the hint the command that makes what is needed.
    """
    if found.kind == "unfinished":
        what = f"{found.path} is an unfinished output of gptctl {found.stage}"
        record = manifest.record_of(found.path)
        if is_of_data_or_settings(record):
            return DataError(f"{what}, which failed: {record.get('error')}", f"correct this in: {found.command()}")
        return DataError(what, f"run it again to go on: {found.command()}")
    if found.kind == "damaged":
        hint = "remove it and run the command that makes it; see gptctl doctor"
        return DataError(f"{found.path} is a damaged output of gptctl", hint)
    if found.kind == "bin" and need in ("documents", "tokens"):
        hint = f"convert them: gptctl tokenize {shlex.quote(found.path)} -o tokens --tokenizer TOKENIZER"
        return DataError(f"{found.path} has token ids in nanoGPT's format, not {READ[need]}", hint)
    if need == "model" and found.kind == "export":
        return DataError(
            f"{found.path} is a GGUF export, which gptctl does not read", "export it without --format gguf"
        )
    verb = "is" if Path(found.path).is_file() else "holds"
    return DataError(f"{found.path} {verb} {found}, not {NEEDED[need]}", hint_to_make(found, need))


def hint_to_make(found: Content, need: Need) -> str:
    """Return the command that makes what is needed, from what the path holds if that is possible."""
    place = shlex.quote(found.path)
    is_text = found.kind in ("documents", "texts", "datasets")
    if found.kind == "datasets":
        pattern = "**/*.arrow" if read_if_exists(join(found.path, "dataset_dict.json")) else "*.arrow"
        place = shlex.quote(f"{found.path}/{pattern}")
    if need == "documents":
        if found.kind == "datasets":
            return f"name its Arrow files: gptctl clean {place} -o clean"
        made_from = f"; this was made from {' and '.join(sources)}" if (sources := found.sources()) else ""
        return f"documents are made by: gptctl clean TEXTS -o clean{made_from}"
    if need == "tokens":
        made = f"gptctl tokenize {place} -o tokens" if is_text else "gptctl tokenize TEXTS -o tokens"
        of_model = f"; to train this model further: gptctl finetune {place} DATA -o OUT"
        return f"make tokens: {made}{of_model if found.is_model else ''}"
    if need == "model":
        if found.kind == "tokens":
            return f"train one: gptctl pretrain {place} -o run"
        if found.kind == "filter":
            use = f"gptctl clean TEXTS -o good --filters classifier --set classifier.model={place}"
            return f"it is used by: {use}; a classifier is trained by: gptctl finetune MODEL DATA -o OUT"
        if found.kind in ("weights", "gguf"):
            return "name a folder with config.json and *.safetensors"
        if is_text:
            return f"train one: gptctl tokenize {place} -o tokens, then gptctl pretrain tokens -o run"
        return "train one: gptctl pretrain TOKENS -o run"
    if need == "predictions":
        model = place if found.is_model else "MODEL"
        data = place if is_text or found.kind == "tokens" else "DATA"
        return f"predictions are made by: gptctl eval {model} {data} -o scores"
    if is_text:
        return f"make one: gptctl clean {place} -o clean"
    return f"gptctl inspect {place} shows it" if found.kind != "empty" else "name what a command wrote"
