"""The progress of a run: what a resumed run must know besides tensors. It is stored in a checkpoint's state.json."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrainProgress:
    """Counters and choices of a run. Everything else follows from the job and these counters."""

    step: int = 0
    next_sample: int = 0  # where in the data the next batch begins
    trained_samples: int = 0  # of all updates, fewer than next_sample if some were skipped; the learning rate follows
    tokens: int = 0
    phase_starts: list[int] = field(default_factory=list)  # the sample with which each phase of a mixture begins
    source_samples: list[int] = field(default_factory=list)  # of all updates, from each source of a mixture
    source_tokens: list[int] = field(default_factory=list)  # likewise
    train_seconds: float = 0.0  # spent on updates
    threads: int = 1
    precision: str = "fp32"  # fp32, bf16 (the model's matrix products) or bf16-master (the model)
    optimizer_precision: str = "fp32"  # of the optimizer's own matrix products
    compiled: bool = False
    world_size: int = 1
    micro_batch_size: int = 0  # sequences per forward pass and rank
    best: float | None = None  # the metric that selects the best weights
    best_step: int = 0
    stale_evaluations: int = 0  # evaluations in a row without improvement
    loss_sum: float = 0.0  # since the last "step" event
    loss_targets: int = 0
    metric_sums: list[float] = field(default_factory=list)  # likewise, of the objective's step_metrics
    train_loss: float = 0.0  # of the last "step" event
    val: dict[str, float] = field(default_factory=dict)  # metrics of the last evaluation
    val_losses: dict[str, float] = field(default_factory=dict)  # of each source, if there are several
    val_step: int = -1
    evaluations: int = 0
    recent_losses: list[float] = field(default_factory=list)  # mean losses of the last updates, to detect spikes
    consecutive_skips: int = 0
