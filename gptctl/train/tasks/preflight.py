"""Checks of a training command before it measures, reads or writes anything. A dry run makes them too."""

from __future__ import annotations

from collections.abc import Callable

from gptctl.core.errors import UsageError
from gptctl.train import loggers
from gptctl.train.tasks.finetune_options import FinetuneOptions
from gptctl.train.tasks.pretrain_options import PretrainOptions


def check_command(config: PretrainOptions | FinetuneOptions) -> None:
    """Check the loggers and the rendezvous.

    Raises UsageError (2) for an unknown logger and for nodes without a rendezvous, MachineError (4) if the package of
    a logger is not installed.
    """
    loggers.check(config.loggers)
    if config.nodes > 1:
        from gptctl.train.distributed.nodes import split_endpoint

        split_endpoint(config.nodes, config.rdzv_endpoint)


def check_val_split(config: PretrainOptions, val_tokens: int, warn: Callable[[str], None]) -> None:
    """Raise UsageError (2) for patience without a val split; warn of the other options that then have no effect."""
    if val_tokens:
        return
    if config.patience:
        raise UsageError(
            "patience needs a val split, and TOKENS has none", "make one with: gptctl tokenize --val 0.01, or omit it"
        )
    for name in ("eval_every", "eval_batches", "sample_every", "sample_prompt"):
        if config.is_given(name) and getattr(config, name):
            warn(f"{name} has no effect: TOKENS has no val split")
