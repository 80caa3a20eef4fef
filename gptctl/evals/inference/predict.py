"""Ask a model about documents: load it, put the questions, keep the answers, make rows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import torch

from gptctl import __version__
from gptctl.core import plugins
from gptctl.core.context import Context
from gptctl.core.errors import DataError
from gptctl.evals.inference import cache
from gptctl.evals.inference.cache import Asking, Block
from gptctl.evals.inference.loaded_model import Answers, Asked, Settings
from gptctl.evals.scoring.metric_results import Rows, Values
from gptctl.model.classifier import Classifier
from gptctl.model.folder import load_model
from gptctl.text.classifier_inputs import Framing
from gptctl.text.tokenizer import Tokenizer

TASKS = "gptctl.evals.tasks"


@dataclass(frozen=True)
class Job:
    """How blocks are answered, in any process. `fingerprint` is the model's; `prepare` readies a process."""

    folder: str
    fingerprint: str
    task: str
    settings: Settings
    device: str
    threads: int
    prepare: Callable[[int], None]

    def asker(self, asked: Asked) -> Values:
        """Describe everything but the tokens that answers depend on, for the cache."""
        return {
            "model": self.fingerprint,
            "tokenizer": asked.coder.hash,
            "task": self.task,
            "settings": asdict(self.settings),
            "device": torch.device(self.device).type,
            "torch": torch.__version__,
            "gptctl": __version__,
        }


@lru_cache(maxsize=2)
def load(folder: str, fingerprint: str) -> tuple[Asked, Values]:
    """Load a model, once a process, and what its training noted. Raises as `load_model` does."""
    model, _, tokenizer_json, extra = load_model(Path(folder))
    names = tuple(extra.get("label_names", ()))
    if isinstance(model, Classifier) and len(names) != model.labels:
        names = ()
    framing = Framing.from_json(extra["framing"]) if extra.get("framing") else None
    return Asked(model, Tokenizer.from_json(tokenizer_json), names, framing, extra.get("pair_column")), extra


def task_of(asked: Asked, wanted: str, choices: bool, texts_wanted: bool) -> str:
    """Choose the task: as asked for, else what a classifier can do, else what data and metrics call for.

    Raises DataError (3) where the model can't do it.
    """
    classifier = isinstance(asked.model, Classifier)
    if wanted == "auto":
        fitting = "choices" if choices else "generate" if texts_wanted else "lm"
        wanted = "classify" if classifier else fitting
    if (wanted == "classify") != classifier:
        found = "is a classifier" if classifier else "is a language model, without labels of its own"
        raise DataError(f"the model {found}, and cannot do the task {wanted}", "leave out task, or take another model")
    return wanted


def module_of(task: str) -> ModuleType:
    """Load a task."""
    return plugins.load(TASKS, task)


def answer_block(job: Job, block: Block) -> Answers:
    """Answer one block, in this process or in a worker."""
    make_ready(job.threads, job.prepare)
    asked, _ = load(job.folder, job.fingerprint)
    found: Answers = module_of(job.task).answer(asked, block, job.settings, torch.device(job.device), lambda done: None)
    return found


@lru_cache(maxsize=1)
def make_ready(threads: int, prepare: Callable[[int], None]) -> None:
    """Ready this process, once."""
    prepare(threads)


def rows_of(
    job: Job,
    table: pa.Table,
    run: Callable[..., Iterator[Any]],
    procs: int,
    folder: Path | None,
    context: Context,
) -> tuple[Rows, Asking]:
    """Ask about all documents of a table. `run` is a runner of gptctl/runners, `folder` the cache, or None."""
    asked, _ = load(job.folder, job.fingerprint)
    prepared = module_of(job.task).prepare(table, asked, job.settings)

    def ask(blocks: Iterable[Block]) -> Iterator[Answers]:
        for answers in run(partial(answer_block, job), blocks, procs):
            context.stop.check("stopped")
            yield answers

    total = len(prepared.pieces)
    asking = cache.answer_all(
        prepared.pieces, job.settings.batch_size, job.asker(asked), ask, folder, context.warn,
        lambda done: context.progress(done, total, "pieces"),
    )  # fmt: skip
    return prepared.finish(asking.answers), asking


def facts_of(job: Job) -> Values:
    """Say what the figures depend on, and whose probabilities stand where."""
    asked, _ = load(job.folder, job.fingerprint)
    about: Values = {"rows": module_of(job.task).ROWS, "report": module_of(job.task).facts(asked, job.settings)}
    return about | ({"labels": list(asked.label_names)} if asked.label_names else {})


def texts_of(table: pa.Table) -> list[str]:
    """Return what is asked as text: the document, and its choices if there are any."""
    texts: list[str] = table["text"].to_pylist()
    if "choices" not in table.column_names:
        return texts
    return [" ".join([text, *choices]) for text, choices in zip(texts, table["choices"].to_pylist(), strict=True)]
