"""What a run says of itself: a line an event in events.jsonl, the loggers asked for, the live view, the plain lines."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from gptctl.core import plugins
from gptctl.core.context import Context
from gptctl.core.rundir import Run

REFRESH_SECONDS = 0.5  # between two pictures of the live view


@dataclass
class Watch:
    """The voice of a run's first rank. Every rank may call it; the others stay silent."""

    run: Run
    context: Context
    first: bool
    steps: int  # updates that are planned
    unit: str  # what targets are: tokens, texts
    flops_per_token: float = 0.0  # 0 where it isn't known
    peak: float = 0.0  # floating-point operations per second of all ranks together
    deadline: float = float("inf")  # on the monotonic clock: when a bound on the run's minutes is reached
    loggers: list[Any] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)  # the newest of each, for the live view
    started: tuple[float, int] = (0.0, 0)  # clock and step at the start of this process
    line_at: tuple[int, int, float] = (0, 0, 0.0)  # step, tokens and seconds at the last "step" event
    shown_at: float = 0.0

    def open(self, names: tuple[str, ...], step: int, tokens: int, seconds: float) -> None:
        """Start at a step; open loggers by their names. Raises MachineError (4) where a package is missing."""
        self.started = time.monotonic(), step
        self.rewind(step, tokens, seconds)
        if self.first:
            self.loggers = [plugins.load("gptctl.train.loggers", name).Logger(self.run.path, step) for name in names]

    def rewind(self, step: int, tokens: int, seconds: float) -> None:
        """Count speed from here on: after a resume or a rollback."""
        self.line_at = step, tokens, seconds

    def event(self, kind: str, step: int, **fields: Any) -> None:
        """Note one event everywhere."""
        if not self.first:
            return
        self.run.event(kind, step=step, **fields)
        for logger in list(self.loggers):
            try:
                logger.event(kind, step, fields)
            except OSError as error:  # a full disk below a curve must not end a run of days
                self.loggers.remove(logger)
                self.context.warn(f"logging to {type(logger).__module__.rpartition('.')[2]} ended: {error}")

    def line(self, step: int, tokens: int, seconds: float, memory_bytes: int, **fields: Any) -> None:
        """Note one "step" event: what is given, and the speed since the last one."""
        last_step, last_tokens, last_seconds = self.line_at
        self.line_at = step, tokens, seconds
        spent = max(1e-9, seconds - last_seconds)
        rate = (tokens - last_tokens) / spent
        fields |= {
            "tokens": tokens,
            "tokens_per_second": round(rate, 1),
            "step_seconds": round(spent / max(1, step - last_step), 6),
            "mfu": round(self.flops_per_token * rate / self.peak, 4) if self.flops_per_token and self.peak else None,
            "memory_bytes": memory_bytes,
        }
        self.event("step", step, **fields)
        self.show(step, **fields)

    def show(self, step: int, *, at_once: bool = True, **figures: Any) -> None:
        """Renew the live view and the plain line; unless `at_once`, only if the last picture is some time old."""
        now = time.monotonic()
        if not self.first or (not at_once and now - self.shown_at < REFRESH_SECONDS):
            return
        self.shown_at = now
        self.note(step=step, seconds_left=self.seconds_left(step, now), **figures)
        loss, rate = self.figures.get("loss"), self.figures.get("tokens_per_second")
        if loss is not None and rate is not None:
            self.context.progress(step, self.steps, "steps", f"loss {loss:.4f}, {rate:,.0f} {self.unit}/s")

    def note(self, **figures: Any) -> None:
        """Renew some figures of the live view."""
        if self.first:
            self.figures |= figures
            self.context.show_metrics({"steps": self.steps, "unit": self.unit, **self.figures})

    def seconds_left(self, step: int, now: float) -> float | None:
        """Estimate the time to the end from the pace of this process, evaluations included."""
        began, first_step = self.started
        if step <= first_step:
            return None
        return min(self.deadline - now, (self.steps - step) * (now - began) / (step - first_step))

    def close(self) -> None:
        """End the loggers."""
        for logger in self.loggers:
            logger.close()
        self.loggers.clear()
