"""What every strategy in the catalog must do; a new file is tested as soon as it exists."""

import copy
from typing import Any

import polars as pl
import pytest
import torch
from no_sync import NoSync
from torch import nn

from dartcli import catalog
from dartcli.data.columns import ITEM, LABEL, NOISY, USER
from dartcli.denoising import (
    CleanSample,
    Context,
    Decision,
    Observed,
    Strategy,
    TrainingTable,
    denoised_loss,
    observe,
)
from dartcli.errors import UsageError

USERS, ITEMS, TABLE, SIZE = 40, 30, 500, 64


@pytest.fixture(params=catalog.names("strategies"))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def make_strategy(name: str) -> Strategy:
    kind = catalog.load("strategies", name)
    generator = torch.Generator().manual_seed(0)
    table = TrainingTable(
        user=torch.randint(0, USERS, (TABLE,), generator=generator),
        item=torch.randint(0, ITEMS, (TABLE,), generator=generator),
        label=torch.randint(0, 2, (TABLE,), generator=generator).float(),
        users=USERS,
        items=ITEMS,
        rows=TABLE,
    )
    clean = CleanSample(torch.stack([table.user, table.item], 1)[:50], table.label[:50])
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        strategy: Strategy = kind(kind.Options(), Context(10, table, clean))
    return strategy


def make_batch(seed: int, size: int = SIZE, **fields: torch.Tensor) -> Observed:
    """Draw a batch; ``fields`` replace what was drawn."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 2, (size,), generator=generator).float()
    logit = torch.randn(size, generator=generator)
    observed = observe(
        logit,
        label,
        row=torch.randperm(TABLE, generator=generator)[:size],
        iteration=torch.tensor(5000),
        epoch=torch.tensor(3),
        user=torch.randint(0, USERS, (size,), generator=generator),
        item=torch.randint(0, ITEMS, (size,), generator=generator),
    )
    return Observed(**{**vars(observed), **fields})


COMPUTED = {"loss", "probability"}


def predict(observed: Observed, logit: torch.Tensor) -> Observed:
    """Return the batch with the losses and probabilities of other logits."""
    fields = {key: value for key, value in vars(observed).items() if key not in COMPUTED}
    return observe(logit, fields.pop("label"), **fields)


def reorder(observed: Observed, order: torch.Tensor) -> Observed:
    return Observed(
        **{key: value[order] if value.dim() else value for key, value in vars(observed).items()}
    )


def check(decision: Decision, size: int) -> None:
    assert isinstance(decision, Decision)
    for values in decision:
        assert values.shape == (size,)
        assert values.dtype == torch.float32
        assert not values.requires_grad
        assert bool(values.isfinite().all())
    assert bool((decision.weight >= 0).all())
    assert bool(((decision.label >= 0) & (decision.label <= 1)).all())


def test_the_name_begins_with_the_file_name(name: str) -> None:
    file = catalog.load("strategies", name).__module__.rpartition(".")[2].replace("_", "-")
    assert name == file or name.startswith(f"{file}-")


def test_every_row_gets_a_weight_and_a_label(name: str) -> None:
    strategy = make_strategy(name)
    first = {"iteration": torch.tensor(1), "epoch": torch.tensor(1)}
    check(make_strategy(name).decide(make_batch(8, **first)), SIZE)
    for seed, size in enumerate([SIZE, 0, 1, 2, 17]):
        check(strategy.decide(make_batch(seed, size)), size)
        for label in (torch.zeros(size), torch.ones(size)):
            check(strategy.decide(make_batch(seed, size, label=label)), size)


@pytest.mark.parametrize("ties", [False, True])
def test_the_order_of_a_batch_changes_no_decision(name: str, ties: bool) -> None:
    for seed in range(5):
        observed = make_batch(seed)
        if ties:
            loss = (torch.arange(SIZE) % 3).float() / 4
            observed = make_batch(seed, loss=loss, probability=torch.exp(-loss))
        order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(seed + 50))
        first = make_strategy(name).decide(observed)
        second = make_strategy(name).decide(reorder(observed, order))
        tolerance = {"rtol": 0.0, "atol": 0.0} if ties else {}
        torch.testing.assert_close(first.weight[order], second.weight, **tolerance)
        torch.testing.assert_close(first.label[order], second.label, **tolerance)


def test_a_fixed_decision_depends_on_row_and_label_alone(name: str) -> None:
    if not vars(catalog.load("strategies", name)).get("is_fixed"):
        pytest.skip("its decisions are not fixed")
    strategy, observed = make_strategy(name), make_batch(3)
    first = strategy.decide(observed)
    fields = {"iteration": torch.tensor(1), "epoch": torch.tensor(9), "user": None, "item": None}
    other = predict(Observed(**{**vars(observed), **fields}), -observed.loss)
    for mine, theirs in zip(first, strategy.decide(other), strict=True):
        assert torch.equal(mine, theirs)


def test_32_bit_integers_get_the_same_decision(name: str) -> None:
    wide = make_batch(9)
    narrow = {key: value.int() for key, value in vars(wide).items() if value.dtype == torch.int64}
    assert narrow.keys() == {"row", "iteration", "epoch", "user", "item"}
    found = make_strategy(name).decide(make_batch(9, **narrow))
    for values, expected in zip(found, make_strategy(name).decide(wide), strict=True):
        assert torch.equal(values, expected)


def test_the_batch_is_not_modified(name: str) -> None:
    observed = make_batch(6)
    before = copy.deepcopy(observed)
    make_strategy(name).decide(observed)
    for field, value in vars(before).items():
        assert torch.equal(getattr(observed, field), value), field


def test_extreme_predictions_keep_decision_loss_and_gradient_finite(name: str) -> None:
    strategy = make_strategy(name)
    for logit in (-1e30, -200.0, -20.0, 0.0, 20.0, 200.0, 1e30):
        for size in (1, 6):
            for label in (torch.zeros(size), torch.ones(size)):
                logits = torch.full((size,), logit, requires_grad=True)
                linked = strategy.link(logits)
                decision = strategy.decide(predict(make_batch(7, size, label=label), linked))
                check(decision, size)
                loss = denoised_loss(linked, decision)
                loss.backward()
                assert bool(loss.isfinite())
                assert logits.grad is not None
                assert bool(logits.grad.isfinite().all())


def test_the_link_is_a_rising_function_of_the_logit(name: str) -> None:
    linked = make_strategy(name).link(torch.linspace(-30, 30, 601)).detach()
    assert bool(linked.isfinite().all())
    assert bool((linked[1:] >= linked[:-1]).all())


def test_the_gradient_treats_the_decision_as_a_constant(name: str) -> None:
    strategy, observed = make_strategy(name), make_batch(5)
    logit = torch.logit(observed.probability.double()).float().requires_grad_()
    linked = strategy.link(logit)
    linked.retain_grad()
    decision = strategy.decide(predict(observed, linked))
    check(decision, SIZE)
    denoised_loss(linked, decision).backward()
    kept = sum(weight > 0 for weight in decision.weight.tolist())
    slope = decision.weight * (linked.detach().sigmoid() - decision.label) / kept
    torch.testing.assert_close(linked.grad, slope)
    for parameter_name, parameter in strategy.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(parameter.grad.any()), parameter_name


def make_model(name: str) -> nn.Module:
    kind = catalog.load("models", name)
    # weights that start from zero would give equal losses, from which lcd learns nothing
    varied = {"first_order_std": 1.0} if "first_order_std" in kind.Options.model_fields else {}
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model: nn.Module = kind((USERS, ITEMS), kind.Options(**varied))
    return model


def test_a_whole_step_with_any_model_never_waits_for_the_device(name: str) -> None:
    observed = make_batch(4)
    assert observed.user is not None
    assert observed.item is not None
    fields = torch.stack([observed.user, observed.item], dim=1)
    for model_name in catalog.names("models"):
        strategy, model = make_strategy(name), make_model(model_name)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer = torch.optim.Adam([*model.parameters(), *strategy.parameters()], fused=True)
        with NoSync():
            for _ in range(2):
                logit = strategy.link(model(fields))
                with torch.no_grad():
                    decision = strategy.decide(predict(observed, logit))
                loss = denoised_loss(logit, decision)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        assert bool(loss.isfinite()), model_name
        for old, new in zip(before, model.parameters(), strict=True):
            assert not torch.equal(old, new), model_name


def test_a_strategy_that_waits_would_be_found() -> None:
    class Waits(Strategy):
        def decide(self, observed: Observed) -> Decision:
            label = observed.label.clone()
            label[observed.loss > 1] = 0
            return Decision(torch.ones_like(label), label)

    strategy = Waits(Waits.Options(), Context())
    check(strategy.decide(make_batch(0)), SIZE)
    with NoSync(), pytest.raises(AssertionError, match="waits for the device"):
        strategy.decide(make_batch(0))


def test_saved_state_restores_decisions_and_link(name: str) -> None:
    first, second = make_strategy(name), make_strategy(name)
    for seed in range(4):
        first.decide(make_batch(seed))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    second.load_state_dict(first.state_dict())
    batch, logit = make_batch(9), torch.linspace(-5, 5, 50)
    for found, expected in zip(second.decide(batch), first.decide(batch), strict=True):
        assert torch.equal(found, expected)
    assert torch.equal(first.link(logit), second.link(logit))


def test_every_tensor_is_registered(name: str) -> None:
    for module in make_strategy(name).modules():
        loose = [key for key, value in vars(module).items() if isinstance(value, torch.Tensor)]
        assert loose == [], "register it as a buffer or parameter"


def test_without_context_a_strategy_works_or_names_what_is_missing(name: str) -> None:
    kind = catalog.load("strategies", name)
    bare: dict[str, Any] = {"user": None, "item": None}
    options = kind.Options()
    try:
        decision = kind(options, Context()).decide(make_batch(1, **bare))
    except UsageError as error:
        named = [name, *map(repr, options.model_dump().values())]
        assert any(word in str(error) for word in named), error
    else:
        check(decision, SIZE)


def test_prepared_tables_keep_columns_types_and_order(name: str) -> None:
    kind = catalog.load("strategies", name)
    recorded = pl.DataFrame(
        {
            USER: [0, 1, 2, 3],
            ITEM: [3, 2, 1, 0],
            LABEL: [1, 1, 0, 1],
            NOISY: [True, False, None, False],
        },
        schema={USER: pl.UInt32, ITEM: pl.UInt32, LABEL: pl.UInt8, NOISY: pl.Boolean},
    )
    prepared = kind.prepare(recorded)
    assert prepared.schema == recorded.schema
    assert prepared[USER].is_sorted()
    assert prepared.equals(recorded) != kind.reads_noisy
    # true labels must not affect a strategy that does not declare them
    if not kind.reads_noisy:
        blind = recorded.with_columns(pl.lit(None, pl.Boolean).alias(NOISY))
        assert kind.prepare(blind).equals(blind)
