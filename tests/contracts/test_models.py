"""What every model in the catalog must do; a new file is tested as soon as it exists."""

import pytest
import torch
from torch import nn

from dartcli import catalog

SIZES = (7, 5, 3, 4)


@pytest.fixture(params=catalog.names("models"))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def make_model(name: str, fields: int = 2, seed: int = 0) -> nn.Module:
    kind = catalog.load("models", name)
    # weights that start from zero are the same for every seed and have no gradient
    options = {"first_order_std": 1.0} if "first_order_std" in kind.Options.model_fields else {}
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model: nn.Module = kind(SIZES[:fields], kind.Options(**options))
    return model


def draw_rows(fields: int, count: int = 50) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.stack(
        [torch.randint(0, size, (count,), generator=generator) for size in SIZES[:fields]], dim=1
    )


@pytest.mark.parametrize("fields", [2, 4])
@pytest.mark.parametrize("training", [True, False])
def test_fields_become_logits_and_every_parameter_learns(
    name: str, fields: int, training: bool
) -> None:
    model = make_model(name, fields).train(training)
    logit = model(draw_rows(fields))
    assert logit.shape == (50,)
    assert logit.dtype == torch.float32
    logit.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(parameter.grad.isfinite().all()), parameter_name
        assert training or bool(parameter.grad.any()), parameter_name


@pytest.mark.parametrize("fields", [2, 4])
def test_each_value_of_each_field_has_its_own_embedding(name: str, fields: int) -> None:
    model = make_model(name, fields).eval()
    last = [size - 1 for size in SIZES[:fields]]
    starts = [sum(SIZES[:field]) for field in range(fields)]
    for values in ([0] * fields, last):
        model.zero_grad()
        model(torch.tensor([values])).sum().backward()
        visited = model.embedding.table.grad.abs().sum(1).nonzero().flatten().tolist()
        assert visited == [start + value for start, value in zip(starts, values, strict=True)]
    assert model.embedding.offsets.tolist() == starts
    assert len(model.embedding.table) == sum(SIZES[:fields])


def test_the_seed_determines_the_initial_weights(name: str) -> None:
    first, second, other = (make_model(name, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert not all(torch.equal(value, other[key]) for key, value in first.items())


def test_in_evaluation_a_row_is_scored_the_same_alone_and_in_a_batch(name: str) -> None:
    model, table = make_model(name).eval(), draw_rows(2)
    with torch.no_grad():
        together, alone = model(table), torch.cat([model(row[None]) for row in table])
    torch.testing.assert_close(together, alone)


def test_loaded_weights_score_the_same(name: str) -> None:
    first, second = make_model(name, seed=0).eval(), make_model(name, seed=1).eval()
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        assert torch.equal(first(draw_rows(2)), second(draw_rows(2)))


def test_a_batch_of_one_row_can_be_trained_on(name: str) -> None:
    model = make_model(name).train()
    logit = model(draw_rows(2, 1))
    assert logit.shape == (1,)
    logit.sum().backward()
    assert bool(model.embedding.table.grad.any())


def test_an_empty_batch_gives_no_logits(name: str) -> None:
    assert make_model(name).eval()(draw_rows(2, 0)).shape == (0,)
