"""Prefer the chosen of two answers: DPO, IPO, SimPO and ORPO.

- dpo: Rafailov et al. 2023, "Direct Preference Optimization", equation 7; label smoothing as in their code (Mitchell
  2023, "A note on DPO with noisy preferences").
- ipo: Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human Preferences", equation 17,
  with the mean over an answer's tokens, as TRL has it.
- simpo: Meng et al. 2024, "SimPO", equation 6.
- orpo: Hong et al. 2024, "ORPO", equations 6 and 7. The likelihood is the mean over the tokens of the chosen answer.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gptctl.model.cross_entropy import IGNORE_INDEX
from gptctl.model.device import to_double
from gptctl.model.gpt import GPT
from gptctl.model.hf.adapter_format import UPDATE_TENSORS
from gptctl.model.lora import without_updates
from gptctl.train.data.batch import Batch
from gptctl.train.job import Model, TrainJob
from gptctl.train.objectives import SummedLoss
from gptctl.train.preference import PreferenceLoss
from gptctl.train.strategies import Strategy

METRICS = ("reward_chosen", "reward_rejected", "reward_margin", "reward_accuracy", "logps_chosen", "logps_rejected")
RATIOS = ("log_ratio_chosen", "log_ratio_rejected")  # with a reference


class Answers(NamedTuple):
    """The log-probabilities of answers (B, 2), chosen and rejected, in nats, and how many tokens each has."""

    logps: Tensor
    reference_logps: Tensor  # zeros for a loss without a reference
    tokens: Tensor


def build(job: TrainJob) -> Preference:
    """Return the objective of a run."""
    return Preference(job)


class Preference:
    """The loss of pairs, and the implicit rewards of their answers. Reward means the same as in TRL."""

    unit = "pairs"

    def __init__(self, job: TrainJob) -> None:
        assert job.preference is not None
        self.settings, self.source = job.preference, job.model
        self.step_metrics: tuple[str, ...] = METRICS + RATIOS if self.settings.has_reference else METRICS
        self.checkpoint_activations = job.recipe.checkpoint_activations
        model = self.source.build()
        needs_copy = self.settings.has_reference and not trains_updates_alone(model)
        self.reference = model.eval().requires_grad_(False) if needs_copy else None

    def prepare(self, strategy: Strategy, precision: str, compiled: bool) -> None:
        """Fill the reference with the weights before training. With LoRA it is the base under the update."""
        if self.reference is not None:
            parameters = strategy.prepare_model(self.reference, precision, compiled)
            parts = {name: strategy.part_of(shard) for name, shard in parameters.items()}
            self.source.init_weights(self.reference, parts)
            strategy.update_model()

    def loss(self, model: Model, batch: Batch) -> SummedLoss:
        """Return the loss of a batch, whose targets are the pairs, and the sums of the step metrics.

        The loss depends on the model through the log-probabilities of whole answers alone. So its gradient is that of
        a cross-entropy in which each token has the derivative by its answer's log-probability as its weight, and all
        logits never exist.
        """
        assert isinstance(model, GPT)
        hidden = hidden_states(model, batch, self.checkpoint_activations)
        with torch.no_grad():
            answers = self.answers(model, hidden, batch)
        leaf = answers.logps.detach().requires_grad_()
        total = pair_losses(self.settings, answers._replace(logps=leaf)).sum()
        (slopes,) = torch.autograd.grad(total, leaf)
        labels = batch.labels.flatten(0, 1)
        weights = -slopes.flatten()[:, None].expand_as(labels)
        surrogate = model.cross_entropy(hidden, labels, weights=weights)
        return SummedLoss(
            total.detach() + (surrogate - surrogate.detach()),
            total.new_tensor(len(batch), dtype=torch.int64),
            metric_sums(self.settings, answers),
        )

    def answers(self, model: GPT, hidden: Tensor, batch: Batch) -> Answers:
        """Return the log-probabilities of a batch's answers under the model, from its states, and the reference."""
        logps = answer_log_probs(model, hidden, batch.labels)
        reference = torch.zeros_like(logps)
        if self.reference is not None:
            assert isinstance(self.reference, GPT)
            reference = answer_log_probs(self.reference, hidden_states(self.reference, batch), batch.labels)
        elif self.settings.has_reference:
            with without_updates(model):
                reference = answer_log_probs(model, hidden_states(model, batch), batch.labels)
        return Answers(logps, reference, (batch.labels != IGNORE_INDEX).sum(-1))

    def init_metrics(self, model: Model) -> Tensor:
        """Return a loss, a count and the step metrics of zero, float64."""
        return torch.zeros(2 + len(self.step_metrics), dtype=torch.float64)

    def batch_metrics(self, model: Model, batch: Batch) -> Tensor:
        """Return the sums of loss, count and step metrics over a batch, float64 on its device."""
        assert isinstance(model, GPT)
        answers = self.answers(model, hidden_states(model, batch), batch)
        total = to_double(pair_losses(self.settings, answers).sum())
        return torch.cat((total[None], total.new_tensor([len(batch)]), metric_sums(self.settings, answers)))

    def compute_metrics(self, sums: Tensor) -> dict[str, float]:
        """Return the mean loss and step metrics of a pair."""
        total, count, *metrics = sums.tolist()
        means = {name: value / count for name, value in zip(self.step_metrics, metrics, strict=True)}
        return {"loss": total / count} | means


def trains_updates_alone(model: Model) -> bool:
    """Return whether only updates of LoRA are trained, so that the model before training is the base under them."""
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return all(name.endswith(UPDATE_TENSORS) for name in trained)


def hidden_states(model: GPT, batch: Batch, checkpoint_activations: bool = False) -> Tensor:
    """Return the states (2 B, T, C) of both answers of all pairs."""
    tokens = batch.model_inputs().flatten(0, 1)
    return model.hidden_states(tokens, checkpoint_activations=checkpoint_activations)


def answer_log_probs(model: GPT, hidden: Tensor, labels: Tensor) -> Tensor:
    """Return the summed log-probability (B, 2) of the labels (B, 2, T), in float32, one answer after the other."""
    each = [
        F.cross_entropy(model.logits(states).float(), targets, ignore_index=IGNORE_INDEX, reduction="sum")
        for states, targets in zip(hidden, labels.flatten(0, 1), strict=True)
    ]
    return -torch.stack(each).view(labels.shape[:2])


def pair_losses(settings: PreferenceLoss, answers: Answers) -> Tensor:
    """Return the loss (B,) of each pair."""
    beta, smoothing = settings.beta, settings.label_smoothing
    means = answers.logps / answers.tokens
    if settings.name == "orpo":
        odds = means - log_of_rest(means)
        return -means[:, 0] - beta * F.logsigmoid(odds[:, 0] - odds[:, 1])
    ratios = answers.logps - answers.reference_logps
    if settings.name == "ipo":
        ratios = ratios / answers.tokens
        return (ratios[:, 0] - ratios[:, 1] - 1 / (2 * beta)).square()
    if settings.name == "simpo":
        margins = beta * (means[:, 0] - means[:, 1]) - settings.simpo_gamma
    else:
        margins = beta * (ratios[:, 0] - ratios[:, 1])
    return -(1 - smoothing) * F.logsigmoid(margins) - smoothing * F.logsigmoid(-margins)


def log_of_rest(logps: Tensor) -> Tensor:
    """Return log(1 - exp(x)) of log-probabilities x < 0 without loss of digits (Maechler 2012, "log1mexp")."""
    middle = -0.693  # log(1/2)
    near, far = torch.expm1(logps.clamp(min=middle)), torch.exp(logps.clamp(max=middle))
    return torch.where(logps > middle, torch.log(-near), torch.log1p(-far))


def metric_sums(settings: PreferenceLoss, answers: Answers) -> Tensor:
    """Return the sums of METRICS over pairs, and of RATIOS with a reference, float64.

    The reward of an answer is beta times the log-ratio to the reference, and without a reference beta times the mean
    log-probability of its tokens. RATIOS are the log-ratios of an answer by its number of tokens.
    """
    logps = answers.logps.detach()
    scores = logps - answers.reference_logps if settings.has_reference else logps / answers.tokens
    rewards = to_double(settings.beta * scores)
    margins = rewards[:, 0] - rewards[:, 1]
    sums = [rewards.sum(0), margins.sum()[None], to_double(margins > 0).sum()[None], to_double(logps).sum(0)]
    if settings.has_reference:
        sums.append(to_double(scores / answers.tokens).sum(0))
    return torch.cat(sums)
