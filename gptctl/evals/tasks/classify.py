"""Classification: label each text, or pair of texts, with a finetuned classifier that reads it as in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from gptctl.core.errors import DataError
from gptctl.evals.inference.loaded_model import LoadedModel
from gptctl.evals.inference.options import InferenceOptions
from gptctl.evals.tasks import Outputs
from gptctl.infer.request import Request
from gptctl.io.input.predictions import Rows
from gptctl.pipeline.data_splits import labels_of
from gptctl.text.classifier_inputs import ClassifierInputs, Tokens, encode_pairs

if TYPE_CHECKING:
    import torch

PREDICTION_TYPE = "labels"


@dataclass(frozen=True)
class ClassifyRequests:
    """One request per text or pair of texts. `texts` holds the tokens of each, without markers."""

    ids: list[str]
    labels: list[str]
    texts: list[tuple[Tokens] | tuple[Tokens, Tokens]]
    label_names: tuple[str, ...]
    classifier_inputs: ClassifierInputs
    requests: list[Request]

    def to_rows(self, outputs: Outputs) -> Rows:
        """Return the most probable label and all probabilities of each text, and whether it was truncated."""
        return [
            {
                "id": identity,
                "label": label,
                "pred": self.label_names[max(range(len(probs)), key=probs.__getitem__)],
                "probs": probs,
                "truncated": self.classifier_inputs.truncates(*tokens),
            }
            for identity, label, probs, tokens in zip(self.ids, self.labels, outputs["probs"], self.texts, strict=True)
        ]


def build_requests(table: pa.Table, model: LoadedModel, options: InferenceOptions) -> ClassifyRequests:
    """Build a request for each text. It holds all sequences that the text is framed as, one after the other.

    Raises DataError (3) for a missing label or second text, and for a model without label names.
    """
    if not model.label_names or model.classifier_inputs is None:
        raise DataError("the classifier has no names for its labels", "finetune it with: gptctl finetune MODEL DATA")
    labels = labels_of(table, options.label_column, "DATA")
    inputs = limited_inputs(model, options)
    hint = "the model was finetuned on pairs: DATA needs that column"
    texts = encode_pairs(table, model.tokenizer, model.pair_column, "DATA", hint)
    requests = [Request(np.concatenate(inputs.sequences(*tokens)), 0) for tokens in texts]
    return ClassifyRequests(table["id"].to_pylist(), labels, texts, model.label_names, inputs, requests)


def limited_inputs(model: LoadedModel, options: InferenceOptions) -> ClassifierInputs:
    """Return how the model's inputs are built, with at most `max_length` tokens per sequence."""
    assert model.classifier_inputs is not None
    return replace(
        model.classifier_inputs, max_seq_len=min(model.classifier_inputs.max_seq_len, model.max_length(options))
    )


def run_requests(
    model: LoadedModel, requests: Sequence[Request], options: InferenceOptions, device: torch.device
) -> Outputs:
    """Return the probabilities of the labels for each text."""
    from gptctl.infer.classify import label_probabilities
    from gptctl.model.classifier import Classifier

    assert isinstance(model.model, Classifier)
    assert model.classifier_inputs is not None
    start = model.classifier_inputs.start  # the first token of each sequence, which occurs nowhere else
    texts = [np.split(request.tokens, np.flatnonzero(request.tokens == start)[1:]) for request in requests]
    return {"probs": label_probabilities(model.model, texts, options.batch_size, device).tolist()}


def report_settings(model: LoadedModel, options: InferenceOptions) -> Mapping[str, Any]:
    """Return how much of a text is read, and how a longer text is cut."""
    inputs = limited_inputs(model, options)
    return {"context": inputs.max_seq_len, "long_documents": inputs.long_documents}
