"""A training that stopped and went on equals one that never did, to the byte."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from random_tables import ITEMS, ROWS, USERS, table
from torch import Tensor, nn

from dartcli import catalog
from dartcli.data.tensors import TrainingSet
from dartcli.denoising import CleanSample, Context, Strategy, TrainingTable
from dartcli.errors import RunError, StoppedError, UsageError
from dartcli.settings import Training
from dartcli.training import checkpoint
from dartcli.training.checkpoint import (
    DOCUMENT,
    FILES,
    CheckpointWriter,
    Interval,
    load_latest,
    parse_interval,
)
from dartcli.training.epochs import EpochRecord, Position
from dartcli.training.loop import TrainingLoop

CPU = torch.device("cpu")
PLAN = Training(
    batch_size=64, epochs=4, patience=4, snapshots=(3, 9), learning_rate=0.01, weight_decay=1e-6
)


OPTIONS: dict[str, dict[str, Any]] = {
    "influence": {"burn_in": 1, "every": 1},
    "dart auto": {"r": "auto", "tau_m": "auto", "t_m": 1, "rank_by": "relative-loss"},
}


class Ends:
    """What a training came to."""

    def __init__(
        self,
        strategy: str,
        model: str,
        plan: Training = PLAN,
        writer: CheckpointWriter | None = None,
        position: Position | None = None,
    ) -> None:
        kind: type[Strategy] = catalog.load("strategies", strategy.split(maxsplit=1)[0])
        train, valid = table(1), table(2)
        statistics = TrainingTable(
            train.fields[:, 0], train.fields[:, 1], train.label, USERS, ITEMS, ROWS
        )
        rule = kind(
            kind.Options(**OPTIONS.get(strategy, {})),
            Context(7, statistics, CleanSample(valid.fields[:50], valid.label[:50])),
        )
        made = catalog.load("models", model)
        self.models: list[nn.Module] = []
        for network in range(kind.networks):
            torch.manual_seed(network)
            extra = {"dropout": 0.3} if model == "deepfm" else {}
            self.models.append(made((USERS, ITEMS), made.Options(factors=4, **extra)))
        training = TrainingSet(train, USERS, ITEMS, known=None, reshuffle=True)
        loop = TrainingLoop(
            self.models,
            rule,
            training,
            valid,
            valid.label,
            plan,
            5,
            writer=writer,
            position=position,
        )
        self.epochs: list[EpochRecord] = [] if position is None else list(position.finished)
        self.epochs.extend(loop)
        self.outcome = loop.outcome
        networks = [*self.models, rule]
        self.state = {
            f"{number}.{name}": value
            for number, network in enumerate(networks)
            for name, value in network.state_dict().items()
        }


def assert_same(one: Ends, other: Ends) -> None:
    assert one.state.keys() == other.state.keys()
    assert all(torch.equal(value, other.state[name]) for name, value in one.state.items())
    assert same_tensors(one.outcome.best, other.outcome.best)
    assert torch.equal(one.outcome.best_valid, other.outcome.best_valid)
    assert torch.equal(one.outcome.last_valid, other.outcome.last_valid)
    first, second = one.outcome, other.outcome
    assert (first.best_epoch, first.epochs, first.stopped) == (
        second.best_epoch,
        second.epochs,
        second.stopped,
    )
    for left, right in zip(one.epochs, other.epochs, strict=True):
        for name in ("epoch", "iteration", "train_loss", "valid_auc", "flagged", "improved"):
            assert getattr(left, name) == getattr(right, name), name
        assert left.iterations.equals(right.iterations, null_equal=True)
        assert same_tensors(left.snapshots, right.snapshots)


def same_tensors(one: dict[Any, Tensor], other: dict[Any, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def stops_after(steps: int) -> Callable[[], int]:
    left = iter(range(steps))
    return lambda: 0 if next(left, None) is not None else 2


def stopped_and_resumed(folder: Path, steps: int, *what: Any) -> Ends:
    writer = CheckpointWriter(folder, "id", Interval(), stops_after(steps))
    with pytest.raises(StoppedError) as stop:
        Ends(*what, writer=writer)
    assert stop.value.exit_code == 130
    position = load_latest(folder, "id", CPU)
    assert position is not None
    return Ends(*what, position=position)


@pytest.mark.parametrize(
    ("strategy", "model"),
    [
        ("base", "fm"),
        ("dart", "fm"),
        ("mentornet", "fm"),
        ("co-teaching", "fm"),
        ("influence", "fm"),
        ("s-model", "fm"),
        ("crossdenoise", "fm"),
        ("dart auto", "fm"),
        ("dart", "deepfm"),
    ],
)
def test_resumed_training_equals_uninterrupted_training(
    tmp_path: Path, strategy: str, model: str
) -> None:
    whole = Ends(strategy, model)
    # the first step, within an epoch, its last step, the end of an epoch, the second epoch, later
    for steps in (0, 3, 6, 7, 8, 12, 20):
        resumed = stopped_and_resumed(tmp_path / str(steps), steps, strategy, model)
        assert_same(whole, resumed)


def test_sparse_adam_resumes_identically(tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"optimizer": "sparse-adam"})
    resumed = stopped_and_resumed(tmp_path, 9, "dart", "fm", plan)
    assert_same(Ends("dart", "fm", plan), resumed)


def test_writing_checkpoints_changes_nothing(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, "id", Interval(seconds=1e-9))
    assert_same(Ends("dart", "fm"), Ends("dart", "fm", writer=writer))
    # 7 steps an epoch; the last epoch's end is the training's end
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000000027", "000000000028"]


def test_checkpoints_by_epochs(tmp_path: Path) -> None:
    Ends("dart", "fm", writer=CheckpointWriter(tmp_path, "id", Interval(epochs=2)))
    assert [path.name for path in tmp_path.iterdir()] == ["000000000014"]


@pytest.mark.parametrize("name", [*FILES, DOCUMENT])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_corrupt_checkpoint_is_not_used(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    Ends("dart", "fm", writer=CheckpointWriter(tmp_path, "id", Interval(seconds=1e-9)))
    newest = max(tmp_path.iterdir())
    path = newest / name
    content = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    position = load_latest(tmp_path, "id", CPU)
    assert position is not None
    assert position.iteration == 27
    assert len(caplog.messages) == 1
    assert str(newest) in caplog.messages[0]
    assert_same(Ends("dart", "fm"), Ends("dart", "fm", position=position))


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    Ends("base", "fm", writer=CheckpointWriter(tmp_path, "one", Interval(epochs=1)))
    with pytest.raises(RunError, match=str(tmp_path)):
        load_latest(tmp_path, "other", CPU)


def test_a_missing_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "none", "id", CPU) is None


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("5ep", Interval(epochs=5)),
        ("90s", Interval(seconds=90)),
        ("0.5s", Interval(seconds=0.5)),
        ("10m", Interval(seconds=600)),
        ("1h", Interval(seconds=3600)),
        ("off", Interval()),
    ],
)
def test_how_often(text: str, every: Interval) -> None:
    assert parse_interval(text) == every


@pytest.mark.parametrize("text", ["", "5", "0s", "0ep", "1.5ep", "-1s", "nan", "9" * 40 + "s"])
def test_how_often_is_checked(text: str) -> None:
    with pytest.raises(UsageError, match="--checkpoint-every"):
        parse_interval(text)


def test_history_survives_numbers_that_json_lacks(tmp_path: Path) -> None:
    record = EpochRecord(
        epoch=1,
        iteration=7,
        train_loss=0.1 + 0.2,
        valid_auc=1 / 3,
        valid_log_loss=float("inf"),
        flagged=0,
        improved=True,
        seconds=1.5,
        iterations=pl.DataFrame({"epoch": [1] * 7}, schema={"epoch": pl.Int32}),
        snapshots={},
        engine="eager",
        remark=None,
    )
    checkpoint.write_checkpoint(
        tmp_path / "000000000007", Position(2, 0, {"best_valid": torch.empty(0)}, (record,)), "id"
    )
    found = load_latest(tmp_path, "id", CPU)
    assert found is not None
    assert found.finished[0].train_loss == 0.1 + 0.2
    assert found.finished[0].valid_auc == 1 / 3
    assert found.finished[0].valid_log_loss == float("inf")
