"""The preference losses equal TRL's, the reference is the model before training, and no cut of a batch counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from gptctl.model.config import ModelConfig, load_preset
from gptctl.model.gpt import GPT
from gptctl.model.lora import apply_lora, lora_layers
from gptctl.model.lora_config import LoraConfig
from gptctl.train.data.batch import Batch
from gptctl.train.data.preference_pairs import EncodedPair, PreferencePairs
from gptctl.train.job import TrainJob
from gptctl.train.objectives.preference import METRICS, RATIOS, Preference, log_of_rest
from gptctl.train.preference import LossName, PreferenceLoss
from gptctl.train.strategies.single import SingleDevice
from tests.train.jobs import WholeModel, events, make_job, only, run_in
from tests.train.rank_pool import RankPool, tensors

VOCABULARY = 64
LENGTHS = ((5, 9, 6), (3, 4, 11), (8, 7, 7), (1, 6, 2))  # tokens of prompt, chosen and rejected answer


def gpt(phase: float) -> GPT:
    """Build a small model whose weights are sines, the same on every machine."""
    changes = {"vocab_size": VOCABULARY, "max_seq_len": 32, "layers": 2}
    model = GPT(ModelConfig.model_validate(load_preset("test-modern")["model"] | changes))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            angles = torch.arange(parameter.numel(), dtype=torch.float64) * 0.7 + number + phase
            parameter.copy_((0.3 * angles.sin() + (parameter.dim() == 1)).view(parameter.shape))
    return model.eval()


def reference() -> GPT:
    """Return the model before training."""
    return gpt(0.0)


def trained() -> GPT:
    """Return the model after some training."""
    return gpt(0.8)


def adapted() -> GPT:
    """Return the reference with updates of LoRA that are not zero."""
    model = reference()
    apply_lora(model, LoraConfig(rank=2), 0)
    for _, layer in lora_layers(model):
        for matrix in (layer.lora_a, layer.lora_b):
            angles = torch.arange(matrix.numel(), dtype=torch.float64)
            matrix.data.copy_((0.2 * angles.cos()).view(matrix.shape))
    return model


def pairs(lengths: tuple[tuple[int, int, int], ...] = LENGTHS) -> list[EncodedPair]:
    """Return pairs of tokens that follow from their lengths."""
    found = []
    for row, (prompt, *answers) in enumerate(lengths):
        samples = []
        for place, count in enumerate(answers):
            start = [(7 * t + 3 * row) % VOCABULARY for t in range(prompt)]
            answer = [(11 * t + 5 * row + 17 * place) % VOCABULARY for t in range(count)]
            samples.append((np.array(start + answer), np.arange(prompt + count) >= prompt))
        found.append(EncodedPair(*samples))
    return found


def batch_of(found: list[EncodedPair]) -> Batch:
    """Return all pairs as one batch."""
    return PreferencePairs(found, 0).rows(range(len(found)))


def objective(settings: PreferenceLoss, build: Callable[[], GPT] = reference) -> Preference:
    """Return the objective of a run that starts from a model."""
    job = replace(make_job(), model=WholeModel(build), preference=settings)
    found = Preference(job)
    found.prepare(SingleDevice(torch.device("cpu")), "fp32", False)
    return found


def gradients(model: GPT, settings: PreferenceLoss, batches: list[Batch]) -> tuple[float, list[Tensor]]:
    """Return the mean loss over batches and its gradients, added up and divided once, as the loop does."""
    found = objective(settings)
    if any(lora_layers(model)):
        found = objective(settings, adapted)
    parts = [found.loss(model, batch) for batch in batches]
    mean = torch.stack([part.total for part in parts]).sum() / sum(int(part.targets) for part in parts)
    trained_parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return mean.item(), list(torch.autograd.grad(mean, trained_parameters, allow_unused=True))


def norm(found: list[Tensor]) -> float:
    """Return the norm of all gradients together."""
    return math.sqrt(sum(gradient.double().square().sum().item() for gradient in found))


class Recorded(NamedTuple):
    """What TRL computes: the loss, the norm of its gradient, and METRICS as far as TRL has them."""

    loss: float
    grad_norm: float
    metrics: tuple[float, ...]


DPO = (-0.026753664016723633, 0.005917264614254236, -0.03267093002796173, 0.5, -25.618410110473633, -25.69076156616211)
IPO07 = (-0.18727564811706543, 0.041420828551054, -0.22869646549224854, 0.5)
SIMPO = (-7.899692535400391, -8.024621963500977, 0.12493038177490234, 0.75)
ORPO = (-0.4046294465661049, -0.41447990387678146, 0.009850457310676575, 0.75)
RECORDED = [
    (PreferenceLoss("dpo", 0.1), Recorded(0.7109745740890503, 1.5873159902480902, DPO)),
    (PreferenceLoss("dpo", 0.5), Recorded(0.81078040599823, 9.36128712804358, ())),
    (PreferenceLoss("ipo", 0.1), Recorded(25.394866943359375, 51.40258998172573, DPO)),
    (PreferenceLoss("ipo", 0.7), Recorded(0.5862798690795898, 8.002554432452381, IPO07)),
    (PreferenceLoss("simpo", 2.0, simpo_gamma=0.5), Recorded(0.9312631487846375, 6.082112496733161, SIMPO)),
    (PreferenceLoss("simpo", 2.0, 0.1, 1.2), Recorded(1.286872148513794, 6.521323889938959, SIMPO)),
    (PreferenceLoss("orpo", 0.1), Recorded(4.111471652984619, 8.781731509460887, ORPO)),
]


@pytest.mark.parametrize(("settings", "trl"), RECORDED, ids=lambda value: getattr(value, "name", ""))
def test_losses_gradients_and_rewards_are_those_of_trl(settings: PreferenceLoss, trl: Recorded) -> None:
    """Recorded with TRL 1.16.0 and transformers 5.24.0 on a CPU.

    `trained()` and `reference()` were saved with save_model and opened by AutoModelForCausalLM. dpo and ipo are
    DPOTrainer._compute_loss (loss_type sigmoid and ipo) on one padded batch of `pairs()`, simpo is
    CPOTrainer.get_batch_loss_metrics (loss_type simpo, cpo_alpha 0). orpo is the mean of
    ORPOTrainer.get_batch_loss_metrics over batches of one pair with prompts of one token: TRL's likelihood covers the
    prompt, and is a mean over the tokens of the batch, where ours is a mean over each answer.
    """
    lengths = tuple((1, *answers) for _, *answers in LENGTHS) if settings.name == "orpo" else LENGTHS
    batch = batch_of(pairs(lengths))  # type: ignore[arg-type]
    loss, found = gradients(trained(), settings, [batch])
    assert loss == pytest.approx(trl.loss, rel=1e-5, abs=1e-5)
    assert norm(found) == pytest.approx(trl.grad_norm, rel=1e-5)
    sums = objective(settings).batch_metrics(trained(), batch)
    metrics = objective(settings).compute_metrics(sums)
    assert metrics.pop("loss") == pytest.approx(trl.loss, rel=1e-5, abs=1e-5)
    for name, value in zip(METRICS, trl.metrics, strict=False):
        assert metrics[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name


def test_with_lora_the_base_under_the_updates_is_the_reference() -> None:
    """As TRL has it on the adapter that save_adapter writes, opened by peft: loss, norm of the gradient, rewards."""
    settings, batch = PreferenceLoss("dpo", 0.1), batch_of(pairs())
    assert objective(settings, adapted).reference is None
    loss, found = gradients(adapted(), settings, [batch])
    assert (loss, norm(found)) == pytest.approx((0.6975993514060974, 0.10206323317424378), rel=1e-5)
    sums = objective(settings, adapted).batch_metrics(adapted(), batch)
    metrics = objective(settings, adapted).compute_metrics(sums)
    assert metrics["reward_rejected"] == pytest.approx(0.008873891085386276, abs=1e-5)
    assert metrics["logps_rejected"] == pytest.approx(-25.66119384765625, rel=1e-5)


@pytest.mark.parametrize("name", ["dpo", "ipo"])
def test_log_ratios_are_those_of_each_answer_alone(name: LossName) -> None:
    """For train and val, the mean over a token of log p - log q in a pass of one answer without padding, in float64."""
    settings, batch = PreferenceLoss(name, 0.3), batch_of(pairs())
    policy, base = trained().double(), reference().double()
    wanted = []
    for pair in pairs():
        means = []
        for tokens, is_answer in pair:
            ids = torch.from_numpy(tokens)
            log_p, log_q = (
                torch.log_softmax(model.logits(model.hidden_states(ids[None, :-1]))[0], -1) for model in (policy, base)
            )
            places = [t - 1 for t in range(1, len(tokens)) if is_answer[t]]
            means.append(sum((log_p - log_q)[t, ids[t + 1]].item() for t in places) / len(places))
        wanted.append(means)
    expected = np.mean(wanted, axis=0)
    found = objective(settings)
    sums = found.batch_metrics(trained(), batch)
    metrics = found.compute_metrics(sums)
    assert [metrics[name] for name in RATIOS] == pytest.approx(expected, rel=1e-4)
    parts = found.loss(trained(), batch).metrics
    assert parts is not None
    assert dict(zip(found.step_metrics, (parts / len(batch)).tolist(), strict=True)) == pytest.approx(
        {name: metrics[name] for name in found.step_metrics}, rel=1e-5
    )


@pytest.mark.parametrize("name", ["simpo", "orpo"])
def test_without_a_reference_there_are_no_log_ratios(name: LossName) -> None:
    """They are left out, and not reported as 0."""
    found = objective(PreferenceLoss(name, 0.3))
    metrics = found.compute_metrics(found.init_metrics(trained()) + found.batch_metrics(trained(), batch_of(pairs())))
    assert set(metrics) == {"loss", *METRICS}


def test_label_smoothing_is_the_mean_of_both_orders() -> None:
    """With a smoothing of s, the loss is 1 - s times that of the pairs and s times that of the pairs turned round."""
    turned = [EncodedPair(rejected, chosen) for chosen, rejected in pairs()]
    plain, smooth = PreferenceLoss("dpo", 0.5), PreferenceLoss("dpo", 0.5, 0.2)
    one, one_gradients = gradients(trained(), plain, [batch_of(pairs())])
    other, other_gradients = gradients(trained(), plain, [batch_of(turned)])
    both, both_gradients = gradients(trained(), smooth, [batch_of(pairs())])
    assert both == pytest.approx(0.8 * one + 0.2 * other, rel=1e-6)
    for a, b, c in zip(one_gradients, other_gradients, both_gradients, strict=True):
        torch.testing.assert_close(c, 0.8 * a + 0.2 * b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [reference, adapted])
def test_before_the_first_step_the_loss_is_ln_2(build: Callable[[], GPT]) -> None:
    """The model is its reference, so that rewards and margins are 0, whole and with updates that are still zero."""
    model = build()
    for _, layer in lora_layers(model):
        layer.lora_b.data.zero_()
    found = objective(PreferenceLoss("dpo", 0.3), build)
    metrics = found.compute_metrics(found.batch_metrics(model, batch_of(pairs())))
    assert metrics["loss"] == pytest.approx(math.log(2), abs=1e-7)
    assert [metrics[f"reward_{name}"] for name in ("chosen", "rejected", "margin", "accuracy")] == [0, 0, 0, 0]


@pytest.mark.parametrize("name", ["dpo", "ipo", "simpo", "orpo"])
def test_how_a_batch_is_cut_changes_no_gradient(name: LossName) -> None:
    """Whole, and in unequal parts with other padding."""
    settings = PreferenceLoss(name, 0.4, simpo_gamma=0.3)
    found = pairs()
    whole, whole_gradients = gradients(trained(), settings, [batch_of(found)])
    cut, cut_gradients = gradients(trained(), settings, [batch_of(found[:1]), batch_of(found[1:])])
    assert cut == pytest.approx(whole, rel=1e-5)
    for one, other in zip(whole_gradients, cut_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_checkpointed_activations_change_no_bit() -> None:
    """The gradients of recomputed activations are the same."""
    batch, results = batch_of(pairs()), []
    for checkpointed in (False, True):
        model, found = trained(), objective(PreferenceLoss("dpo", 0.1))
        found.checkpoint_activations = checkpointed
        results.append(torch.autograd.grad(found.loss(model, batch).total, list(model.parameters())))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_small_probability_of_the_rest_keeps_its_digits() -> None:
    """log(1 - exp(x)) near 0 and far from it, against numpy's longer floats, and gradients without NaN."""
    logps = torch.tensor([-1e-6, -0.1, -0.693, -5.0, -80.0], requires_grad=True)
    found = log_of_rest(logps)
    wanted = np.log(-np.expm1(logps.detach().numpy().astype(np.float64)))
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-5, atol=1e-30)
    assert bool(torch.autograd.grad(found.sum(), logps)[0].isfinite().all())


def job(**options: Any) -> TrainJob:
    """Describe a run of six steps on twelve pairs."""
    found = make_job(recipe={"steps": 6, "batch_size": 4}, precision="fp32", objective="preference", **options)
    lengths = tuple((2 + n % 3, 3 + n % 5, 2 + n % 4) for n in range(12))
    return replace(
        found,
        model=WholeModel(reference),
        train_sources=only(partial(PreferencePairs, pairs(lengths), 0)),
        val_data=partial(PreferencePairs, pairs(), 0, "val"),
        preference=PreferenceLoss("dpo", 0.5),
        log_every=2,
    )


@pytest.mark.slow
def test_two_processes_equal_one(two: RankPool, tmp_path: Path) -> None:
    """Weights, rewards of each step and on val, each process with a reference of its own."""
    single = run_in(tmp_path / "single", job())
    ranks = two.train("ddp", tmp_path / "ddp", job())
    for name in ("val_loss", "val_reward_margin", "val_logps_chosen", "train_loss"):
        assert ranks[name] == pytest.approx(single[name], rel=1e-4), name
    last = [events(tmp_path / run, "step")[-1] for run in ("single", "ddp")]
    assert last[0]["reward_margin"] == pytest.approx(last[1]["reward_margin"], rel=1e-3)
    one, other = (tensors(tmp_path / run / "checkpoints" / "step-000006") for run in ("single", "ddp"))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, atol=2e-5, rtol=1e-3)
