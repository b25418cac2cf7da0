"""Differential teaching: what is flagged when, by which model, and that it can be resumed."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import dartcli
from dartcli.data.manifest import Prepared
from dartcli.data.seeds import derived_seed
from dartcli.data.tensors import FALSE_POSITIVE
from dartcli.denoising.teaching import count_votes
from dartcli.errors import StoppedError, UsageError
from dartcli.experiments.configure import load_prepared, resolve
from dartcli.experiments.sweep_plan import Plan, plan_trainings
from dartcli.training.checkpoint import CheckpointWriter, Interval, load_latest
from dartcli.training.components import build_model
from dartcli.training.configuration import Configuration
from dartcli.training.scoring import score_positives
from dartcli.training.trainer import SeedTraining, Trained

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "dataset": {
        "name": "synthetic",
        "options": {"users": 200, "items": 120, "interactions": 5000, "quality": 3.0},
    },
    "strategy": {"name": "dart", "options": {"tau_m": 0.1, "r": 0.25}},
    "training": {"epochs": 3, "batch_size": 512, "learning_rate": 0.01},
    "device": "cpu",
}


def settings(mode: str, order: int, **changes: Any) -> Configuration:
    return resolve(SETTINGS, {"teaching": {"mode": mode, "order": order}}, changes)


def train(configuration: Configuration, prepared: Prepared | None = None, **how: Any) -> Trained:
    prepared = prepared or load_prepared(configuration, 0)
    return SeedTraining(configuration, prepared, 0, CPU, **how).finish()


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def flag_plainly(loss: Mapping[int, float], tau: float, r: float) -> tuple[set[int], set[int]]:
    """Return the rows that DART discards and relabels among ``loss`` (row -> loss)."""
    ranked = sorted(loss, key=lambda row: (-loss[row], row))
    flagged = ranked[: math.floor(tau * len(loss))]
    relabeled = math.floor(r * len(flagged))
    return set(flagged[relabeled:]), set(flagged[:relabeled])


def losses(configuration: Configuration, trained: Trained, weights: Mapping[str, Tensor]) -> Any:
    model = build_model(configuration, load_prepared(configuration, 0), 0, CPU)
    model.load_state_dict(dict(weights))
    row, logit = score_positives(model, trained.components.recorded_train)
    return dict(zip(row.tolist(), F.softplus(-logit).tolist(), strict=True))


@pytest.mark.usefixtures("home")
def test_serial_teaching_flags_with_the_model_before_and_trains_anew() -> None:
    base = train(resolve(SETTINGS, {"strategy": {"name": "base"}}))
    configuration = settings("serial", 1)
    once = train(configuration)
    assert once.components.strategy.stages == 2
    # the first model is plain training, and all rows are ranked by its losses
    assert same(once.identified, base.record().weights)
    first = losses(configuration, once, once.identified)
    discarded, relabeled = flag_plainly(first, 0.1, 0.25)
    state = once.components.strategy.state_dict()["treatment"].tolist()
    assert {row for row, treatment in enumerate(state) if treatment == 1} == discarded
    assert {row for row, treatment in enumerate(state) if treatment == 2} == relabeled
    # it trains anew without them, from the same weights, and every epoch shows what was flagged
    flagged = discarded | relabeled
    assert {epoch.flagged for epoch in once.epochs} == {len(flagged)}
    assert once.epochs[0].train_loss != base.epochs[0].train_loss
    # the second order flags what is left with the model of the first
    twice = train(settings("serial", 2))
    assert same(twice.identified, once.record().weights)
    second = losses(configuration, twice, twice.identified)
    more = flag_plainly({r: second[r] for r in second if r not in flagged}, 0.1, 0.25)
    state = twice.components.strategy.state_dict()["treatment"].tolist()
    assert {row for row, treatment in enumerate(state) if treatment == 1} == discarded | more[0]
    assert {row for row, treatment in enumerate(state) if treatment == 2} == relabeled | more[1]
    # precision and recall by stage
    kind = twice.components.recorded_train.kind
    false = [row for row in first if kind[row] == FALSE_POSITIVE]
    for found, rows in zip(twice.metrics.stages, (flagged, more[0] | more[1]), strict=True):
        hits = len(rows.intersection(false))
        assert found.flagged_share == len(rows) / len(first)
        assert found.precision == hits / len(rows)
        assert found.recall == hits / len(false)
        assert (found.epochs, found.iterations) == (3, base.metrics.iterations)
    assert [found.stage for found in twice.metrics.stages] == [1, 2]


@pytest.mark.usefixtures("home")
def test_parallel_teaching_lets_other_seeds_vote() -> None:
    configuration = settings("parallel", 3)
    prepared = load_prepared(configuration, 0)
    training = SeedTraining(configuration, prepared, 0, CPU)
    records = list(training)
    trained = training.outcome
    assert [one.stage for one in records] == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    base = resolve(SETTINGS, {"strategy": {"name": "base"}})
    votes: dict[int, list[int]] = {}
    for voter in (1, 2, 3):
        plain = SeedTraining(base, prepared, derived_seed(0, 7, voter), CPU).finish()
        first = records[3 * (voter - 1)]
        assert first.train_loss == plain.epochs[0].train_loss
        weights = plain.record().weights
        discarded, relabeled = flag_plainly(losses(configuration, trained, weights), 0.1, 0.25)
        for row in discarded | relabeled:
            votes.setdefault(row, []).append(1 if row in discarded else 2)
        if voter == 3:
            assert same(trained.identified, weights)
    expected = {
        row: 2 if cast.count(2) > cast.count(1) else 1
        for row, cast in votes.items()
        if len(cast) >= 2
    }
    state = trained.components.strategy.state_dict()["treatment"].tolist()
    assert {row: treatment for row, treatment in enumerate(state) if treatment} == expected
    assert 0 < len(expected) < len(votes)
    assert trained.epochs[0].flagged == len(expected)
    # the student has the seed's own initial weights
    student = build_model(configuration, prepared, 0, CPU)
    fresh = build_model(base, prepared, 0, CPU)
    assert same(student.state_dict(), fresh.state_dict())


def test_votes_are_counted_as_a_plain_loop_counts_them() -> None:
    identified = torch.randint(0, 3, (4, 500), generator=torch.Generator().manual_seed(0))
    for vote, needed in (("majority", 3), ("all", 4)):
        expected = []
        for cast in identified.t().tolist():
            flagged = [one for one in cast if one]
            more = flagged.count(2) > flagged.count(1)
            expected.append((2 if more else 1) if len(flagged) >= needed else 0)
        assert count_votes(identified.to(torch.int8), vote).tolist() == expected


# 16 steps an epoch, 3 epochs a stage, 3 stages
@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("mode", ["serial", "parallel"])
@pytest.mark.parametrize("steps", [5, 51, 57, 102, 110, 140])
def test_resumed_teaching_equals_uninterrupted_teaching(
    tmp_path: Path, mode: str, steps: int
) -> None:
    configuration = settings(mode, 2)
    prepared = load_prepared(configuration, 0)
    left = iter(range(steps))
    writer = CheckpointWriter(
        tmp_path, "id", Interval(), lambda: 0 if next(left, None) is not None else 15
    )
    with pytest.raises(StoppedError):
        train(configuration, prepared, writer=writer)
    position = load_latest(tmp_path, "id", CPU)
    assert position is not None
    one = train(configuration, prepared).record()
    other = train(configuration, prepared, position=position).record()
    assert one.metrics == other.metrics
    assert one.history.equals(other.history)
    assert one.iterations.equals(other.iterations)
    assert one.scores.equals(other.scores)
    assert same(one.weights, other.weights)
    assert same(one.identified, other.identified)


@pytest.mark.usefixtures("home")
def test_a_strategy_that_flags_nothing_is_trained_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        trained = train(settings("serial", 3, strategy={"name": "adt-ce-r"}))
    assert "nothing was flagged with the model of training 1" in caplog.text
    base = train(resolve(SETTINGS, {"strategy": {"name": "base"}}))
    assert same(trained.record().weights, base.record().weights)
    assert trained.metrics.stages == ()


@pytest.mark.usefixtures("home")
def test_the_cost_is_stated_beforehand(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="dartcli"):
        run = dartcli.train(settings("serial", 2).settings)
    assert any(text.startswith("3 trainings in a row for each seed") for text in caplog.messages)
    assert len(run.metrics.seeds[0].stages) == 2


@pytest.mark.parametrize("name", ["trusted", "co-teaching", "influence", "s-model", "clean"])
def test_other_strategies_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"`{name}` cannot be combined with `--teaching`"):
        settings("serial", 1, strategy={"name": name})


@pytest.mark.usefixtures("home")
def test_parameters_that_are_estimated_by_epoch_are_refused() -> None:
    with pytest.raises(UsageError, match="without `auto`"):
        train(settings("serial", 1, strategy={"options": {"r": "auto"}}))


def test_an_order_without_teaching_is_refused() -> None:
    with pytest.raises(UsageError, match="order is 2, but there is no teaching"):
        resolve(SETTINGS, {"teaching": {"order": 2}})


def test_a_sweep_has_arms_with_teaching() -> None:
    arms = ("dart", "dart teaching.mode=serial teaching.order=2", "dart teaching.mode=parallel")
    planned = plan_trainings(Plan(["synthetic"], ["fm"], arms, [0]))
    assert [one.entry.arm for one in planned] == [
        "dart",
        "dart, serial teaching 2",
        "dart, parallel teaching 1",
    ]
    assert [one.configuration.stages for one in planned] == [1, 3, 2]
    assert len({one.entry.key for one in planned}) == 3
