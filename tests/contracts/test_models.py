"""What every model owes, and that they compute what their papers say."""

import itertools
import math

import pytest
import torch
from torch import nn

from dartcli import catalog
from dartcli.errors import UsageError
from dartcli.settings import validate

SIZES = (7, 5, 3, 4)
NAMES = catalog.names("models")


def made(name: str, fields: int = 2, seed: int = 0, **options: object) -> nn.Module:
    kind = catalog.load("models", name)
    # weights that start from zero are the same for every seed: let them start from chance
    options = {"first_order_std": 1.0} | options
    known = {key: value for key, value in options.items() if key in kind.Options.model_fields}
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model: nn.Module = kind(SIZES[:fields], kind.Options(**known))
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
    from dartcli.models._layers import pairwise_interactions

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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fields", [2, 4])
def test_the_gradient_of_every_parameter_is_more_than_nothing(name: str, fields: int) -> None:
    model = made(name, fields, first_order_std=1.0).eval()
    model(rows(fields)).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(parameter.grad.any()), parameter_name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fields", [2, 4])
def test_each_field_has_embeddings_of_its_own(name: str, fields: int) -> None:
    model = made(name, fields).eval()
    last = [size - 1 for size in SIZES[:fields]]
    starts = [sum(SIZES[:field]) for field in range(fields)]
    for values in ([0] * fields, last):
        model.zero_grad()
        model(torch.tensor([values])).sum().backward()
        visited = model.embedding.table.grad.abs().sum(1).nonzero().flatten().tolist()
        assert visited == [start + value for start, value in zip(starts, values, strict=True)]
    assert model.embedding.offsets.tolist() == starts
    assert len(model.embedding.table) == sum(SIZES[:fields])


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_leave_the_callers_randomness_alone(name: str) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    made(name)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_weights_that_are_saved_and_loaded_score_the_same(name: str, seed: int) -> None:
    first, second = made(name, seed=seed).eval(), made(name, seed=seed + 1).eval()
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        assert torch.equal(first(rows(2)), second(rows(2)))


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_row_can_be_trained_on(name: str) -> None:
    model = made(name).train()
    logit = model(rows(2, 1))
    assert logit.shape == (1,)
    logit.sum().backward()
    assert bool(model.embedding.table.grad.any())


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_give_no_logits(name: str) -> None:
    assert made(name).eval()(rows(2, 0)).shape == (0,)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_of_a_model_are_refused(name: str) -> None:
    kind = catalog.load("models", name)
    with pytest.raises(UsageError, match=r"^unknown setting model\.no_such_option; "):
        validate(kind.Options, {"no_such_option": 1}, "model")
    options = kind.Options()
    assert kind.Options.model_validate_json(options.model_dump_json()) == options


@pytest.mark.parametrize("fields", [2, 4])
def test_the_gradient_of_fm_is_that_of_the_plain_formula(fields: int) -> None:
    model = made("fm", fields, first_order_std=1.0).double()
    table = model.embedding.table.detach().clone().requires_grad_()
    bias = model.bias.detach().clone().requires_grad_()
    starts = [sum(SIZES[:field]) for field in range(fields)]
    scale = torch.arange(1.0, 51.0, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for number, row in enumerate(rows(fields).tolist()):
        entries = [table[start + value] for start, value in zip(starts, row, strict=True)]
        logit = bias + sum(entry[-1] for entry in entries)
        for first, second in itertools.combinations(entries, 2):
            logit = logit + (first[:-1] * second[:-1]).sum()
        total = total + scale[number] * logit
    total.backward()
    (scale * model(rows(fields))).sum().backward()
    torch.testing.assert_close(model.embedding.table.grad, table.grad)
    torch.testing.assert_close(model.bias.grad, bias.grad)


@pytest.mark.parametrize("fields", [2, 4])
def test_the_second_derivative_of_fm_is_that_of_finite_differences(fields: int) -> None:
    from dartcli.models._layers import pairwise_interactions

    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(3, fields, 2, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(pairwise_interactions, (factors.requires_grad_(),))


@pytest.mark.parametrize("sizes", [(600, 400), (100, 50, 30, 20)])
@pytest.mark.parametrize("factors", [8, 16])
def test_the_bound_of_xavier_is_that_of_the_joint_table(
    sizes: tuple[int, ...], factors: int
) -> None:
    kind = catalog.load("models", "fm")
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        model = kind(sizes, kind.Options(factors=factors))
    bound = math.sqrt(6 / (sum(sizes) + factors))
    values = model.embedding.table.detach()[:, :factors].flatten()
    assert model.embedding.table.shape == (sum(sizes), factors + 1)
    assert 0.98 * bound < float(values.abs().max()) <= bound
    # uniform: a quarter of the values in each quarter of the range
    quarters = torch.histc(values, bins=4, min=-bound, max=bound) / len(values)
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.04)


def test_first_order_weights_and_bias_start_from_zero_unless_told_otherwise() -> None:
    for name in ("fm", "deepfm"):
        kind = catalog.load("models", name)
        plain = kind(SIZES, kind.Options())
        assert not plain.embedding.table[:, -1].any()
        assert float(plain.bias.detach()) == 0.0
        spread = catalog.load("models", name)
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            model = spread((3000, 2000), spread.Options(first_order_std=1.0))
        weights = model.embedding.table.detach()[:, -1]
        assert float(weights.std()) == pytest.approx(1.0, abs=0.05)
        assert float(weights.mean()) == pytest.approx(0.0, abs=0.05)


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


@pytest.mark.parametrize("fields", [2, 4])
def test_deepfm_is_the_sum_of_its_plain_parts(fields: int) -> None:
    model = made("deepfm", fields, first_order_std=1.0)
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        for parameter in model.perceptron.parameters():
            parameter.add_(torch.randn(parameter.shape))
        model(rows(fields))  # moves the running statistics
        found = model.eval()(rows(fields)).tolist()
    table, starts = model.embedding.table.detach().double(), model.embedding.offsets.tolist()
    expected = []
    for row in rows(fields).tolist():
        factors = [
            number
            for start, value in zip(starts, row, strict=True)
            for number in table[start + value, :-1].tolist()
        ]
        expected.append(plain_fm(model, row) + plain_perceptron(model, factors))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_dropout_acts_in_training_only() -> None:
    model = made("deepfm")
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        assert not torch.equal(model(rows(2)), model(rows(2)))
        model.eval()
        assert torch.equal(model(rows(2)), model(rows(2)))


@pytest.mark.parametrize("fields", [2, 4])
def test_lr_is_the_sum_of_the_weights_of_a_row(fields: int) -> None:
    model = made("lr", fields)
    starts = [0, *torch.tensor(SIZES).cumsum(0).tolist()]
    weights = model.embedding.table.detach()[:, -1].tolist()
    with torch.no_grad():
        model.bias.fill_(0.5)
        found = model(rows(fields)).tolist()
    expected = [
        0.5 + sum(weights[starts[field] + value] for field, value in enumerate(row))
        for row in rows(fields).tolist()
    ]
    assert found == pytest.approx(expected, abs=1e-5)


def test_wide_and_deep_is_deepfm_without_the_pairs() -> None:
    from dartcli.models._layers import pairwise_interactions

    wide, deep = made("wide-deep").eval(), made("deepfm").eval()
    deep.load_state_dict(wide.state_dict())
    table = rows(2)
    with torch.no_grad():
        factors, _ = deep.embedding(table)
        torch.testing.assert_close(deep(table) - pairwise_interactions(factors), wide(table))


def test_neumf_adds_a_weighed_product_and_a_perceptron() -> None:
    model = made("neumf").eval()
    table = rows(2)
    starts = model.embedding.offsets.tolist()
    weight = model.output.weight.detach()[0].double()
    with torch.no_grad():
        found = model(table).double()
        for position, row in enumerate(table.tolist()):
            entries = [
                model.embedding.table[start + value].double()
                for start, value in zip(starts, row, strict=True)
            ]
            product = float((entries[0][:16] * entries[1][:16]) @ weight)
            joined = torch.cat([entry[16:] for entry in entries]).float()
            deep = float(model.perceptron(joined[None]))
            assert float(found[position]) == pytest.approx(product + deep, abs=1e-5)
