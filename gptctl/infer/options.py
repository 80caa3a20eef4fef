"""The options of a command that samples text. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gptctl.core.config import SeedOption, flag

if TYPE_CHECKING:
    from gptctl.infer.sampling import SamplingParams

PANEL = "Sampling"


class SamplingOptions(SeedOption):
    """How tokens are chosen, and when a sample ends."""

    max_tokens: int = flag(128, "Maximum number of tokens of a sample.", panel=PANEL, ge=1)
    temperature: float = flag(1.0, "Sampling temperature; 0 is greedy.", panel=PANEL, ge=0)
    top_k: int = flag(0, "Sample from the k most likely tokens; 0 from all.", panel=PANEL, ge=0)
    top_p: float = flag(
        1.0, "Sample from the most likely tokens whose probabilities sum to this.", panel=PANEL, gt=0, le=1
    )
    min_p: float = flag(
        0.0, "Drop tokens whose probability is below this share of the largest one.", panel=PANEL, ge=0, lt=1
    )
    repetition_penalty: float = flag(1.0, "Above 1, tokens that occurred before become less likely.", panel=PANEL, gt=0)
    stop: tuple[str, ...] = flag((), "End before any of these texts; \\n is a line feed.", panel=PANEL)

    def sampling_params(self) -> SamplingParams:
        """Return the options as the engine takes them."""
        from gptctl.infer.sampling import SamplingParams

        return SamplingParams(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            seed=self.seed,
            repetition_penalty=self.repetition_penalty,
            stop=tuple(text.replace("\\n", "\n").replace("\\t", "\t") for text in self.stop),
        )
