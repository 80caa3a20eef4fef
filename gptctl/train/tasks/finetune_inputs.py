"""What `gptctl finetune` reads: the model and the texts, opened and checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from gptctl.core.context import Context
from gptctl.core.errors import UsageError
from gptctl.core.written_files import FileState, check_states, states_of
from gptctl.io.files import content_hash
from gptctl.io.input.blocks import UnreadableRecord
from gptctl.model.config import ModelConfig
from gptctl.model.files import model_manifest
from gptctl.model.saved_model import SavedModel
from gptctl.train.planning.plan_run import PlanOptions
from gptctl.train.tasks.finetune_options import FinetuneOptions
from gptctl.train.tasks.finetune_task import FinetuneTask
from gptctl.train.tasks.preflight import check_command
from gptctl.train.tasks.prepare_task import prepare_task


@dataclass(frozen=True)
class FinetuneInputs:
    """The model, with the context that is trained on, the processes, and the texts of each source by their split.

    `fingerprints` are those of the texts, and `states` those of the model's files when it was opened. `quarantined` are
    texts that are left out because they have no label, or because they are no conversations.
    """

    config: FinetuneOptions
    folder: Path
    saved: SavedModel
    model: ModelConfig
    processes: PlanOptions
    sources: dict[str, dict[str, pa.Table]]
    fingerprints: dict[str, str]
    states: Mapping[Path, FileState]
    quarantined: list[UnreadableRecord]

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The texts of the first source, by split."""
        return next(iter(self.sources.values()))

    def count(self, split: str) -> int:
        """Return the number of texts in a split of all sources."""
        return sum(len(found[split]) for found in self.sources.values())

    def current_fingerprints(self, data: Sequence[str]) -> dict[str, str]:
        """Return the fingerprints of all that is read. Raises DataError (3) for files that have changed since then."""
        check_states(self.states)
        texts = self.config.checked_fingerprints(data, self.fingerprints)
        template = None if "chat_template" in self.config.without_effect() else self.config.chat_template
        also = {"chat_template": content_hash(template)} if template else {}
        return {"model": model_manifest.model_fingerprint(self.folder)} | texts | also

    def prepare(self, warn: Callable[[str], None]) -> FinetuneTask:
        """Prepare data and model for the chosen task. What it leaves out is then in `quarantined`."""
        task = prepare_task(self.config, self.folder, self.saved, self.sources, warn)
        self.quarantined.extend(record for record in task.quarantined if record not in self.quarantined)
        return task


def open_inputs(config: FinetuneOptions, base: str, data: Sequence[str], context: Context) -> FinetuneInputs:
    """Open a model and the texts to train it on. Warn of texts that are left out, and of an unfinished run.

    Raises UsageError (2) for options that do not fit together, DataError (3) for a model or texts that cannot be read,
    MachineError (4) for a device or a package that is missing.
    """
    from gptctl.model.files.locate import find_model
    from gptctl.model.folder import open_model

    check_command(config)
    folder = find_model(base, context.warn, context.info)
    states = states_of(model_manifest.files_of(folder))
    saved = open_model(folder).saved  # each process reads the weights that it trains
    model, processes = config.limit_context(saved.config), config.plan_options(config.micro_batch_size)
    if config.lora and "tp" in processes.strategies():
        raise UsageError("--lora cannot be used with tensor parallelism", "leave out parallel=tp and tp_size")
    if config.task == "preference" and config.world_size() > 1:
        if processes.strategy in ("fsdp", "tp") or processes.tp_size > 1:
            hint = "leave out parallel and tp_size: with ddp each process has the model and its reference"
            raise UsageError("--task preference cannot be used with a model that is split over processes", hint)
        processes = replace(processes, strategy="ddp")
    if config.nodes > 1 and (config.seeds > 1 or (config.fold_column and config.fold is None)):
        hint = "start one command for each: --seed N, or --fold-column COLUMN --set fold=NAME"
        raise UsageError("--seeds and --fold-column train on one machine", hint)
    found = config.read_sources(data, context)
    return FinetuneInputs(
        config, folder, saved, model, processes, found.sources, found.fingerprints, states, found.quarantined
    )
