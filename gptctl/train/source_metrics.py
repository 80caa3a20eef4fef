"""What a run reads of each of its sources."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from gptctl.train import schedule
from gptctl.train.data.data_source import TokenData
from gptctl.train.data.mixture import Mixture
from gptctl.train.data.phases import Phases, phase_starts
from gptctl.train.job import TrainJob
from gptctl.train.state import TrainerState


def planned_sources(job: TrainJob) -> list[dict[str, Any]]:
    """Return name, tokens (trained on) and epochs of each named source of a job; nothing if they have no names."""
    if not job.train_sources[0].name:
        return []
    samples = schedule.samples_after(job.recipe, schedule.planned_steps(job.recipe, job.max_tokens))
    counts = [samples]
    if job.phases:
        counts = Phases(job.phases, phase_starts(job.phases, samples)).counts(samples).tolist()
    found = []
    for source, count in zip(job.train_sources, counts, strict=True):
        opened = cast(TokenData, source.open())
        epochs = round(count / opened.samples_per_epoch, 4)
        found.append({"name": source.name, "tokens": opened.count_targets(0, count), "epochs": epochs})
    return found


def count_sources(state: TrainerState, samples: range) -> None:
    """Count the samples of an update, and their tokens, by the sources of a mixture."""
    mixture, progress = state.train_data, state.progress
    if not isinstance(mixture, Mixture):
        return
    before, after = mixture.phases.counts(samples.start), mixture.phases.counts(samples.stop)
    tokens = [
        source.count_targets(int(first), int(end - first))
        for source, first, end in zip(mixture.sources, before, after, strict=True)
    ]
    nothing = [0] * len(tokens)
    progress.source_samples = np.add(progress.source_samples or nothing, after - before).tolist()
    progress.source_tokens = np.add(progress.source_tokens or nothing, tokens).tolist()


def source_metrics(state: TrainerState) -> list[dict[str, Any]]:
    """Return name, tokens (trained on), epochs and val_loss (None without a val split) of each source."""
    data, progress = state.train_data, state.progress
    names = [source.name for source in state.job.train_sources]
    if isinstance(data, Mixture):
        nothing = [0] * len(names)
        samples, tokens = progress.source_samples or nothing, progress.source_tokens or nothing
        sizes = [source.samples_per_epoch for source in data.sources]
        losses: list[float | None] = [progress.val_losses.get(name) for name in names]
    else:
        samples, tokens, sizes = [progress.trained_samples], [progress.tokens], [data.samples_per_epoch]
        losses = [progress.val.get("loss")]
    return [
        {"name": name, "tokens": count, "epochs": round(read / size, 4), "val_loss": loss}
        for name, count, read, size, loss in zip(names, tokens, samples, sizes, losses, strict=True)
    ]
