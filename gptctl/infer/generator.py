"""A language model with its tokenizer, loaded for generating text: from commands, the Python API or a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from gptctl.core.errors import DataError, UsageError
from gptctl.infer.chat_prompt import chat_prompt
from gptctl.infer.completions import Chunk, Completion
from gptctl.infer.decoder import Decoder, WeightFormat
from gptctl.infer.engine import Engine
from gptctl.infer.sampling import SamplingParams
from gptctl.infer.speculative import Drafter, DraftModel, PromptLookup
from gptctl.infer.text_stream import TextStream
from gptctl.model.classifier import Classifier
from gptctl.model.device import select_device
from gptctl.model.files.locate import find_model
from gptctl.model.folder import load_model
from gptctl.model.malloc import trim_memory
from gptctl.text.chat import ChatTemplate
from gptctl.text.tokenizer import Tokenizer

RESERVED_SHARE = 4  # max_tokens, but at most a quarter of the context, are reserved for new tokens


class TextGenerator:
    """Generates text with a language model.

    >>> generator = TextGenerator.load("run", dtype="int8")
    >>> params = SamplingParams(max_tokens=40, temperature=0.8)
    >>> prompts = generator.encode(["Once upon a time"], params.max_tokens)
    >>> generator.generate(prompts, params)[0][0].text
    """

    def __init__(self, engine: Engine, tokenizer: Tokenizer, stop_ids: Sequence[int], name: str = "model") -> None:
        """Take an engine, the tokenizer of its model, and the tokens that end a text. `name` is for error messages."""
        self.engine = engine
        self.tokenizer = tokenizer
        self.stop_ids = tuple(stop_ids)
        self.name = name
        self.chat_template: ChatTemplate | None = None
        self.generation_config: dict[str, Any] = {}  # of another program's model: its sampling settings
        self.truncated_prompts = 0  # how many prompts were longer than what the model reads
        self.spelled_tokens: set[str] = set()  # special tokens that prompts spelled, which is text

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: WeightFormat = "fp32",
        draft: str | Path | None = None,
        prompt_lookup: bool = False,
        num_draft_tokens: int = 4,
    ) -> TextGenerator:
        """Load a model from a run folder, a checkpoint, a model folder or an adapter's folder.

        `draft` is a smaller model with the same tokenizer for speculative decoding; `prompt_lookup` drafts from the
        text itself. Both change only the time. Raises UsageError (2) if `draft` has another tokenizer, DataError (3)
        for a classifier.
        """
        place = select_device(device)
        decoder, tokenizer, extra = load_decoder(find_model(str(model)), dtype, place)
        drafter: Drafter | None = PromptLookup() if prompt_lookup else None
        if draft is not None:
            draft_decoder, draft_tokenizer, _ = load_decoder(find_model(str(draft)), dtype, place)
            if draft_tokenizer.hash != tokenizer.hash:
                raise UsageError(
                    f"{draft} has another tokenizer than {model}", "train the draft model on the same tokens"
                )
            drafter = DraftModel(draft_decoder)
        trim_memory()
        generator = cls(Engine(decoder, drafter, num_draft_tokens), tokenizer, tokenizer.stop_ids(extra), str(model))
        generator.generation_config = extra.get("generation_config", {})
        if extra.get("chat_template"):
            generator.chat_template = ChatTemplate(extra["chat_template"], tokenizer)
        return generator

    def require_chat_template(self) -> ChatTemplate:
        """Return the chat template of the model. Raises DataError (3) if it has none."""
        if self.chat_template is None:
            raise DataError(
                f"{self.name} has no chat template",
                "make a chat model: gptctl finetune MODEL DATA -o OUT --task chat",
            )
        return self.chat_template

    def encode(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Tokenize prompts, each preceded by what precedes a text in training: end-of-text, BOS or nothing.

        A long prompt is truncated from the left, so that it leaves room for `max_tokens`, or for a quarter of the
        context if that is less. `truncated_prompts` and `spelled_tokens` note what happened.
        """
        tokenizer = self.tokenizer
        self.spelled_tokens.update(*map(tokenizer.special_pattern.findall, texts))
        prompts = map(tokenizer.with_prefix, tokenizer.encode_batch(list(texts)).to_pylist())
        return self._truncate(prompts, max_tokens)

    def encode_chat(self, texts: Sequence[str], max_tokens: int, system: str | None = None) -> list[list[int]]:
        """Tokenize user messages, or conversations as JSON, by the chat template; truncate them as `encode` does."""
        template = self.require_chat_template()
        return self._truncate((chat_prompt(template, text, system) for text in texts), max_tokens)

    def _truncate(self, prompts: Iterable[list[int]], max_tokens: int) -> list[list[int]]:
        length, read = self.prompt_length(max_tokens), []
        for prompt in prompts:
            self.truncated_prompts += len(prompt) > length
            read.append(prompt[-length:])
        return read

    def prompt_length(self, max_tokens: int) -> int:
        """Return how many tokens of a prompt the model reads."""
        context = self.engine.max_seq_len
        return max(1, context - max(1, min(max_tokens, context // RESERVED_SHARE)))

    def stream(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        samples_per_prompt: int = 1,
        first_sample: int | Sequence[int] = 0,
    ) -> Iterator[Chunk]:
        """Yield the text of all prompts' completions as it is generated, together in one batch.

        Row i * samples_per_prompt + j is completion j of prompt i. `first_sample` is that of Engine.stream.
        """
        rows = [
            Completion(TextStream(self.tokenizer, params.stop, prompt))
            for prompt in prompts
            for _ in range(samples_per_prompt)
        ]
        tokens = self.engine.stream(
            prompts,
            params,
            self.stop_ids,
            first_sample,
            samples_per_prompt,
            should_stop=lambda row, _: rows[row].stream.stopped,
        )
        for row, token, logprob in tokens:
            completion = rows[row]
            if token in self.stop_ids:
                completion.finish_reason = "stop"
                continue
            completion.token_ids.append(token)
            completion.logprobs.append(logprob)
            text = completion.stream.add(token)
            if completion.stream.stopped:
                completion.finish_reason = "stop"
            if text:
                yield Chunk(row, text, completion)
        for row, completion in enumerate(rows):
            yield Chunk(row, completion.stream.finish(), completion)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        *,
        samples_per_prompt: int = 1,
        batch_size: int = 16,
        first_sample: int = 0,
        on_progress: Callable[[int], None] = lambda done: None,
    ) -> list[list[Completion]]:
        """Return the completions of each prompt.

        Prompts of similar length are generated together, `batch_size` samples at a time. A completion does not depend
        on its batch beyond rounding: completion j of prompt i is sample number first_sample + i * samples_per_prompt +
        j of params.seed. `on_progress` gets the number of finished samples, and may raise to stop.
        """
        found: list[list[Completion]] = [[] for _ in prompts]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        prompts_per_batch, done = max(1, batch_size // samples_per_prompt), 0
        for start in range(0, len(order), prompts_per_batch):
            part = order[start : start + prompts_per_batch]
            for offset in range(0, samples_per_prompt, batch_size):
                count = min(batch_size, samples_per_prompt - offset)
                numbers = [first_sample + i * samples_per_prompt + offset for i in part]
                batch: dict[int, Completion] = {}
                for chunk in self.stream(
                    [prompts[i] for i in part], params, samples_per_prompt=count, first_sample=numbers
                ):
                    batch[chunk.row] = chunk.completion
                    on_progress(done)
                done += len(batch)
                for place, i in enumerate(part):
                    found[i] += [batch[place * count + j] for j in range(count)]
                on_progress(done)
        return found


def load_decoder(folder: Path, dtype: WeightFormat, device: torch.device) -> tuple[Decoder, Tokenizer, dict[str, Any]]:
    """Load a language model arranged for generation, its tokenizer, and the extra values of its config.

    Raises DataError (3) for a classifier.
    """
    loaded = load_model(folder)
    if isinstance(loaded.model, Classifier):
        raise DataError(f"{folder} is a classifier, which predicts labels, not text", "see: gptctl eval MODEL DATA")
    tokenizer = loaded.tokenizer()
    return Decoder(loaded.model.to(device), dtype), tokenizer, loaded.extra
