"""Each model against a plain loop written from its paper."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn

from dartcli import catalog
from dartcli.models._layers import FieldEmbedding, JointTable, pairwise_interactions

SIZES = (7, 5, 3, 4)


def make_model(
    name: str, sizes: tuple[int, ...] = SIZES, *, seed: int = 0, **options: Any
) -> nn.Module:
    kind = catalog.load("models", name)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model: nn.Module = kind(sizes, kind.Options(**options))
    return model


def draw_rows(fields: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.stack(
        [torch.randint(0, size, (50,), generator=generator) for size in SIZES[:fields]], dim=1
    )


def find_entries(model: nn.Module, row: list[int]) -> list[torch.Tensor]:
    """Return the embedding of each value of a row."""
    table = model.embedding.table.detach().double()
    return [table[sum(SIZES[:field]) + value] for field, value in enumerate(row)]


def plain_fm(model: nn.Module, row: list[int]) -> float:
    """Rendle's Eq. 1, pair by pair."""
    entries = find_entries(model, row)
    total = model.bias.item() + sum(entry[-1].item() for entry in entries)
    for first, second in itertools.combinations(entries, 2):
        total += float(first[:-1] @ second[:-1])
    return total


def plain_perceptron(model: nn.Module, inputs: list[float]) -> float:
    """Linear, batch normalization by running statistics, ReLU; twice; then linear."""
    values = inputs
    state = {key: value.double() for key, value in model.perceptron.layers.state_dict().items()}
    for linear, norm in (("0", "1"), ("4", "5"), ("8", None)):
        weight, bias = state[f"{linear}.weight"].tolist(), state[f"{linear}.bias"].tolist()
        values = [
            sum(w * v for w, v in zip(row, values, strict=True)) + b
            for row, b in zip(weight, bias, strict=True)
        ]
        if norm is None:
            break
        mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        scale, shift = state[f"{norm}.weight"], state[f"{norm}.bias"]
        values = [
            max(float((v - m) / math.sqrt(s + 1e-5) * g + c), 0.0)
            for v, m, s, g, c in zip(values, mean, variance, scale, shift, strict=True)
        ]
    return values[0]


@pytest.fixture(params=[2, 4])
def fields(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def test_lr_is_the_sum_of_the_weights_of_a_row(fields: int) -> None:
    model = make_model("lr", SIZES[:fields], first_order_std=1.0)
    with torch.no_grad():
        model.bias.fill_(0.5)
        found = model(draw_rows(fields)).tolist()
    rows = draw_rows(fields).tolist()
    expected = [0.5 + sum(float(entry) for entry in find_entries(model, row)) for row in rows]
    assert found == pytest.approx(expected, abs=1e-5)


def test_fm_is_the_sum_over_pairs(fields: int) -> None:
    model = make_model("fm", SIZES[:fields], first_order_std=1.0)
    with torch.no_grad():
        model.bias.fill_(0.25)
        found = model(draw_rows(fields)).tolist()
    expected = [plain_fm(model, row) for row in draw_rows(fields).tolist()]
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_gradient_of_fm_is_that_of_the_plain_formula(fields: int) -> None:
    model = make_model("fm", SIZES[:fields], first_order_std=1.0).double()
    table = model.embedding.table.detach().clone().requires_grad_()
    bias = model.bias.detach().clone().requires_grad_()
    scale = torch.arange(1.0, 51.0, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for number, row in enumerate(draw_rows(fields).tolist()):
        entries = [table[sum(SIZES[:field]) + value] for field, value in enumerate(row)]
        logit = bias + sum(entry[-1] for entry in entries)
        for first, second in itertools.combinations(entries, 2):
            logit = logit + (first[:-1] * second[:-1]).sum()
        total = total + scale[number] * logit
    total.backward()
    (scale * model(draw_rows(fields))).sum().backward()
    torch.testing.assert_close(model.embedding.table.grad, table.grad)
    torch.testing.assert_close(model.bias.grad, bias.grad)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("pairwise", [False, True])
def test_accumulated_gradients_equal_those_of_autograd(number: int, pairwise: bool) -> None:
    generator = torch.Generator().manual_seed(number)
    plain, fused = (FieldEmbedding(SIZES[:number], 3, 1.0).double() for _ in range(2))
    fused.load_state_dict(plain.state_dict())
    fused.table.grad, fused.accumulates = torch.ones_like(fused.table), True
    of_total = torch.randn(50, generator=generator, dtype=torch.float64)
    of_factors = torch.randn(50, 3 * number, generator=generator, dtype=torch.float64)
    found = []
    for layer in (plain, fused):
        bias = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        total, values = layer(draw_rows(number), bias, pairwise=pairwise)
        factors = layer.extract_factors(values).flatten(1)
        ((total * of_total).sum() + (factors * of_factors).sum()).backward()
        assert layer.table.grad is not None
        found.append((total, factors, layer.table.grad, bias.grad))
    # added to what was there
    found[1][2].sub_(1)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_accumulated_lookups_equal_those_of_autograd() -> None:
    plain, fused = (JointTable(SIZES, torch.arange(3.0 * sum(SIZES)).view(-1, 3)) for _ in range(2))
    fused.table.grad, fused.accumulates = torch.zeros_like(fused.table), True
    for layer in (plain, fused):
        (layer.look_up(draw_rows(len(SIZES))) ** 2).sum().backward()
    torch.testing.assert_close(plain.table.grad, fused.table.grad)


def test_first_and_second_derivatives_of_pairs_are_those_of_finite_differences(
    fields: int,
) -> None:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(3, fields, 2, generator=generator, dtype=torch.float64)
    factors.requires_grad_()
    assert torch.autograd.gradcheck(pairwise_interactions, (factors,))
    assert torch.autograd.gradgradcheck(pairwise_interactions, (factors,))


def test_deepfm_is_fm_plus_a_perceptron(fields: int) -> None:
    model = make_model("deepfm", SIZES[:fields], first_order_std=1.0)
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        for parameter in model.perceptron.parameters():
            parameter.add_(torch.randn(parameter.shape))
        model(draw_rows(fields))  # updates the running statistics
        found = model.eval()(draw_rows(fields)).tolist()
    expected = []
    for row in draw_rows(fields).tolist():
        factors = [number for entry in find_entries(model, row) for number in entry[:-1].tolist()]
        expected.append(plain_fm(model, row) + plain_perceptron(model, factors))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_wide_and_deep_is_deepfm_without_the_pairs() -> None:
    wide = make_model("wide-deep", SIZES[:2], first_order_std=1.0).eval()
    deep = make_model("deepfm", SIZES[:2]).eval()
    deep.load_state_dict(wide.state_dict())
    table = draw_rows(2)
    with torch.no_grad():
        factors = deep.embedding.look_up(table)[..., :-1]
        torch.testing.assert_close(deep(table) - pairwise_interactions(factors), wide(table))


def test_neumf_adds_a_weighted_product_and_a_perceptron() -> None:
    model = make_model("neumf", SIZES[:2]).eval()
    weight = model.output.weight.detach()[0].double()
    table = draw_rows(2)
    with torch.no_grad():
        found = model(table).tolist()
        for logit, row in zip(found, table.tolist(), strict=True):
            user, item = find_entries(model, row)
            product = float((user[:16] * item[:16]) @ weight)
            deep = float(model.perceptron(torch.cat([user[16:], item[16:]]).float()[None]))
            assert logit == pytest.approx(product + deep, abs=1e-5)


def test_deepfm_has_the_perceptron_of_the_thesis() -> None:
    perceptron = make_model("deepfm").perceptron
    layers = [type(layer).__name__ for layer in perceptron.layers]
    block = ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    assert layers == [*block, *block, "Linear"]
    modules = list(perceptron.modules())
    assert [m.out_features for m in modules if isinstance(m, nn.Linear)] == [16, 16, 1]
    assert [m.p for m in modules if isinstance(m, nn.Dropout)] == [0.2, 0.2]


def test_dropout_acts_in_training_only() -> None:
    model, table = make_model("deepfm", SIZES[:2]), draw_rows(2)
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        assert not torch.equal(model(table), model(table))
        model.eval()
        assert torch.equal(model(table), model(table))


@pytest.mark.parametrize("sizes", [(600, 400), (100, 50, 30, 20)])
@pytest.mark.parametrize("factors", [8, 16])
def test_factors_start_xavier_uniform_over_the_joint_table(
    sizes: tuple[int, ...], factors: int
) -> None:
    table = make_model("fm", sizes, seed=1, factors=factors).embedding.table.detach()
    assert table.shape == (sum(sizes), factors + 1)
    bound = math.sqrt(6 / (sum(sizes) + factors))
    values = table[:, :factors].flatten()
    assert 0.98 * bound < float(values.abs().max()) <= bound
    # uniform: a quarter of the values in each quarter of the range
    quarters = torch.histc(values, bins=4, min=-bound, max=bound) / len(values)
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.04)


@pytest.mark.parametrize("name", ["fm", "deepfm"])
def test_first_order_weights_start_from_zero_or_a_normal_distribution(name: str) -> None:
    plain = make_model(name)
    assert not plain.embedding.table[:, -1].any()
    assert float(plain.bias.detach()) == 0.0
    weights = make_model(name, (3000, 2000), first_order_std=1.0).embedding.table.detach()[:, -1]
    assert float(weights.std()) == pytest.approx(1.0, abs=0.05)
    assert float(weights.mean()) == pytest.approx(0.0, abs=0.05)
