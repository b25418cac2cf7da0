"""Trainings that share equal stages give the metrics of trainings that share nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dartcli.denoising import Decision, Observed
from dartcli.experiments.configure import load_prepared, resolve
from dartcli.strategies.base import Base
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
        Counting.built += 1
        return super()._build_loop(*parts)


def train(tree: dict[str, Any], shared: SharedStages | None) -> tuple[SeedMetrics, int]:
    configuration = resolve({**TREE, **tree})
    (seed,) = configuration.settings.seeds
    prepared = load_prepared(configuration, seed)
    before = Counting.built
    training = Counting(configuration, prepared, seed, torch.device("cpu"), shared=shared)
    return training.finish().metrics, Counting.built - before


def test_metrics_are_those_of_trainings_that_share_nothing(home: Path) -> None:
    shared = SharedStages()
    for tree, new in ARMS:
        found, built = train(tree, shared)
        assert found == train(tree, None)[0], tree
        assert built == new, tree
    assert home.is_dir()


def test_a_subclass_of_a_fixed_strategy_is_trained_itself(home: Path) -> None:
    class Half(Base):
        def decide(self, observed: Observed) -> Decision:
            return Decision((observed.loss < 0.7).float(), observed.label)

    shared = SharedStages()
    plain, _ = train({"strategy": {"name": "base"}}, shared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dartcli.strategies.base.STRATEGY", Half)
        found, built = train({"strategy": {"name": "base"}}, shared)
    assert built == 1
    assert found.test_auc != plain.test_auc
    assert home.is_dir()


def test_the_stages_that_were_used_last_are_kept() -> None:
    shared = SharedStages()
    configuration = resolve(TREE)
    shared.enter(configuration, "data")
    outcome: Any = None
    for number in range(KEPT):
        shared.keep((0, str(number)), FinishedStage([], outcome, {}))
    assert shared.find((0, "0")) is not None
    shared.keep((1, "0"), FinishedStage([], outcome, {}))
    assert [shared.find((0, "0")) is None, shared.find((0, "1")) is None] == [False, True]
    assert shared.find(None) is None
    shared.enter(configuration, "other data")
    assert shared.find((0, "0")) is None
