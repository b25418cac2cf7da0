"""What every model owes, and that they compute what their papers say."""

import math

import pytest
import torch
from torch import nn

from dartcli import catalog

SIZES = (7, 5, 3, 4)
NAMES = catalog.names("models")


def made(name: str, fields: int = 2, seed: int = 0, **options: object) -> nn.Module:
    kind = catalog.load("models", name)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model: nn.Module = kind(SIZES[:fields], kind.Options(**options))
    return model


def rows(fields: int, count: int = 50) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.stack(
        [torch.randint(0, size, (count,), generator=generator) for size in SIZES[:fields]], dim=1
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fields", [2, 4])
def test_a_model_maps_fields_to_logits_and_every_parameter_learns(name: str, fields: int) -> None:
    model = made(name, fields)
    logit = model(rows(fields))
    assert logit.shape == (50,)
    assert logit.dtype == torch.float32
    logit.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(parameter.grad.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_initial_weights(name: str) -> None:
    first, second, other = made(name), made(name), made(name, seed=1)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])
    assert any(
        not torch.equal(value, other.state_dict()[key]) for key, value in first.state_dict().items()
    )


@pytest.mark.parametrize("name", NAMES)
def test_in_evaluation_a_row_is_scored_the_same_alone_and_in_a_batch(name: str) -> None:
    model = made(name).eval()
    table = rows(2)
    with torch.no_grad():
        together, alone = model(table), torch.cat([model(row[None]) for row in table])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("name", NAMES)
def test_options_are_documented(name: str) -> None:
    kind = catalog.load("models", name)
    assert kind.__doc__
    for option, field in kind.Options.model_fields.items():
        assert field.description, option


def plain_fm(model: nn.Module, row: list[int]) -> float:
    """Rendle's Eq. 1, pair by pair."""
    table = model.embedding.table.detach().double()
    starts = [0, *torch.tensor(SIZES).cumsum(0).tolist()]
    entries = [table[starts[field] + value] for field, value in enumerate(row)]
    total = model.bias.item() + sum(entry[-1].item() for entry in entries)
    for first in range(len(entries)):
        for second in range(first + 1, len(entries)):
            total += float(entries[first][:-1] @ entries[second][:-1])
    return total


@pytest.mark.parametrize("fields", [2, 4])
def test_fm_is_the_sum_over_pairs(fields: int) -> None:
    model = made("fm", fields, first_order_std=1.0)
    with torch.no_grad():
        model.bias.fill_(0.25)
        found = model(rows(fields)).tolist()
    expected = [plain_fm(model, row) for row in rows(fields).tolist()]
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("fields", [2, 4])
def test_the_gradient_of_fm_is_that_of_finite_differences(fields: int) -> None:
    from dartcli.layers import pairwise_interactions

    factors = torch.randn(6, fields, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pairwise_interactions, (factors,))


def test_embeddings_start_as_the_thesis_says() -> None:
    kind = catalog.load("models", "fm")
    model = kind((600, 400), kind.Options())
    factors = model.embedding.table[:, :16]
    bound = math.sqrt(6 / (1000 + 16))
    assert float(factors.detach().abs().max()) <= bound
    assert float(factors.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert not model.embedding.table[:, 16].any()
    normal = kind((600, 400), kind.Options(first_order_std=1.0)).embedding.table[:, 16]
    assert float(normal.detach().std()) == pytest.approx(1.0, rel=0.1)


def test_deepfm_has_the_perceptron_of_the_thesis() -> None:
    layers = [type(layer).__name__ for layer in made("deepfm").perceptron.layers]
    block = ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    assert layers == [*block, *block, "Linear"]
    widths = [m.out_features for m in made("deepfm").modules() if isinstance(m, nn.Linear)]
    assert widths == [16, 16, 1]
    drops = [m.p for m in made("deepfm").modules() if isinstance(m, nn.Dropout)]
    assert drops == [0.2, 0.2]


def test_deepfm_is_fm_plus_the_perceptron() -> None:
    deep = made("deepfm").eval()
    table = rows(2)
    with torch.no_grad():
        factors, _ = deep.embedding(table)
        expected = [plain_fm(deep, row) for row in table.tolist()]
        found = deep(table) - deep.perceptron(factors.flatten(1))
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
