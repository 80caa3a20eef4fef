"""Counters of a server, and their text for Prometheus."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

PREFIX = "gptctl_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Metrics:
    """What a server has done since it started, and what it does now."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)  # by path and status
    prompt_tokens: int = 0
    generated_tokens: int = 0
    steps: int = 0
    cancelled: int = 0  # prompts whose client went away
    first_tokens: int = 0
    first_token_seconds: float = 0.0  # from the request to the first token, summed

    def text(self, waiting: int, running: int) -> str:
        """Return the metrics in Prometheus' text format, with the prompts that wait and the samples that run now."""
        lines = [f"# TYPE {PREFIX}requests_total counter"]
        lines += [
            f'{PREFIX}requests_total{{path="{path}",status="{status}"}} {count}'
            for (path, status), count in sorted(self.requests.items())
        ]
        for name, kind, value in (
            ("prompt_tokens_total", "counter", self.prompt_tokens),
            ("generated_tokens_total", "counter", self.generated_tokens),
            ("steps_total", "counter", self.steps),
            ("cancelled_prompts_total", "counter", self.cancelled),
            ("waiting_prompts", "gauge", waiting),
            ("running_samples", "gauge", running),
        ):
            lines += [f"# TYPE {PREFIX}{name} {kind}", f"{PREFIX}{name} {value}"]
        name = f"{PREFIX}time_to_first_token_seconds"
        lines += [f"# TYPE {name} summary", f"{name}_sum {self.first_token_seconds:.6f}"]
        return "\n".join([*lines, f"{name}_count {self.first_tokens}"]) + "\n"
