"""Run a model on requests in any process: the specification that is sent there, and the function that uses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from gptctl import __version__
from gptctl.core.errors import DataError
from gptctl.evals import tasks
from gptctl.evals.inference import loaded_model
from gptctl.evals.inference.loaded_model import LoadedModel
from gptctl.evals.inference.options import InferenceOptions
from gptctl.evals.tasks import Outputs
from gptctl.infer.request import Request


@dataclass(frozen=True)
class InferenceSpec:
    """How a model is run, in this process or in one of several. `fingerprint` is the model's."""

    folder: str
    fingerprint: str
    task: str
    options: InferenceOptions
    device: str
    threads: int

    def load(self) -> LoadedModel:
        """Return the model, which is loaded once per process."""
        return loaded_model.load(self.folder, self.fingerprint)

    def cache_identity(self) -> dict[str, Any]:
        """Return everything but the requests that the outputs depend on."""
        import torch

        return {
            "model": self.fingerprint,
            "tokenizer": self.load().tokenizer.hash,
            "task": self.task,
            "settings": asdict(self.options),
            "device": torch.device(self.device).type,
            "torch": torch.__version__,
            "gptctl": __version__,
        }


def run_block(spec: InferenceSpec, requests: Sequence[Request]) -> Outputs:
    """Run a block of requests."""
    import torch

    configure_once(spec.threads)
    return tasks.load(spec.task).run_requests(spec.load(), requests, spec.options, torch.device(spec.device))


@lru_cache(maxsize=1)
def configure_once(threads: int) -> None:
    """Configure this process for inference, once."""
    from gptctl.model.device import configure_process

    configure_process(threads)


def choose_task(model: LoadedModel, task: str, has_choices: bool, wants_texts: bool) -> str:
    """Return the task: the one named, else what a classifier can do, else what data and metrics call for.

    Raises DataError (3) if the model cannot do it.
    """
    if task == "auto":
        for_language_model = "choices" if has_choices else "generate" if wants_texts else "lm"
        task = "classify" if model.is_classifier else for_language_model
    if (task == "classify") != model.is_classifier:
        kind = "a classifier" if model.is_classifier else "a language model, without labels of its own"
        raise DataError(f"the model is {kind}, and cannot do the task {task}", "leave out task, or use another model")
    return task
