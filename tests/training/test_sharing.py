"""Trainings that share equal stages give the metrics of trainings that share nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dartcli.denoising import Decision, Observed
from dartcli.experiments.configure import load_prepared, resolve
from dartcli.strategies.base import Base
from dartcli.training.loop import Outcome
from dartcli.training.results import SeedMetrics
from dartcli.training.sharing import KEPT, FinishedStage, SharedStages
from dartcli.training.trainer import SeedTraining

TREE = {
    "dataset": {"name": "synthetic", "options": {"interactions": 4000, "users": 150, "items": 120}},
    "training": {"epochs": 5, "batch_size": 256, "learning_rate": 0.01},
}
DART = {"name": "dart", "options": {"tau_m": 0.2}}
ARMS: list[tuple[dict[str, Any], int]] = [
    # settings, and how many stages are new
    ({"strategy": {"name": "base"}}, 1),
    ({"strategy": {"name": "dart"}}, 1),
    ({"strategy": {"name": "trusted"}, "trusted": 600}, 1),
    ({"strategy": {"name": "trusted"}, "trusted": 900}, 1),
    ({"strategy": {"name": "clean"}}, 1),
    ({"strategy": {"name": "f-correction"}}, 1),
    ({"strategy": DART, "teaching": {"mode": "serial", "order": 1}}, 1),
    # from the second stage on, granted rows count as unknown, which changes the records
    ({"strategy": DART, "teaching": {"mode": "serial", "order": 1}, "trusted": 600}, 1),
    ({"strategy": DART, "teaching": {"mode": "serial", "order": 3}}, 2),
    ({"strategy": DART, "teaching": {"mode": "parallel", "order": 1}}, 2),
    ({"strategy": DART, "teaching": {"mode": "parallel", "order": 3}}, 3),
    # the epoch is selected in another way
    ({"strategy": {"name": "base"}, "trusted_valid": 50}, 1),
    ({"strategy": {"name": "base"}, "training": {**TREE["training"], "learning_rate": 0.02}}, 1),
    ({"strategy": {"name": "base"}, "seeds": [1]}, 1),
]


class Counting(SeedTraining):
    """Counts the stages that are trained."""

    built = 0

    def _build_loop(self, *parts: Any) -> Any:
        self.built += 1
        return super()._build_loop(*parts)


def train(tree: dict[str, Any], shared: SharedStages | None) -> tuple[SeedMetrics, int]:
    configuration = resolve({**TREE, **tree})
    (seed,) = configuration.settings.seeds
    prepared = load_prepared(configuration, seed)
    training = Counting(configuration, prepared, seed, torch.device("cpu"), shared=shared)
    return training.finish().metrics, training.built


def test_metrics_are_those_of_trainings_that_share_nothing(home: Path) -> None:
    shared = SharedStages()
    for tree, new in ARMS:
        found, built = train(tree, shared)
        assert found == train(tree, None)[0], tree
        assert built == new, tree
    assert home.is_dir()


def test_a_strategy_that_decides_otherwise_is_trained_itself(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Half(Base):
        def decide(self, observed: Observed) -> Decision:
            return Decision((observed.loss < 0.7).float(), observed.label)

    class FewNegatives(Base):
        is_fixed = True

        def decide(self, observed: Observed) -> Decision:
            return Decision(0.25 + 0.75 * observed.label, observed.label)

    shared = SharedStages()
    plain, _ = train({"strategy": {"name": "base"}}, shared)
    for kind in (Half, FewNegatives):
        monkeypatch.setattr("dartcli.strategies.base.STRATEGY", kind)
        found, built = train({"strategy": {"name": "base"}}, shared)
        assert built == 1
        assert found.test_auc != plain.test_auc
    assert home.is_dir()


def test_the_stages_that_were_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SharedStages()
    configuration = resolve(TREE)
    shared.enter(configuration, "data")
    nothing = torch.empty(0)
    outcome = Outcome(1, 1, "epochs", {"weight": torch.zeros(3)}, nothing, nothing)
    for number in range(KEPT):
        shared.keep(str(number), FinishedStage([], outcome, {}))
    assert shared.find("0") is not None
    shared.keep("another", FinishedStage([], outcome, {}))
    assert [shared.find("0") is None, shared.find("1") is None] == [False, True]
    monkeypatch.setattr("dartcli.training.sharing.MOST_BYTES", 24)
    shared.keep("large", FinishedStage([], outcome, {"weight": torch.zeros(2)}))
    assert [shared.find("0") is None, shared.find("large") is None] == [True, False]
    shared.enter(configuration, "other data")
    assert shared.find("large") is None
