"""What every strategy owes, found through the catalog: a new file is tested at once."""

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
from dartcli.settings import validate

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
    table = training_table()
    clean = CleanSample(torch.stack([table.user, table.item], 1)[:50], table.label[:50])
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        strategy: Strategy = kind(kind.Options(), Context(10, table, clean))
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
        validate(kind.Options, {"no_such_option": 1}, "strategy")
    assert kind.__doc__
    assert kind.Options.__doc__
    for option, field in kind.Options.model_fields.items():
        assert field.description, option


@pytest.mark.parametrize("name", NAMES)
def test_the_name_begins_with_the_file_name(name: str) -> None:
    kind = catalog.load("strategies", name)
    file = kind.__module__.rpartition(".")[2].replace("_", "-")
    assert name == file or name.startswith(f"{file}-")


def recommender(name: str) -> nn.Module:
    kind = catalog.load("models", name)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        # equal losses would leave lcd nothing to learn: let weights start from chance
        varied = {"first_order_std": 1.0}.items() & dict.fromkeys(
            kind.Options.model_fields, 1.0
        ).items()
        model: nn.Module = kind((USERS, ITEMS), kind.Options(**dict(varied)))
    return model


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model_name", catalog.names("models"))
def test_a_whole_step_with_a_model_waits_for_nothing(name: str, model_name: str) -> None:
    strategy, model, shown = made(name), recommender(model_name), batch(4)
    assert shown.user is not None
    assert shown.item is not None
    fields = torch.stack([shown.user, shown.item], dim=1)
    optimizer = torch.optim.Adam([*model.parameters(), *strategy.parameters()], fused=True)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with NoSync():
        for _ in range(2):
            logit = strategy.link(model(fields))
            seen = observe(
                logit,
                shown.label,
                row=shown.row,
                iteration=shown.iteration,
                epoch=shown.epoch,
                user=shown.user,
                item=shown.item,
            )
            with torch.no_grad():
                decision = strategy.decide(seen)
            loss = denoised_loss(logit, decision)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    assert bool(loss.isfinite())
    assert all(
        not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)
    )


def test_the_step_test_would_see_a_strategy_that_waits() -> None:
    class Waits(Strategy):
        def decide(self, observed: Observed) -> Decision:
            label = observed.label.clone()
            label[observed.loss > 1] = 0
            return Decision(torch.ones_like(label), label)

    strategy = Waits(Waits.Options(), Context())
    check(strategy.decide(batch(0)), SIZE)
    with NoSync(), pytest.raises(AssertionError, match="waits for the device"):
        strategy.decide(batch(0))


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_takes_the_decision_for_a_constant(name: str) -> None:
    strategy = made(name)
    shown = batch(5)
    logit = torch.logit(shown.probability.double()).float().requires_grad_()
    linked = strategy.link(logit)
    linked.retain_grad()
    seen = observe(
        linked,
        shown.label,
        row=shown.row,
        iteration=shown.iteration,
        epoch=shown.epoch,
        user=shown.user,
        item=shown.item,
    )
    decision = strategy.decide(seen)
    assert not decision.weight.requires_grad
    assert not decision.label.requires_grad
    denoised_loss(linked, decision).backward()
    kept = sum(weight > 0 for weight in decision.weight.tolist())
    slope = decision.weight * (linked.detach().sigmoid() - decision.label) / kept
    torch.testing.assert_close(linked.grad, slope)
    for parameter_name, parameter in strategy.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(parameter.grad.any()), parameter_name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_a_batch_full_of_ties_changes_no_decision(name: str, seed: int) -> None:
    shown = batch(seed)
    tied = (torch.arange(SIZE) % 3).float() / 4
    shown = Observed(**{**vars(shown), "loss": tied, "probability": torch.exp(-tied)})
    order = torch.randperm(SIZE, generator=torch.Generator().manual_seed(seed + 50))
    first, second = made(name).decide(shown), made(name).decide(taken(shown, order))
    assert torch.equal(first.weight[order], second.weight)
    assert torch.equal(first.label[order], second.label)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_observed_is_left_as_it_was(name: str) -> None:
    shown = batch(6)
    before = copy.deepcopy(shown)
    made(name).decide(shown)
    for field, value in vars(before).items():
        assert torch.equal(getattr(shown, field), value), field


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("logit", [-1e30, -200.0, -20.0, 0.0, 20.0, 200.0, 1e30])
@pytest.mark.parametrize("size", [1, 6])
def test_confident_predictions_leave_decision_and_loss_finite(
    name: str, logit: float, size: int
) -> None:
    strategy = made(name)
    for label in (0.0, 1.0):
        shown = batch(7, size)
        logits = torch.full((size,), logit, requires_grad=True)
        linked = strategy.link(logits)
        seen = observe(
            linked,
            torch.full((size,), label),
            row=shown.row,
            iteration=shown.iteration,
            epoch=shown.epoch,
            user=shown.user,
            item=shown.item,
        )
        decision = strategy.decide(seen)
        check(decision, size)
        loss = denoised_loss(linked, decision)
        loss.backward()
        assert bool(loss.isfinite())
        assert logits.grad is not None
        assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_the_first_iteration_is_decided_as_any_other(name: str) -> None:
    first = batch(8, iteration=1)
    check(made(name).decide(Observed(**{**vars(first), "epoch": torch.tensor(1)})), SIZE)


@pytest.mark.parametrize("name", NAMES)
def test_integers_of_32_bits_decide_the_same(name: str) -> None:
    wide = batch(9)
    narrow = Observed(
        **{
            field: value if value.is_floating_point() else value.int()
            for field, value in vars(wide).items()
        }
    )
    for found, expected in zip(made(name).decide(narrow), made(name).decide(wide), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_learnt_parameters_are_saved_with_the_link(name: str) -> None:
    first, second = made(name), made(name)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    second.load_state_dict(first.state_dict())
    logit = torch.linspace(-5, 5, 50)
    assert torch.equal(first.link(logit), second.link(logit))


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_of_a_strategy_moves_with_it(name: str) -> None:
    for module in made(name).modules():
        loose = [key for key, value in vars(module).items() if isinstance(value, torch.Tensor)]
        assert loose == [], "register it as a buffer or parameter"


@pytest.mark.parametrize("name", NAMES)
def test_in_another_loop_a_strategy_works_or_says_what_it_needs(name: str) -> None:
    kind = catalog.load("strategies", name)
    bare = Observed(**{**vars(batch(1)), "user": None, "item": None})
    try:
        strategy = kind(kind.Options(), Context())
        decision = strategy.decide(bare)
    except UsageError as error:
        assert name in str(error) or "counts epochs" in str(error)
    else:
        check(decision, SIZE)


@pytest.mark.parametrize("name", NAMES)
def test_options_come_back_from_json_and_the_defaults_pass_their_own_checks(name: str) -> None:
    kind = catalog.load("strategies", name)
    options = kind.Options()
    assert kind.Options.model_validate_json(options.model_dump_json()) == options
    assert validate(kind.Options, options.model_dump(), "strategy") == options


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_that_prepares_keeps_columns_types_and_order(name: str) -> None:
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
    # a clean label steers nothing but the strategies that declare it
    blind = recorded.with_columns(pl.lit(None, pl.Boolean).alias(NOISY))
    if not kind.reads_noisy:
        assert kind.prepare(blind).equals(blind)


def test_clean_strategies_drop_or_relabel_the_false_positives() -> None:
    recorded = pl.DataFrame({USER: [0, 1, 2], LABEL: [1, 1, 0], NOISY: [True, False, None]})
    clean = catalog.load("strategies", "clean").prepare(recorded)
    relabeled = catalog.load("strategies", "clean-relabel").prepare(recorded)
    assert clean.rows() == [(1, 1, False), (2, 0, None)]
    assert relabeled.rows() == [(0, 0, True), (1, 1, False), (2, 0, None)]


def test_adt_ce_r_divides_by_the_number_of_rows() -> None:
    logit, label = torch.tensor([20.0, 0.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    seen = observe(
        logit,
        label,
        row=torch.arange(4),
        iteration=torch.tensor(1),
        epoch=torch.tensor(1),
    )
    decision = made("adt-ce-r").decide(seen)
    assert int((decision.weight > 0).sum()) == 4
