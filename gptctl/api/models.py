"""Models and runs: generating text, scoring text, and predicting labels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from gptctl.api.errors import as_gptctl_error
from gptctl.api.given import as_given, kind, texts_of
from gptctl.api.wording import in_python
from gptctl.core.errors import DataError, UsageError
from gptctl.core.plugins import did_you_mean
from gptctl.core.visible import escape_html

if TYPE_CHECKING:
    from gptctl.evals.inference.loaded_model import LoadedModel
    from gptctl.infer.generator import TextGenerator
    from gptctl.text.tokenizer import Tokenizer

Dtype = Literal["float32", "bfloat16", "int8", "int4"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
WEIGHTS: dict[Dtype, Literal["fp32", "bf16", "int8", "int4"]] = {
    "float32": "fp32",
    "bfloat16": "bf16",
    "int8": "int8",
    "int4": "int4",
}


@dataclass(frozen=True)
class Score:
    """How likely a model finds a text: the sum of -ln p over its tokens in nats, and how much text that is."""

    nats: float
    tokens: int
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        """The score in bits per UTF-8 byte, which can be compared between tokenizers. NaN for an empty text."""
        return self.nats / (math.log(2) * self.bytes) if self.bytes else math.nan

    @property
    def perplexity(self) -> float:
        """e to the nats per token, which can be compared for one tokenizer only. NaN for an empty text."""
        return math.exp(self.nats / self.tokens) if self.tokens else math.nan


@dataclass(frozen=True)
class Prediction:
    """The label that a classifier predicts, and the probability of every label."""

    label: str
    probabilities: dict[str, float]


class Model:
    """A language model or a classifier. Its weights are loaded when they are first needed.

    path: a run, one of its checkpoints, a model folder, an adapter or a Hugging Face folder.
    dtype: the number format of the weights in `generate`; "int8" and "int4" are for the CPU.
    """

    @as_gptctl_error
    def __init__(self, path: str | Path, dtype: Dtype = "float32", device: DeviceName = "auto") -> None:
        from gptctl.model.files.locate import find_model

        check_choice("dtype", dtype, get_args(Dtype))
        check_choice("device", device, get_args(DeviceName))
        self.path = str(path)
        self.dtype = dtype
        self.device = device
        self.folder = find_model(self.path)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model."""
        return self._loaded.tokenizer

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a classifier. It is empty for a language model."""
        return self._loaded.label_names

    @overload
    def generate(self, prompt: str, **options: Any) -> str: ...

    @overload
    def generate(self, prompt: list[str] | tuple[str, ...], **options: Any) -> list[str]: ...

    @overload
    def generate(self, prompt: Sequence[int], **options: Any) -> list[int]: ...

    @as_gptctl_error
    def generate(
        self, prompt: str | list[str] | tuple[str, ...] | Sequence[int], **options: Any
    ) -> str | list[str] | list[int]:
        """Continue a text, several texts or token ids, and return the new text, the new texts or the new token ids.

        options: those of `SamplingParams`: max_tokens (128), temperature (1.0; 0 is greedy), top_k, top_p, min_p,
        repetition_penalty, stop and seed. A text is read after an end-of-text token, as in training; token ids are
        read as they are.

        The texts are generated together, up to 16 at a time. Each is sampled with its own random numbers.

        Raises GptctlError for a classifier, or an unknown option.
        """
        generator = self._generator
        params = sampling_params(options, generator.generation_config)
        if ids := token_ids(prompt, generator.tokenizer.vocab_size):
            return generator.generate([ids], params)[0][0].token_ids
        texts = texts_of("prompt", prompt)
        found = [rows[0].text for rows in generator.generate(generator.encode(texts, params.max_tokens), params)]
        return found[0] if isinstance(prompt, str) else found

    @as_gptctl_error
    def stream(self, prompt: str, **options: Any) -> Iterator[str]:
        """Continue a text, and yield the new text as it is generated. The options are those of `generate`."""
        if not isinstance(prompt, str):
            raise UsageError(f"stream takes one text, not {kind(prompt)}", "give text as str, or use generate")
        texts_of("prompt", prompt)
        params = sampling_params(options, self._generator.generation_config)
        return (
            chunk.text for chunk in self._generator.stream(self._generator.encode([prompt], params.max_tokens), params)
        )

    @overload
    def score(self, text: str) -> Score: ...

    @overload
    def score(self, text: list[str] | tuple[str, ...]) -> list[Score]: ...

    @as_gptctl_error
    def score(self, text: str | list[str] | tuple[str, ...]) -> Score | list[Score]:
        """Score a text, or several: every token once, after as many earlier tokens as the model reads.

        The result for a text equals `gptctl eval MODEL` on it. Raises GptctlError for a classifier.
        """
        from gptctl.evals.inference.scoring_windows import window_requests
        from gptctl.infer.score import score_requests
        from gptctl.model.classifier import Classifier
        from gptctl.model.device import select_device

        loaded = self._loaded
        if isinstance(loaded.model, Classifier):
            raise DataError(f"{self.path} is a classifier, which predicts labels", "use predict")
        texts = texts_of("text", text)
        encoded = loaded.tokenizer.encode_to_arrays(texts)
        length, start = loaded.model.config.max_seq_len, loaded.tokenizer.start_id
        windows = [window_requests(tokens, start, length, length) for tokens in encoded]
        flat = [request for document in windows for request in document]
        nats = iter(score_requests(loaded.model, flat, 16, select_device(self.device)).nll.tolist())
        scores = [
            Score(math.fsum(next(nats) for _ in document), len(tokens), len(one.encode()))
            for one, tokens, document in zip(texts, encoded, windows, strict=True)
        ]
        return scores[0] if isinstance(text, str) else scores

    @overload
    def predict(self, text: str) -> Prediction: ...

    @overload
    def predict(self, text: list[str] | tuple[str, ...]) -> list[Prediction]: ...

    @as_gptctl_error
    def predict(self, text: str | list[str] | tuple[str, ...]) -> Prediction | list[Prediction]:
        """Predict the label of a text, or of several. Raises GptctlError for a language model, or one of text pairs."""
        from gptctl.infer.classify import label_probabilities
        from gptctl.model.classifier import Classifier
        from gptctl.model.device import select_device

        loaded = self._loaded
        if not isinstance(loaded.model, Classifier) or loaded.classifier_inputs is None:
            raise DataError(f"{self.path} is a language model, which has no labels", "use generate or score")
        if loaded.pair_column is not None:
            raise DataError(f"{self.path} classifies pairs of texts", f"use: gptctl eval {self.path} DATA")
        texts = texts_of("text", text)
        sequences = [loaded.classifier_inputs.sequences(tokens) for tokens in loaded.tokenizer.encode_to_arrays(texts)]
        rows = label_probabilities(loaded.model, sequences, 16, select_device(self.device)).tolist()
        found = [Prediction(self.labels[row.index(max(row))], dict(zip(self.labels, row, strict=True))) for row in rows]
        return found[0] if isinstance(text, str) else found

    @cached_property
    def _loaded(self) -> LoadedModel:
        from gptctl.evals.inference.loaded_model import load
        from gptctl.model import device
        from gptctl.model.files.model_manifest import model_fingerprint

        device.configure_process(device.cpu_threads())
        return load(str(self.folder), model_fingerprint(self.folder))

    @cached_property
    def _generator(self) -> TextGenerator:
        from gptctl.infer.generator import TextGenerator
        from gptctl.model import device

        device.configure_process(device.cpu_threads())
        return TextGenerator.load(self.folder, device=self.device, dtype=WEIGHTS[self.dtype])

    def __repr__(self) -> str:
        """Return one line that says what this is."""
        return f"<gptctl.{type(self).__name__} {self.path}>"

    def _repr_html_(self) -> str:
        """Return the line for notebooks."""
        return f"<p>{escape_html(repr(self))}</p>"


class Run(Model):
    """The output of `pretrain` or `finetune`: a model, and how it was trained."""

    @cached_property
    @as_gptctl_error
    def metrics(self) -> dict[str, Any]:
        """The figures of the finished run, such as `val_loss`."""
        from gptctl.io.dataset import manifest

        return manifest.read(self.path).metrics

    @as_gptctl_error
    def events(self) -> list[dict[str, Any]]:
        """Return the events of the run, as docs/pretrain.md describes them. Lines that are damaged are left out."""
        found = []
        for line in (Path(self.path) / "events.jsonl").read_text(encoding="utf-8").splitlines():
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            found += [event] if isinstance(event, dict) else []
        return found

    def _repr_html_(self) -> str:
        """Return the figures as a table for notebooks."""
        rows = "".join(f"<tr><td>{escape_html(k)}</td><td>{escape_html(v)}</td></tr>" for k, v in self.metrics.items())
        return f"<p>{escape_html(repr(self))}</p><table>{rows}</table>"


def token_ids(prompt: Any, vocab_size: int) -> list[int]:
    """Return a prompt of token ids, or nothing for one of text. Raises UsageError (2) for ids that are no tokens."""
    ids = prompt if isinstance(prompt, str) else as_given("prompt", prompt)
    if not isinstance(ids, list) or not ids or not all(type(one) is int for one in ids):
        return []
    if wrong := [one for one in ids if not 0 <= one < vocab_size]:
        raise UsageError(f"prompt has the token id {wrong[0]}", f"the ids of this model are 0 to {vocab_size - 1}")
    return ids


def sampling_params(options: dict[str, Any], generation_config: dict[str, Any]) -> Any:
    """Return the parameters of sampling; those that are not given are the model's own.

    Raises UsageError (2) for unknown options and values out of bounds.
    """
    from gptctl.core.config import Layer, build
    from gptctl.core.config.messages import ARGUMENT
    from gptctl.infer.options import SamplingOptions

    resolve = in_python("Model.generate", SamplingOptions)(build)
    given = {name: as_given(name, value) for name, value in options.items()}
    config, _ = resolve(SamplingOptions, [Layer(ARGUMENT, given)])
    return config.with_model_defaults(generation_config).sampling_params()


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise UsageError (2) for a value that is none of the choices."""
    if not isinstance(value, str) or value not in choices:
        near = did_you_mean(str(value), list(choices))
        raise UsageError(f"{name} takes {', '.join(choices)}, not {value!r}{near}", "see help(gptctl.load)")
