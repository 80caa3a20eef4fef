"""Open what the commands wrote: datasets, runs and models."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gptctl.api.datasets import Dataset
from gptctl.api.errors import as_gptctl_error
from gptctl.api.given import as_given
from gptctl.api.models import Model, Run
from gptctl.core.errors import UsageError


@as_gptctl_error
def load(
    path: str | Path,
    *,
    split: Literal["", "train", "val", "test"] = "",
    dtype: Literal["float32", "bfloat16", "int8", "int4"] = "float32",
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
) -> Dataset | Run | Model:
    """Open a dataset, a run or a model.

    path: the output of a command, a checkpoint, a model folder, an adapter, or a Hugging Face folder. A dataset can
    be a URI.
    split: for tokens, the split to read; an empty string reads all splits.
    dtype, device: for models, the number format of the weights and where they are computed with.

    Raises GptctlError if the path does not exist, or is none of these.
    """
    from gptctl.io.dataset import manifest
    from gptctl.io.files import plain_path
    from gptctl.io.hub import client
    from gptctl.io.hub.uri import HubUri, is_hub
    from gptctl.io.object_storage.address import is_uri
    from gptctl.io.recognize import recognize, wrong_content

    place = as_given("path", path)
    if not isinstance(place, str) or "\0" in place:
        raise UsageError(f"path is that of a file or folder, not {path!r}", "see help(gptctl.load)")
    if not isinstance(split, str):
        raise UsageError(f"split takes the name of a split, not {split!r}", "see help(gptctl.load)")
    place = plain_path(place)
    if is_hub(place):
        place = str(client.pin(HubUri.parse(place)))
    if not is_uri(place) and not Path(place).exists():
        raise UsageError(f"no such file or folder: {path}", "path is the output of a command, or a model folder")
    is_model = is_hub(place) and HubUri.parse(place).kind == "model"
    kind = manifest.read(place).kind if not is_model and manifest.is_ours(place) else ""
    if kind == "filter":
        raise wrong_content(recognize(place), "model")
    if kind in ("run", "export", ""):
        model = (Run if kind == "run" else Model)(place, dtype, device)
        if split:
            raise UsageError("split is for datasets of tokens", f"{path} is a model: leave out split")
        return model
    return Dataset(place, split)
