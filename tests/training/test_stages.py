"""Several trainings in a row: what is handed on, what stays hidden, and resuming."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

import dartcli
from dartcli.data.columns import LABEL, NOISY
from dartcli.data.manifest import Prepared, SplitName
from dartcli.data.tensors import FALSE_POSITIVE, to_interactions
from dartcli.denoising import Evidence
from dartcli.errors import StoppedError, UsageError
from dartcli.experiments.configure import load_prepared, resolve
from dartcli.signals._detector import Detection
from dartcli.training.checkpoint import CheckpointWriter, Interval, load_latest
from dartcli.training.components import build_model
from dartcli.training.configuration import Configuration
from dartcli.training.grants import draw_trusted
from dartcli.training.stages import Identification, identify, report_detection
from dartcli.training.trainer import SeedTraining, Trained

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "dataset": {
        "name": "synthetic",
        "options": {"users": 200, "items": 120, "interactions": 5000, "quality": 3.0},
    },
    "strategy": {"name": "trusted"},
    "training": {"epochs": 4, "batch_size": 512, "learning_rate": 0.01},
    "device": "cpu",
}


def settings(**changes: Any) -> Configuration:
    return resolve(SETTINGS, changes)


def train(configuration: Configuration, prepared: Prepared | None = None, **how: Any) -> Trained:
    prepared = prepared or load_prepared(configuration, 0)
    return SeedTraining(configuration, prepared, 0, CPU, **how).finish()


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def assert_same(one: Trained, other: Trained) -> None:
    left, right = one.record(), other.record()
    assert left.metrics == right.metrics
    assert left.history.equals(right.history)
    assert left.iterations.equals(right.iterations)
    assert left.scores.equals(right.scores)
    assert same(left.weights, right.weights)
    assert same(left.identified, right.identified)
    assert left.snapshots.keys() == right.snapshots.keys()


@pytest.mark.usefixtures("home")
def test_the_second_stage_trains_anew_on_soft_labels() -> None:
    configuration = settings(trusted=800)
    prepared = load_prepared(configuration, 0)
    training = SeedTraining(configuration, prepared, 0, CPU)
    records = list(training)
    assert [(one.stage, one.epoch) for one in records] == [
        (stage, epoch) for stage in (1, 2) for epoch in (1, 2, 3, 4)
    ]
    assert {one.stages for one in records} == {2}
    trained = training.outcome
    base = train(settings(strategy={"name": "base"}, trusted=800))
    # stage 1 is plain training, and its reported weights are kept
    for one, expected in zip(records, base.epochs, strict=False):
        assert one.train_loss == expected.train_loss
    assert same(trained.identified, base.record().weights)
    # the labels of stage 2 are what the detector makes of them
    components = trained.components
    model = build_model(configuration, prepared, 0, CPU)
    model.load_state_dict(trained.identified)
    found = identify(model, components)
    assert found.probability is not None
    target = torch.zeros(len(components.training))
    target[found.evidence.row] = 1 - found.probability
    assert torch.equal(components.strategy.state_dict()["wanted"], target)
    kind = components.recorded_train.kind[components.trusted]
    assert torch.equal(target[components.trusted], (kind != FALSE_POSITIVE).float())
    # only the last stage is the run's
    assert len(trained.epochs) == trained.metrics.epochs == 4
    assert trained.record().history["epoch"].to_list() == [1, 2, 3, 4]
    assert trained.metrics.test_auc != base.metrics.test_auc
    assert trained.metrics.detector_log_loss is not None
    # how well it detects is measured on the labels that were not granted
    hidden = ~torch.isin(found.evidence.row, components.trusted)
    noisy = components.recorded_train.kind[found.evidence.row[hidden]] == FALSE_POSITIVE
    doubt = found.probability[hidden]
    assert trained.metrics.detector_auc == pytest.approx(roc_auc_score(noisy, doubt), abs=1e-12)
    top = doubt.argsort(descending=True)[: round(0.04 * len(doubt))]
    assert trained.metrics.detector_precision == pytest.approx(
        float(noisy[top].float().mean()), abs=0.01
    )


@pytest.mark.usefixtures("home")
def test_without_trusted_labels_it_equals_base_to_the_byte(
    caplog: pytest.LogCaptureFixture,
) -> None:
    base = dartcli.train(SETTINGS, strategy="base").folder / "seed_0"
    with caplog.at_level(logging.WARNING):
        trusted = dartcli.train(SETTINGS).folder / "seed_0"
    assert "no trusted labels are granted" in caplog.text
    names = {path.name for path in base.iterdir()}
    assert names == {path.name for path in trusted.iterdir()}
    for name in names - {"metrics.json"}:
        assert (base / name).read_bytes() == (trusted / name).read_bytes(), name
    one, other = (json.loads((folder / "metrics.json").read_text()) for folder in (base, trusted))
    # the identity is a hash of the settings, which name the strategy
    differing = {key for key in one if one[key] != other[key]}
    assert differing == {"identity", "checksum"}


@pytest.mark.usefixtures("home")
def test_labels_that_tell_nothing_lead_to_plain_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    configuration = settings(trusted=60)
    chance = np.random.default_rng(0)

    @dataclass(frozen=True)
    class Shuffled(Prepared):
        def split(self, name: SplitName) -> pl.DataFrame:
            frame = super().split(name)
            if name != "train":
                return frame
            return frame.with_columns(pl.Series(NOISY, chance.random(len(frame)) < 0.5))

    prepared = Shuffled(**vars(load_prepared(configuration, 0)))
    with caplog.at_level(logging.WARNING):
        trained = train(configuration, prepared)
    assert "do not tell false positives from others" in caplog.text
    base = train(settings(strategy={"name": "base"}))
    assert same(trained.record().weights, base.record().weights)
    assert trained.identified == {}
    assert trained.metrics.detector_log_loss is not None


def test_labels_of_active_users_are_said_to_be_unlike_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    detection = Detection(
        probability=torch.zeros(9), trusted=500, prior=0.4, log_loss=0.60, prior_log_loss=0.64,
        error=0.01, auc=0.65, auc_error=0.03, clipped=0.046, strength=0.01,
    )  # fmt: skip
    for clipped, warned in ((0.046, True), (0.02, False)):
        caplog.clear()
        found = Identification(
            cast("Evidence", None), torch.arange(500), replace(detection, clipped=clipped)
        )
        report_detection(found)
        said = (
            "4.6% of the features of the other interactions are outside their range, and about "
            "2.4% are expected by chance"
        )
        assert (said in caplog.text) == warned


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("strategy", ["trusted", "base"])
def test_labels_that_are_not_granted_change_nothing(strategy: str) -> None:
    configuration = settings(trusted=500, trusted_valid=100, strategy={"name": strategy})

    @dataclass(frozen=True)
    class Permuted(Prepared):
        """Exchanges the truth of the rows that are not granted."""

        def split(self, name: SplitName) -> pl.DataFrame:
            frame = super().split(name)
            table = to_interactions(frame, self.fields, CPU)
            hidden = (frame[LABEL] > 0).to_numpy().copy()
            if name in ("train", "valid"):
                granted = {"train": ("trusted", 500), "valid": ("trusted_valid", 100)}[name]
                hidden[draw_trusted(table, granted[1], 0, granted[0]).numpy()] = False
            noisy = frame[NOISY].to_numpy().copy()
            noisy[hidden] = np.random.default_rng(1).permutation(noisy[hidden])
            return frame.with_columns(pl.Series(NOISY, noisy, pl.Boolean))

    prepared = load_prepared(configuration, 0)
    one, other = train(configuration, prepared), train(configuration, Permuted(**vars(prepared)))
    assert one.metrics.test_auc != other.metrics.test_auc  # the truth is another
    assert (one.identified != {}) == (strategy == "trusted")
    left, right = one.record(), other.record()
    assert same(left.weights, right.weights)
    assert same(left.identified, right.identified)
    assert left.scores["logit"].equals(right.scores["logit"])
    for name in ("best_epoch", "epochs", "valid_auc", "detector_log_loss"):
        assert getattr(left.metrics, name) == getattr(right.metrics, name), name
    for name in ("train_loss", "valid_auc"):
        assert left.history[name].equals(right.history[name])


@pytest.mark.usefixtures("home")
def test_granted_validation_labels_select_the_epoch() -> None:
    plain, selected = (
        train(settings(strategy={"name": "base"}, trusted_valid=n)) for n in (0, 200)
    )
    for one, other in zip(plain.epochs, selected.epochs, strict=True):
        assert one.train_loss == other.train_loss
        assert one.valid_auc != other.valid_auc
    best = max(range(4), key=lambda epoch: selected.epochs[epoch].valid_auc)
    assert selected.metrics.best_epoch == best + 1


# 16 steps an epoch, 4 epochs a stage: within and between epochs of both stages, and at their ends
@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("steps", [1, 11, 64, 67, 75, 76, 100])
def test_resumed_training_equals_uninterrupted_training(tmp_path: Path, steps: int) -> None:
    configuration = settings(trusted=800, training={"snapshots": (5, 20)})
    prepared = load_prepared(configuration, 0)
    left = iter(range(steps))
    writer = CheckpointWriter(
        tmp_path, "id", Interval(), lambda: 0 if next(left, None) is not None else 15
    )
    with pytest.raises(StoppedError):
        train(configuration, prepared, writer=writer)
    position = load_latest(tmp_path, "id", CPU)
    assert position is not None
    resumed = train(configuration, prepared, position=position)
    assert_same(train(configuration, prepared), resumed)
    assert len(resumed.epochs) == 4


@pytest.mark.usefixtures("home")
def test_checkpoints_of_later_stages_are_newer(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, "id", Interval(seconds=1e-9))
    trained = train(settings(trusted=800), writer=writer)
    position = load_latest(tmp_path, "id", CPU)
    assert position is not None
    assert position.stage == 2
    assert position.iteration == 2 * trained.metrics.iterations
    assert [(one.stage, one.epoch) for one in position.finished] == [
        (stage, epoch) for stage in (1, 2) for epoch in (1, 2, 3, 4)
    ][: len(position.finished)]


def test_a_strategy_of_several_stages_is_no_loss() -> None:
    with pytest.raises(UsageError, match="needs 2 trainings in a row"):
        dartcli.strategy("trusted")
