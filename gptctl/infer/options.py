"""The options of a command that generates text. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from gptctl.core.config import DeviceOption, SeedOption, flag, given_in, key
from gptctl.core.context import Context
from gptctl.core.errors import UsageError

if TYPE_CHECKING:
    from gptctl.infer.decoder import WeightFormat
    from gptctl.infer.generator import TextGenerator
    from gptctl.infer.sampling import SamplingParams

PANEL = "Sampling"
NEVER_STOPPED = "no sample reached a text of --stop"
MODEL_DEFAULTS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


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

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if self.temperature == 0:
            found |= dict.fromkeys(("seed", "top_k", "top_p", "min_p"), "with --temperature 0")
        return found

    def with_model_defaults(self, generation_config: Mapping[str, Any], context: Context | None = None) -> Self:
        """Return the options with those of a model's generation_config.json that the user did not give, and name these.

        A generation_config.json that does not sample changes nothing.
        """
        if not generation_config.get("do_sample"):
            return self
        found = {
            name: generation_config[name]
            for name in MODEL_DEFAULTS
            if generation_config.get(name) is not None and name not in self.model_fields_set
        }
        changed = {name: value for name, value in found.items() if value != getattr(self, name)}
        if not changed:
            return self
        if context:
            values = ", ".join(f"{name} {value}" for name, value in changed.items())
            context.info(f"sampling with {values}, as in the model's generation_config.json")
        return type(self).model_validate(given_in(self) | changed)

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


class WeightOptions(DeviceOption):
    """Where a model generates, and the format of its weights."""

    quantize: Literal["none", "int8", "int4"] = flag(
        "none", "Quantize weights: faster on the CPU. int4 changes what a model writes more than int8.", panel="Devices"
    )
    precision: Literal["fp32", "bf16"] = key("fp32", "Number format of the weights without --quantize.")

    def check_loading(self) -> None:
        """Raise UsageError (2) for options that exclude each other."""
        if self.quantize != "none" and self.precision == "bf16":
            hint = "leave out --quantize or --set precision=bf16"
            raise UsageError(f"weights are either {self.quantize} or bf16", hint)

    def dtype(self) -> WeightFormat:
        """Return the number format of the weights."""
        return self.precision if self.quantize == "none" else self.quantize

    def load_generator(self, model: str) -> TextGenerator:
        """Load a model as these options say."""
        from gptctl.infer.generator import TextGenerator

        return TextGenerator.load(model, device=self.device, dtype=self.dtype())


class LoadingOptions(WeightOptions):
    """How a model is loaded for generation: its device, the format of its weights, and speculative decoding."""

    draft: str | None = flag(
        None,
        "Draft model for speculative decoding, with the same tokenizer. The output is the same.",
        metavar="MODEL",
        panel="Devices",
        runtime=True,
    )
    prompt_lookup: bool = key(
        False, "Prompt-lookup decoding: draft tokens from the text itself. The output is the same.", runtime=True
    )
    num_draft_tokens: int = key(4, "Tokens that are drafted at a time.", ge=1, runtime=True)

    def without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect beside the others, each with the reason."""
        found = super().without_effect()
        if not self.draft and not self.prompt_lookup:
            found["num_draft_tokens"] = "without --draft or prompt_lookup"
        return found

    def check_loading(self) -> None:
        """Raise UsageError (2) for options that exclude each other."""
        super().check_loading()
        if self.draft and self.prompt_lookup:
            raise UsageError("--draft and prompt_lookup exclude each other", "leave out one of them")

    def load_generator(self, model: str) -> TextGenerator:
        """Load a model as these options say."""
        from gptctl.infer.generator import TextGenerator

        return TextGenerator.load(
            model,
            device=self.device,
            dtype=self.dtype(),
            draft=self.draft,
            prompt_lookup=self.prompt_lookup,
            num_draft_tokens=self.num_draft_tokens,
        )
