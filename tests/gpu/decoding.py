"""Decoding on the device against the CPU, and the independence of a row from its batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from gptctl.core.errors import MachineError
from gptctl.infer.decoder import Decoder, WeightFormat
from gptctl.infer.engine import Engine, Token
from gptctl.infer.sampling import SamplingParams
from gptctl.infer.speculative import Drafter, DraftModel, PromptLookup
from gptctl.model.config import ModelConfig, load_preset
from gptctl.model.gpt import GPT
from gptctl.model.initialize import initialize
from tests.gpu.check import Row, Setting, check

PROMPTS = [[5, 9, 2], [7], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [200, 100], [3] * 30]
# How much less likely (in nats) than the most likely one a greedy token may be by the CPU's logits, which decide near-ties
# otherwise.
REGRETS: dict[WeightFormat, float] = {"fp32": 1e-3, "bf16": 0.2, "int8": 0.2}
LOGPROBS: dict[WeightFormat, float] = {"fp32": 1e-4, "bf16": 0.1, "int8": 1e-6}  # between a batch and single prompts


def model(preset: str) -> GPT:
    """Build a model whose logits differ enough to have favourites. With tied embeddings it would repeat one token."""
    values = load_preset(preset)["model"] | {
        "vocab_size": 256,
        "max_seq_len": 128,
        "init": "normal",
        "tie_embeddings": False,
    }
    network = GPT(ModelConfig.model_validate(values))
    initialize(network, 2)
    with torch.no_grad():
        network.head_weight().mul_(4)
    return network.eval()


def decoder(preset: str, weights: WeightFormat, device: torch.device) -> Decoder:
    """Arrange a model for decoding on a device."""
    return Decoder(model(preset).to(device), weights)


def greedy(
    decoding: Decoder, prompts: Sequence[Sequence[int]], tokens: int, drafter: Drafter | None = None
) -> list[list[Token]]:
    """Return the greedy tokens of each prompt."""
    params = SamplingParams(max_tokens=tokens, temperature=0, logprobs=True)
    found: list[list[Token]] = [[] for _ in prompts]
    for token in Engine(decoding, drafter, 4).stream(prompts, params):
        found[token.row].append(token)
    return found


def largest_regret(preset: str, prompts: Sequence[Sequence[int]], found: Sequence[Sequence[Token]]) -> float:
    """Return how much less likely than the best one the worst token is, by the plain model in fp32 on the CPU."""
    plain, worst = model(preset), 0.0
    for prompt, tokens in zip(prompts, found, strict=True):
        text = [*prompt, *(token.id for token in tokens)]
        with torch.no_grad():
            logits = plain(torch.tensor([text]))[0, len(prompt) - 1 : -1]
        chosen = logits.gather(1, torch.tensor([[token.id] for token in tokens]))[:, 0]
        worst = max(worst, (logits.amax(-1) - chosen).max().item())
    return worst


@check
def greedy_tokens(setting: Setting) -> Iterator[Row]:
    """Greedy tokens in fp32, bf16 and int8 are the most likely ones by the CPU's logits, but for rounding."""
    tokens = 16 if setting.is_small else 64
    for preset in ("test-gpt2", "test-modern", "test-gpt3", "test-moe"):
        for weights in ("fp32", "bf16", "int8"):
            name = f"{preset}: greedy in {weights}, regret in nats"
            try:
                decoding = decoder(preset, weights, setting.device)
            except MachineError as error:
                yield Row(name, None, note=f"refused: {error.message}")
                continue
            found = greedy(decoding, PROMPTS, tokens)
            yield Row(name, largest_regret(preset, PROMPTS, found), REGRETS[weights])
            if weights != "fp32" and not setting.is_small:
                same = greedy(decoder(preset, weights, torch.device("cpu")), PROMPTS, tokens)
                yield Row(
                    f"{preset}: tokens in {weights} as on the CPU, share", equal_share(found, same), 0.5, at_least=True
                )


def equal_share(found: Sequence[Sequence[Token]], expected: Sequence[Sequence[Token]]) -> float:
    """Return the share of tokens before the first difference of each row."""
    equal = total = 0
    for one, other in zip(found, expected, strict=True):
        differs = [number for number, (a, b) in enumerate(zip(one, other, strict=True)) if a.id != b.id]
        equal, total = equal + (differs[0] if differs else len(one)), total + len(one)
    return equal / total


@check
def batch_invariance(setting: Setting) -> Iterator[Row]:
    """A prompt has the same greedy tokens in a ragged batch and alone, but for rounding; in int8 exactly."""
    tokens = 16 if setting.is_small else 64
    for weights in ("fp32", "bf16", "int8"):
        name = f"test-modern in {weights}: ln p in a batch and alone"
        try:
            decoding = decoder("test-modern", weights, setting.device)
        except MachineError as error:
            yield Row(name, None, note=f"refused: {error.message}")
            continue
        alone = [row for prompt in PROMPTS for row in greedy(decoding, [prompt], tokens)]
        yield Row(name, largest_difference(greedy(decoding, PROMPTS, tokens), alone), LOGPROBS[weights])


def largest_difference(found: Sequence[Sequence[Token]], expected: Sequence[Sequence[Token]]) -> float:
    """Return the largest difference of log-probabilities up to the first other token of each row, which is a near-tie."""
    worst = 0.0
    for row, other_row in zip(found, expected, strict=True):
        for one, other in zip(row, other_row, strict=True):
            worst = max(worst, abs(one.logprob - other.logprob))
            if one.id != other.id:
                break
    return worst


@check
def drafted_tokens(setting: Setting) -> Iterator[Row]:
    """Speculative decoding gives the tokens of decoding without drafts, but for rounding."""
    tokens = 16 if setting.is_small else 64
    for weights in ("fp32", "bf16"):
        decoding = decoder("test-modern", weights, setting.device)
        plain = greedy(decoding, PROMPTS, tokens)
        drafters = {
            "prompt lookup": PromptLookup(),
            "a draft model": DraftModel(decoder("test-modern", weights, setting.device)),
        }
        for name, drafter in drafters.items():
            found = greedy(decoding, PROMPTS, tokens, drafter)
            yield Row(
                f"test-modern in {weights}: ln p with {name}", largest_difference(found, plain), LOGPROBS[weights]
            )


@check
def sampling_with_log_probabilities(setting: Setting) -> Iterator[Row]:
    """Sampled tokens have the log-probabilities of the CPU's model."""
    params = SamplingParams(max_tokens=16, temperature=1.0, top_p=0.95, seed=3, logprobs=True)
    found: list[list[Token]] = [[] for _ in PROMPTS]
    for token in Engine(decoder("test-gpt2", "fp32", setting.device)).stream(PROMPTS, params):
        found[token.row].append(token)
    plain, worst = model("test-gpt2"), 0.0
    for prompt, tokens in zip(PROMPTS, found, strict=True):
        with torch.no_grad():
            text = torch.tensor([[*prompt, *(token.id for token in tokens)]])
            expected = plain(text).log_softmax(-1)[0, len(prompt) - 1 : -1]
        worst = max([worst, *(abs(token.logprob - expected[i, token.id].item()) for i, token in enumerate(tokens))])
    yield Row("test-gpt2: ln p of sampled tokens against the CPU", worst, 1e-3)
