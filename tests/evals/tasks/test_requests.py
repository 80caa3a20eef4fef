"""Documents become requests, and outputs become rows."""

from __future__ import annotations

import pyarrow as pa
import pytest

from gptctl.core.errors import DataError, UsageError
from gptctl.evals.inference import loaded_model
from gptctl.evals.inference.loaded_model import LoadedModel
from gptctl.evals.inference.options import InferenceOptions
from gptctl.evals.tasks import choices, generate, lm
from tests.evals import small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A language model that reads 32 bytes at once."""
    folder = small_model.save(tmp_path_factory.mktemp("models") / "model")
    return loaded_model.load(str(folder), "a fingerprint")


def test_documents_are_cut_into_windows(model: LoadedModel) -> None:
    table = pa.table({"id": ["a", "b"], "text": ["x" * 40, ""]})
    requests = lm.build_requests(table, model, InferenceOptions(max_length=16, stride=8))
    assert [request.num_targets for request in requests.requests] == [16, 8, 8, 8]
    assert requests.to_rows({"nats": [1.0, 2.0, 3.0, 4.0]}) == [
        {"id": "a", "nats": 10.0, "bytes": 40, "tokens": 40},
        {"id": "b", "nats": 0.0, "bytes": 0, "tokens": 0},
    ]


def test_a_choice_is_scored_after_its_context(model: LoadedModel) -> None:
    table = pa.table({"id": ["a"], "text": ["Is it? "], "choices": [["yes", "no"]], "label": [1]})
    requests = choices.build_requests(table, model, InferenceOptions(delimiter=""))
    tokens, scored = requests.requests[0]
    assert (bytes(tokens[1:].tolist()), scored) == (b"Is it? yes", 4)  # the space belongs to the choice
    [row] = requests.to_rows({"nats": [1.5, 2.0]})
    assert (row["loglik"], row["tokens"], row["label"]) == ([-1.5, -2.0], [4, 3], 1)


def test_a_context_that_is_too_long_loses_its_beginning_and_a_choice_nothing(model: LoadedModel) -> None:
    table = pa.table({"id": ["a"], "text": ["c" * 50], "choices": [["y" * 9, "n"]], "label": [0]})
    request, _ = choices.build_requests(table, model, InferenceOptions(max_length=12)).requests
    assert bytes(request.tokens.tolist()) == b"ccc " + b"y" * 9
    with pytest.raises(DataError, match="a choice of 10 tokens, the model reads 8"):
        choices.build_requests(table, model, InferenceOptions(max_length=8))


def test_generated_text_ends_at_the_first_stop_text(model: LoadedModel) -> None:
    table = pa.table({"id": ["a"], "text": ["p" * 50], "label": ["l"]})
    requests = generate.build_requests(table, model, InferenceOptions(max_tokens=30, stop=("\n", "##")))
    assert len(requests.requests[0].tokens) == 2
    assert requests.to_rows({"text": [" out ## more\n"]}) == [{"id": "a", "label": "l", "pred": "out"}]
    with pytest.raises(UsageError, match="max_tokens is 32, and the model reads 32 tokens in all"):
        generate.build_requests(table, model, InferenceOptions(max_tokens=32))


def test_max_length_beyond_the_model_is_refused(model: LoadedModel) -> None:
    with pytest.raises(UsageError, match="max_length is 33, the model reads 32 tokens"):
        model.max_length(InferenceOptions(max_length=33))
