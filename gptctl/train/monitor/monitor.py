"""The monitor of a run: it writes events.jsonl, feeds the loggers, and updates the live view and the progress bar."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from gptctl.core import plugins
from gptctl.core.context import Context
from gptctl.core.run_folder import Run
from gptctl.train.loggers import Logger

REFRESH_SECONDS = 0.5  # between two updates of the live view


@dataclass(frozen=True)
class Mark:
    """A point of a run from which speed is computed."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


@dataclass
class Monitor:
    """Reports what a run does. Every rank may call it; only the main rank writes."""

    run: Run
    context: Context
    is_main: bool
    total_steps: int
    unit: str  # of a target: tokens, texts
    flops_per_token: float = 0.0  # 0 if unknown
    peak_flops: float = 0.0  # floating-point operations per second of all ranks together
    deadline: float = float("inf")  # on the monotonic clock: when the time budget is used up
    loggers: list[Logger] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)  # the newest of each, for the live view
    start_time: float = 0.0  # of this process, on the monotonic clock
    start_step: int = 0
    last_logged: Mark = field(default_factory=Mark)
    last_shown: float = 0.0

    def open(self, logger_names: tuple[str, ...], mark: Mark) -> None:
        """Start at a step, and open the loggers. Raises MachineError (4) if a logger's package is missing."""
        self.start_time, self.start_step = time.monotonic(), mark.step
        self.reset_speed(mark)
        if self.is_main:
            for name in logger_names:
                module: Any = plugins.load("gptctl.train.loggers", name)
                self.loggers.append(module.build(self.run.path, mark.step))

    def reset_speed(self, mark: Mark) -> None:
        """Compute speed from here on: after a resume or a rollback."""
        self.last_logged = mark

    def log_event(self, kind: str, step: int, **fields: Any) -> None:
        """Write one event to events.jsonl and to every logger."""
        if not self.is_main:
            return
        self.run.event(kind, step=step, **fields)
        for logger in list(self.loggers):
            try:
                logger.log_event(kind, step, fields)
            except OSError as error:  # a full disk must not end a run of days because of its curves
                self.loggers.remove(logger)
                self.context.warn(f"logging to {type(logger).__module__.rpartition('.')[2]} ended: {error}")

    def log_step(self, mark: Mark, memory_bytes: int, **fields: Any) -> None:
        """Write one "step" event: the given fields, and the speed since the last one."""
        last, self.last_logged = self.last_logged, mark
        spent = max(1e-9, mark.seconds - last.seconds)
        rate = (mark.tokens - last.tokens) / spent
        has_mfu = self.flops_per_token and self.peak_flops
        fields |= {
            "tokens": mark.tokens,
            "tokens_per_second": round(rate, 1),
            "step_seconds": round(spent / max(1, mark.step - last.step), 6),
            "train_seconds": round(mark.seconds, 3),
            "mfu": round(self.flops_per_token * rate / self.peak_flops, 4) if has_mfu else None,
            "memory_bytes": memory_bytes,
        }
        self.log_event("step", mark.step, **fields)
        self.show_progress(mark.step, **fields)

    def show_progress(self, step: int, *, at_once: bool = True, **figures: Any) -> None:
        """Update the live view and the progress bar; unless `at_once`, only if the last update is some time ago."""
        now = time.monotonic()
        if not self.is_main or (not at_once and now - self.last_shown < REFRESH_SECONDS):
            return
        self.last_shown = now
        self.update_live_view(step=step, seconds_left=self.seconds_left(step, now), **figures)
        loss, rate = self.figures.get("loss"), self.figures.get("tokens_per_second")
        if loss is not None and rate is not None:
            self.context.progress(step, self.total_steps, "steps", f"loss {loss:.4f}, {rate:,.0f} {self.unit}/s")

    def update_live_view(self, **figures: Any) -> None:
        """Replace some figures of the live view."""
        if self.is_main:
            self.figures |= figures
            self.context.show_metrics({"steps": self.total_steps, "unit": self.unit, **self.figures})

    def seconds_left(self, step: int, now: float) -> float | None:
        """Estimate the time until the end from the pace of this process, evaluations included."""
        done = step - self.start_step
        if done <= 0:
            return None
        return min(self.deadline - now, (self.total_steps - step) * (now - self.start_time) / done)

    def close(self) -> None:
        """Close the loggers."""
        for logger in self.loggers:
            logger.close()
        self.loggers.clear()
