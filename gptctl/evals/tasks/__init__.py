"""Evaluation tasks: what a model does with the documents, one file per task.

A task is a module of the form `Task`. It turns documents into requests, runs a model on requests, and turns the outputs
into rows of predictions. The output for a request depends on the request, the model and the options only, so that
outputs can be cached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, runtime_checkable

import pyarrow as pa

from gptctl.core import plugins
from gptctl.evals.inference.loaded_model import LoadedModel
from gptctl.evals.inference.options import InferenceOptions
from gptctl.infer.request import Request
from gptctl.io.input.predictions import Rows

if TYPE_CHECKING:
    import torch

PACKAGE = "gptctl.evals.tasks"

Outputs: TypeAlias = dict[str, list[Any]]  # columns by name, one value per request


class TaskRequests(Protocol):
    """The requests for a table of documents."""

    @property
    def requests(self) -> Sequence[Request]:
        """Return the requests, in the order of the documents."""

    def to_rows(self, outputs: Outputs) -> Rows:
        """Return a row of predictions for each document, from the outputs of all requests."""


@runtime_checkable
class Task(Protocol):
    """What every task has. `PREDICTION_TYPE` is a file of gptctl/evals/prediction_types: the type of its rows."""

    PREDICTION_TYPE: str

    def build_requests(self, table: pa.Table, model: LoadedModel, options: InferenceOptions) -> TaskRequests:
        """Build the requests for documents; the model is not run."""

    def run_requests(
        self, model: LoadedModel, requests: Sequence[Request], options: InferenceOptions, device: torch.device
    ) -> Outputs:
        """Run the model on some of the requests."""

    def report_settings(self, model: LoadedModel, options: InferenceOptions) -> Mapping[str, Any]:
        """Return what a reader of the scores must know, such as the stride; it becomes part of the report."""


CONTRACT = Task


def load(name: str) -> Task:
    """Load a task."""
    return cast(Task, plugins.load(PACKAGE, name))
