"""Open the output of a run: a folder of this machine, or a URI whose output is first written to a local folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gptctl.core.config import StageConfig, Values
from gptctl.core.context import Context
from gptctl.core.run_folder import Run, open_run
from gptctl.io.files import plain_path
from gptctl.io.object_storage.address import is_uri
from gptctl.io.object_storage.output_store import ObjectOutputStore


@contextmanager
def open_output(
    out: str, config: StageConfig, context: Context, inputs: Values | Callable[[], Values] | None
) -> Iterator[Run]:
    """Open OUT as `open_run` does. For a URI the run works in a local folder, which is uploaded when it finishes."""
    out = plain_path(out)
    store = ObjectOutputStore(out, context) if is_uri(out) else None
    folder = store.folder if store else Path(out)
    with open_run(folder, config, context, inputs, store=store) as run:
        yield run
