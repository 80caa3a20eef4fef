"""Generate several completions of each prompt, in batches. A prompt may be a chat message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gptctl.infer.completions import Completion
from gptctl.infer.generator import TextGenerator
from gptctl.infer.sampling import SamplingParams


@dataclass(frozen=True)
class Sampler:
    """Generates `samples_per_prompt` completions of each prompt, `batch_size` at a time.

    With `chat`, prompts are user messages, which follow the message `system` if there is one.
    """

    generator: TextGenerator
    params: SamplingParams
    samples_per_prompt: int = 1
    batch_size: int = 16
    chat: bool = False
    system: str | None = None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize prompts, with `chat` by the chat template."""
        if self.chat:
            return self.generator.encode_chat(texts, self.params.max_tokens, self.system)
        return self.generator.encode(texts, self.params.max_tokens)

    def warn(self, warn: Callable[[str], None]) -> None:
        """Tell what happened to prompts: beginnings that the model did not read, and special tokens that are text."""
        generator = self.generator
        if count := generator.truncated_prompts:
            room = generator.prompt_length(self.params.max_tokens)
            warn(
                f"the beginning of {count:,} prompt{'s' * (count > 1)} was left out: the model reads {room:,} tokens "
                f"before --max-tokens {self.params.max_tokens:,}"
            )
        if names := sorted(generator.spelled_tokens):
            warn(f"{', '.join(names)} in a prompt is text, not a special token; --chat writes a model's own turns")

    def generate(
        self, texts: Sequence[str], prompts_before: int, on_progress: Callable[[int], None]
    ) -> list[list[Completion]]:
        """Return the samples of each prompt. `prompts_before` numbers the samples; see TextGenerator.generate."""
        return self.generator.generate(
            self.encode(texts),
            self.params,
            samples_per_prompt=self.samples_per_prompt,
            batch_size=self.batch_size,
            first_sample=prompts_before * self.samples_per_prompt,
            on_progress=on_progress,
        )

    def stream(
        self, text: str, prompts_before: int, write: Callable[[str], None], check: Callable[[], None]
    ) -> list[Completion]:
        """Generate the samples of one prompt and write them, separated by lines of ---.

        The first sample of a batch is written as it is generated, the others when the batch has ended. `check` is
        called before each piece of text, and may raise to stop.
        """
        prompt, found = self.encode([text]), []
        shown = "" if self.chat else text
        for start in range(0, self.samples_per_prompt, self.batch_size):
            count = min(self.batch_size, self.samples_per_prompt - start)
            first_sample = prompts_before * self.samples_per_prompt + start
            samples: dict[int, Completion] = {}
            write(("\n---\n" if first_sample else "") + shown)
            for chunk in self.generator.stream(
                prompt, self.params, samples_per_prompt=count, first_sample=[first_sample]
            ):
                check()
                write(chunk.text if chunk.row == 0 else "")
                samples[chunk.row] = chunk.completion
            found += [samples[row] for row in range(count)]
            for sample in found[start + 1 :]:
                write(f"\n---\n{shown}{sample.text}")
        return found
