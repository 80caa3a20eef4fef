"""What a pretraining run reads of its sources. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from gptctl.core.config import Values
from gptctl.core.context import Context
from gptctl.io.dataset import tokens as token_io
from gptctl.io.dataset.tokens import Tokens
from gptctl.text.packing import PackingReport, best_fit_report, combine_reports, concat_report
from gptctl.train import schedule
from gptctl.train.data.phases import MixturePhase, Phases, phase_starts
from gptctl.train.recipe import Recipe
from gptctl.train.tasks.pretrain_options import PretrainOptions
from gptctl.train.tasks.token_sources import TokenSources

MAX_EPOCHS = 4  # Muennighoff et al. 2023, "Scaling Data-Constrained Language Models", 5


@dataclass(frozen=True)
class ReadingPlan:
    """What a run reads: how documents fill sequences, and how much of each source it reads."""

    reports: dict[str, PackingReport]  # by the name of the source
    sources: list[Values]  # name, tokens (trained on) and epochs of each

    @property
    def packing(self) -> Values:
        """Return the report on an epoch over all sources."""
        return asdict(combine_reports(list(self.reports.values())))

    def summary(self) -> str:
        """Return how documents fill sequences, a line per source."""
        if len(self.reports) == 1:
            return next(iter(self.reports.values())).summary()
        return "\n".join(f"{name}: {report.summary()}" for name, report in self.reports.items())

    def to_json(self) -> Values:
        """Return the part of the plan of a run."""
        return {"packing": self.packing, "sources": self.sources}


def plan_reading(data: TokenSources, options: PretrainOptions, recipe: Recipe, context: Context) -> ReadingPlan:
    """Plan what a recipe reads of some sources, and warn of a source that would be repeated too often."""
    reports = {name: report_packing(options, tokens, recipe.seq_len) for name, tokens in data.folders.items()}
    samples = schedule.samples_after(recipe, recipe.steps)
    sources = plan_sources(reports, data.phases, samples)
    warn_of_repetition(sources, context)
    return ReadingPlan(reports, sources)


def steps_for_targets(data: TokenSources, options: PretrainOptions, recipe: Recipe, targets: int) -> int:
    """Return the number of updates that train on this many tokens, without padding; the last may train on more."""
    reports = [report_packing(options, tokens, recipe.seq_len) for tokens in data.folders.values()]
    return schedule.steps_for(recipe, math.ceil(positions(reports, data.phases, targets) / recipe.seq_len))


def report_packing(options: PretrainOptions, tokens: Tokens, seq_len: int) -> PackingReport:
    """Report how the training documents of a folder fill sequences."""
    if options.pack == "bestfit":
        return best_fit_report(token_io.document_lengths(tokens.folder, "train"), seq_len)
    return concat_report(tokens.documents("train"), tokens.count("train"), seq_len)


def positions(reports: Sequence[PackingReport], phases: Sequence[MixturePhase], targets: int) -> int:
    """Return the number of positions, padding included, of a run with this many targets.

    Of several sources, it is the mean by the weights of the first phase.
    """
    if not phases:
        return reports[0].positions(targets)
    weights = phases[0].weights
    means = [report.targets / max(1, report.sequences) for report in reports]
    weighted = sum(weight * mean for weight, mean in zip(weights, means, strict=True))
    return math.ceil(targets * reports[0].seq_len * sum(weights) / max(1.0, weighted))


def plan_sources(reports: Mapping[str, PackingReport], phases: Sequence[MixturePhase], samples: int) -> list[Values]:
    """Return name, tokens (trained on) and epochs of each source in a run of `samples` sequences."""
    counts = Phases(phases, phase_starts(phases, samples)).counts(samples).tolist() if phases else [samples]
    return [
        {
            "name": name,
            "tokens": round(count * report.targets / max(1, report.sequences)),
            "epochs": round(count / max(1, report.sequences), 4),
        }
        for count, (name, report) in zip(counts, reports.items(), strict=True)
    ]


def warn_of_repetition(sources: Sequence[Values], context: Context) -> None:
    """Warn of each source that would be repeated more often than helps."""
    for source in sources:
        if source["epochs"] > MAX_EPOCHS:
            context.warn(
                f"{source['name']} would be read {source['epochs']:,.1f} times; text that is read more than "
                f"{MAX_EPOCHS} times teaches less and less (Muennighoff et al. 2023): add text, give it a lower "
                "weight, or train for less"
            )
