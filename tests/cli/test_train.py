"""``dart train`` and ``dart resume``."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import polars as pl
import pytest
from running import DART, DATA, TRAIN, dart, succeed

from dartcli.cli import progress, summary
from dartcli.cli.errors import raise_interrupted
from dartcli.experiments.evaluate import evaluate_run
from dartcli.experiments.run import Metrics
from dartcli.experiments.run_index import find_run, list_runs
from dartcli.training.epochs import EpochRecord


def assert_same_files(one: Path, other: Path) -> None:
    """Everything but the environment, which holds times, is the same byte for byte."""
    names = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert names == {path.relative_to(other) for path in other.rglob("*") if path.is_file()}
    for name in names - {Path("environment.json")}:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_training_prints_a_table_on_stdout_and_messages_on_stderr(home: Path) -> None:
    succeed("preprocess", "synthetic", *DATA)
    # the dataset prepared last is the default
    result = succeed(TRAIN[0], *TRAIN[2:])
    assert "run_01: dart, fm on synthetic, protocol strict" in result.stdout
    assert "test AUC" in result.stdout
    assert str(home / "runs" / "run_01") in result.stderr
    # the default schedule is longer than two epochs
    assert "warning: dart flagged no interactions up to the reported epoch (2)" in result.stderr
    assert "next: dart analyze memorization run_01" in result.stderr
    flagging = succeed(*TRAIN, *DART)
    assert "flagged in the reported epoch 2: " in flagging.stderr
    assert "warning" not in flagging.stderr
    assert "next: dart analyze precision-recall run_02" in flagging.stderr


def test_run_folder_holds_exactly_the_documented_files(trained: Path) -> None:
    folder = trained / "runs" / "one"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    per_seed = {
        "metrics.json", "history.parquet", "iterations.parquet", "model.safetensors",
        "scores.parquet",
    }  # fmt: skip
    assert names == {"settings.json", "environment.json", "metrics.json"} | {
        f"seed_{seed}/{name}" for seed in (0, 1) for name in per_seed
    }


def test_settings_of_a_run_reproduce_it_and_json_agrees_with_its_folder(trained: Path) -> None:
    settings = trained / "runs" / "one" / "settings.json"
    result = succeed("train", "--config", str(settings), "--name", "again", "--json")
    assert_same_files(trained / "runs" / "one", trained / "runs" / "again")
    document = json.loads(result.stdout)
    jsonschema.validate(document, Metrics.model_json_schema(mode="serialization"))
    assert [seed["seed"] for seed in document["seeds"]] == [0, 1]
    aucs = [seed["test_auc"] for seed in document["seeds"]]
    assert document["summary"]["test_auc"]["mean"] == pytest.approx(sum(aucs) / 2)
    stored = json.loads((trained / "runs" / "again" / "metrics.json").read_text())
    assert {"run": "again"} | stored == document | {k: stored[k] for k in ("files", "checksum")}


@pytest.mark.usefixtures("trained")
def test_history_sums_up_iterations() -> None:
    run = find_run("one")
    history, iterations = run.history(0), run.iterations(0)
    grouped = iterations.group_by("epoch", maintain_order=True).agg(
        pl.col("flagged").sum(), pl.col("objective").mean(), pl.col("iteration").max()
    )
    assert history["flagged"].to_list() == grouped["flagged"].to_list()
    assert history["iteration"].to_list() == grouped["iteration"].to_list()
    assert history["train_loss"].to_list() == pytest.approx(grouped["objective"].to_list())
    assert iterations["flagged"].sum() > 0


@pytest.mark.parametrize("name", ["one", "../one", ""])
def test_taken_and_invalid_names_of_runs_are_refused(trained: Path, name: str) -> None:
    before = sorted(trained.rglob("*"))
    result = dart(*TRAIN, "--name", name)
    assert result.exit_code == 2
    assert repr(name) in result.stderr
    assert sorted(trained.rglob("*")) == before


def test_missing_gpu_is_reported_before_any_work(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = dart("train", "--device", "cuda")
    assert result.exit_code == 1
    assert "--device cpu" in result.stderr
    assert not home.exists()


@pytest.fixture
def send_signal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, int], None]]:
    """Return a function: send SIGTERM to this process after an epoch of a seed."""

    def after(seed: int, epoch: int) -> None:
        def update(now: int, record: EpochRecord) -> None:
            if (now, record.epoch) == (seed, epoch):
                os.kill(os.getpid(), signal.SIGTERM)

        @contextmanager
        def bar(_settings: object) -> Iterator[object]:
            yield update

        monkeypatch.setattr(progress, "epoch_bar", bar)

    before = signal.signal(signal.SIGTERM, raise_interrupted)
    yield after
    signal.signal(signal.SIGTERM, before)


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send signals")
@pytest.mark.parametrize("command", [["resume"], ["train", "--resume"]])
def test_interrupted_training_resumes_to_identical_files(
    trained: Path,
    send_signal: Callable[[int, int], None],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:
    send_signal(1, 1)
    result = dart(*TRAIN, "--name", "stopped", *DART)
    assert result.exit_code == 128 + signal.SIGTERM
    assert "dart resume stopped" in result.stderr.splitlines()[-1]
    assert result.stdout == ""
    run = find_run("stopped")
    assert run.metrics.interrupted
    assert run.seeds == (0,)
    assert evaluate_run("stopped")["seeds"][0]["seed"] == 0
    assert len(list((run.folder / "checkpoints" / "seed_1").iterdir())) == 1
    assert {entry.name: entry.state for entry in list_runs()}["stopped"] == "interrupted"
    monkeypatch.undo()
    monkeypatch.setenv("DART_HOME", str(trained))
    resumed = succeed(*command, "stopped", "--json")
    assert [seed["seed"] for seed in json.loads(resumed.stdout)["seeds"]] == [0, 1]
    assert_same_files(trained / "runs" / "one", run.folder)


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("words", [["--epochs", "3"], ["--seed", "1"], ["synthetic"]])
def test_resuming_accepts_no_settings(words: list[str]) -> None:
    result = dart("train", "--resume", "left", *words)
    assert result.exit_code == 2
    assert "dart resume left" in result.stderr


@pytest.mark.usefixtures("trained")
def test_finished_runs_are_not_resumed() -> None:
    result = dart("resume", "one")
    assert result.exit_code == 2
    assert "one" in result.stderr


def test_every_command_works_if_the_home_looks_like_a_pattern(
    trained_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    odd = tmp_path / "a[b]*{c} ?"
    shutil.copytree(trained_home, odd)
    monkeypatch.setenv("DART_HOME", str(odd))
    for words in (TRAIN, ["resume", "left"], ["eval", "one"], ["doctor"]):
        succeed(*words)


@pytest.mark.parametrize(
    ("best", "epochs", "patience", "stopped", "is_near_the_end"),
    [
        (2, 2, 20, "epochs", True),
        (1, 2, 20, "epochs", False),
        (3, 12, 20, "epochs", False),
        (10, 12, 20, "epochs", True),
        (99, 100, 2, "epochs", True),
        (98, 100, 2, "epochs", False),
        (100, 120, 20, "patience", False),
    ],
)
def test_more_epochs_are_suggested_only_if_the_best_is_near_the_end(
    capsys: pytest.CaptureFixture[str],
    best: int,
    epochs: int,
    patience: int,
    stopped: str,
    is_near_the_end: bool,
) -> None:
    seed = SimpleNamespace(seed=0, best_epoch=best, epochs=epochs, stopped=stopped)
    training = SimpleNamespace(patience=patience, epochs=epochs)
    run: Any = SimpleNamespace(
        metrics=SimpleNamespace(seeds=[seed]), settings=SimpleNamespace(training=training)
    )
    summary._report_exhausted_epochs(run)
    said = capsys.readouterr().err
    assert ("`--epochs`" in said) == is_near_the_end
    assert (f"seed 0: epoch {best} of {epochs}" in said) == is_near_the_end


def test_without_ground_truth_the_auc_without_false_positives_is_a_dash(
    home: Path, tmp_path: Path
) -> None:
    rows = [(i % 40, (i * 7) % 31, i % 3) for i in range(600)]
    log = pl.DataFrame(rows, schema=["user", "item", "dwell"], orient="row")
    log.write_csv(tmp_path / "log.csv")
    given = ["--input", str(tmp_path / "log.csv"), "--user", "user", "--item", "item"]
    for name, more in (("unknown", []), ("known", ["--noisy-if", "dwell < 1"])):
        succeed("preprocess", *given, "--name", name, *more)
        document = json.loads(succeed("train", name, "--epochs", "1", "--json").stdout)
        (seed,) = document["seeds"]
        assert (seed["test_auc_without_fp"] is None) == (name == "unknown")
        assert seed["test_auc"] is not None
