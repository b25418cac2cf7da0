"""What every strategy owes, found through the catalogue: a new file is tested at once."""

from typing import Any

import pytest
import torch
from no_sync import NoSync

from dartcli import catalog
from dartcli.denoising import (
    Context,
    Decision,
    Observed,
    Strategy,
    TrainingTable,
    denoised_loss,
    observe,
)
from dartcli.errors import UsageError
from dartcli.settings import parsed

USERS, ITEMS, TABLE, SIZE = 40, 30, 500, 64
NAMES = catalog.names("strategies")


def training_table() -> TrainingTable:
    generator = torch.Generator().manual_seed(0)
    return TrainingTable(
        user=torch.randint(0, USERS, (TABLE,), generator=generator),
        item=torch.randint(0, ITEMS, (TABLE,), generator=generator),
        label=torch.randint(0, 2, (TABLE,), generator=generator).float(),
        users=USERS,
        items=ITEMS,
        rows=TABLE,
    )


def made(name: str) -> Strategy:
    kind = catalog.load("strategies", name)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        strategy: Strategy = kind(kind.Options(), Context(10, training_table()))
    return strategy


def batch(seed: int, size: int = SIZE, iteration: int = 5000) -> Observed:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 2, (size,), generator=generator).float()
    logit = torch.randn(size, generator=generator)
    return observe(
        logit,
        label,
        row=torch.randperm(TABLE, generator=generator)[:size],
        iteration=torch.tensor(iteration),
        epoch=torch.tensor(3),
        user=torch.randint(0, USERS, (size,), generator=generator),
        item=torch.randint(0, ITEMS, (size,), generator=generator),
    )


def taken(observed: Observed, order: torch.Tensor) -> Observed:
    def pick(values: Any) -> Any:
        return values[order] if values is not None and values.dim() else values

    return Observed(**{name: pick(getattr(observed, name)) for name in vars(observed)})


def check(decision: Decision, size: int) -> None:
    assert isinstance(decision, Decision)
    for values in decision:
        assert values.shape == (size,)
        assert values.dtype == torch.float32
        assert not values.requires_grad
        assert bool(values.isfinite().all())
    assert bool((decision.weight >= 0).all())
    assert bool(((decision.label >= 0) & (decision.label <= 1)).all())


@pytest.mark.parametrize("name", NAMES)
def test_a_decision_has_a_weight_and_a_label_for_each_row(name: str) -> None:
    strategy = made(name)
    for seed, size in enumerate([SIZE, 1, 2, 17]):
        check(strategy.decide(batch(seed, size)), size)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_batches_of_one_class_and_empty_batches_are_decided(name: str, label: float) -> None:
    strategy = made(name)
    for size in (0, 1, 8):
        one = batch(0, size)
        uniform = Observed(**{**vars(one), "label": torch.full((size,), label)})
        check(strategy.decide(uniform), size)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_batch_changes_no_decision(name: str) -> None:
    observed = batch(3)
    order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(1))
    first = made(name).decide(observed)
    second = made(name).decide(taken(observed, order))
    torch.testing.assert_close(first.weight[order], second.weight)
    torch.testing.assert_close(first.label[order], second.label)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_a_step_waits_for_the_device(name: str) -> None:
    strategy = made(name)
    observed = batch(4)
    logit = torch.nn.Parameter(torch.randn(SIZE))
    optimizer = torch.optim.Adam([logit, *strategy.parameters()], fused=True)
    with NoSync():
        linked = strategy.link(logit)
        with torch.no_grad():
            decision = strategy.decide(observed)
        denoised_loss(linked, decision).backward()
        optimizer.step()
    assert logit.grad is not None


@pytest.mark.parametrize("name", NAMES)
def test_state_that_is_saved_and_loaded_decides_the_same(name: str) -> None:
    first, second = made(name), made(name)
    for seed in range(4):
        first.decide(batch(seed))
    second.load_state_dict(first.state_dict())
    for found, expected in zip(second.decide(batch(9)), first.decide(batch(9)), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_link_is_a_rising_function_of_the_logit(name: str) -> None:
    logit = torch.linspace(-30, 30, 601)
    linked = made(name).link(logit).detach()
    assert bool(linked.isfinite().all())
    assert bool((linked[1:] >= linked[:-1]).all())


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_are_refused_and_every_option_is_documented(name: str) -> None:
    kind = catalog.load("strategies", name)
    with pytest.raises(UsageError, match=r"unknown setting strategy\.no_such_option"):
        parsed(kind.Options, {"no_such_option": 1}, "strategy")
    assert kind.__doc__
    assert kind.Options.__doc__
    for option, field in kind.Options.model_fields.items():
        assert field.description, option


@pytest.mark.parametrize("name", NAMES)
def test_the_name_begins_with_the_file_name(name: str) -> None:
    kind = catalog.load("strategies", name)
    file = kind.__module__.rpartition(".")[2].replace("_", "-")
    assert name == file or name.startswith(f"{file}-")
