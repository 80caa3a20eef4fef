"""The language-model objective: every family learns, documents stay apart, and no cut of a batch changes a gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gptctl.core.errors import UsageError
from gptctl.model.config import load_preset, preset_names
from gptctl.model.cross_entropy import IGNORE_INDEX, cross_entropy_sum
from gptctl.model.gpt import GPT
from gptctl.train.data.batch import Batch
from gptctl.train.objectives.language_model import LanguageModeling
from gptctl.train.recipe import Recipe
from tests.model.test_gpt import FAMILIES, make
from tests.train.jobs import text

TINY = [name for name in preset_names() if name.startswith("test-")]
END = 3  # of text


def windows(count: int, length: int) -> Tensor:
    """Cut bytes of real text into windows (count, length + 1)."""
    return torch.from_numpy(text()[: count * (length + 1)].astype("int64")).view(count, length + 1)


def gradients(model: GPT, batches: list[Tensor], recipe: Recipe) -> list[Tensor]:
    """Add up over batches and divide once, as the loop does."""
    found = [LanguageModeling(recipe).loss(model, Batch.from_windows(batch)) for batch in batches]
    mean = torch.stack([one.total for one in found]).sum() / sum(int(one.targets) for one in found)
    return list(torch.autograd.grad(mean, list(model.parameters())))


@pytest.mark.parametrize("name", TINY)
def test_every_family_learns(name: str) -> None:
    """From ln 512 to less than 4.5 in 25 steps on real text; nothing is left without a gradient."""
    model = make(name, randomize=False)
    recipe, batch = Recipe.model_validate(load_preset(name)["training"]), Batch.from_windows(windows(4, 64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(25):
        total, count, _ = LanguageModeling(recipe).loss(model.train(), batch)
        parameters = list(model.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(total / count, parameters), strict=True):
            parameter.grad = gradient
        optimizer.step()
        losses.append((total / count).item())
    assert losses[0] > 6
    assert losses[-1] < 4.5


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_documents_are_as_alone(name: str) -> None:
    """Under the mask a row's loss is the sum of its documents', each after its end-of-text; without it, it is not."""
    model = make(name, end_of_text=END)
    generator = torch.Generator().manual_seed(4)
    documents = [torch.randint(4, 60, (length,), generator=generator) for length in (5, 1, 20, 13, 17)]
    end, nothing = torch.tensor([END]), torch.full((3,), IGNORE_INDEX)
    row = torch.cat([end, *(torch.cat((document, end)) for document in documents), nothing])[None]
    with torch.no_grad():
        masked = LanguageModeling(Recipe(document_mask=True)).batch_metrics(model, Batch.from_windows(row))
        crossing = LanguageModeling(Recipe()).batch_metrics(model, Batch.from_windows(row))
        alone = torch.zeros(2, dtype=torch.float64)
        for document in documents:
            whole = torch.cat((end, document, end))[None]
            total, count = cross_entropy_sum(model(whole[:, :-1]), whole[:, 1:])
            alone += torch.stack((total, count)).double()
    torch.testing.assert_close(masked, alone, rtol=1e-5, atol=1e-5)
    assert abs((crossing - alone)[0].item()) > 0.1


def test_a_document_mask_needs_the_end_of_text() -> None:
    """Exit 2, naming the key."""
    with pytest.raises(UsageError, match=r"training\.document_mask"):
        LanguageModeling(Recipe(document_mask=True)).loss(make("test-gpt2"), Batch.from_windows(windows(2, 16)))


@pytest.mark.parametrize("name", ["test-gpt3", "test-moe"])
@pytest.mark.parametrize("document_mask", [False, True])
def test_how_a_batch_is_cut_changes_no_gradient(name: str, document_mask: bool) -> None:
    """Whole, in unequal parts, and with rows that are partly nothing: the experts' balance too is each sequence's own."""
    model = make(name, end_of_text=10)  # of a line
    recipe = Recipe(document_mask=document_mask, aux_loss_weight=0.5, router_z_weight=0.1)
    batch = windows(6, 40)
    batch[2, 11:] = IGNORE_INDEX
    batch[5, 1:] = IGNORE_INDEX
    whole = gradients(model, [batch], recipe)
    parts = gradients(model, [batch[:1], batch[1:5], batch[5:]], recipe)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_the_routers_losses_are_in_the_training_loss_alone() -> None:
    """Weighted as the recipe says; evaluation gives the cross-entropy."""
    model, batch = make("test-moe"), windows(4, 32)
    found = model(batch[:, :-1], targets=batch[:, 1:])
    assert found.load_balancing / found.targets > model.config.layers  # 1 a layer where the load is even
    objective = LanguageModeling(Recipe(aux_loss_weight=0.2, router_z_weight=0.3))
    total, count, _ = objective.loss(model, Batch.from_windows(batch))
    torch.testing.assert_close(total, found.cross_entropy + 0.2 * found.load_balancing + 0.3 * found.router_z)
    evaluated = LanguageModeling(Recipe()).batch_metrics(model, Batch.from_windows(batch))
    assert evaluated.tolist() == [found.cross_entropy.item(), count.item()]


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("name", TINY)
def test_checkpointed_activations_change_no_bit(name: str, dropout: float) -> None:
    """The same gradients, dropout drawn again as it was, while less is kept for the backward pass."""
    model, batch = make(name, dropout=dropout, attention_dropout=dropout).train(), windows(4, 48)
    results, kept = [], []
    for checkpointed in (False, True):
        sizes: list[int] = []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        torch.manual_seed(7)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            objective = LanguageModeling(Recipe(checkpoint_activations=checkpointed))
            total = objective.loss(model, Batch.from_windows(batch)).total
        kept.append(sum(sizes))
        results.append(torch.autograd.grad(total, list(model.parameters())))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    assert kept[1] < 0.6 * kept[0]
