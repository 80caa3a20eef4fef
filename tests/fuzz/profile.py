"""How many examples a fuzz test tries: few in the default suite, always the same ones; as many as asked for otherwise.

GPTCTL_FUZZ_EXAMPLES=N tries N, other ones at each run, and Hypothesis keeps those that fail in .hypothesis/.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

ASKED = int(os.environ.get("GPTCTL_FUZZ_EXAMPLES", "0"))


def examples(few: int, share: float = 1.0) -> settings:
    """Return the settings of a test that tries `few` examples by default, and `share` of those asked for otherwise."""
    return settings(
        max_examples=max(1, round(ASKED * share)) if ASKED else few,
        stateful_step_count=12,
        derandomize=not ASKED,
        database=None if not ASKED else settings.default.database,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
