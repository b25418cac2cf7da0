"""The commands as a user types them: output, exit codes, sentences."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from dartcli.cli import app
from dartcli.experiments.run import Metrics
from dartcli.experiments.run_index import find_run, list_finished, list_runs

TINY = [
    "--set", "dataset.users=80", "--set", "dataset.items=90", "--set", "dataset.interactions=1500",
    "--epochs", "3", "--batch-size", "256",
]  # fmt: skip


def dart(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def trained(home: Path) -> Path:
    result = dart("train", "synthetic", *TINY, "--tau-m", "0.2", "--t-m", "4", "--seeds", "0-1")
    assert result.exit_code == 0, result.stderr
    return home


def test_train_prints_a_table_on_stdout_and_talk_on_stderr(trained: Path) -> None:
    result = dart("train", "synthetic", *TINY)
    assert result.exit_code == 0
    assert "run_02: dart, fm on synthetic, protocol strict" in result.stdout
    assert "test AUC" in result.stdout
    assert "next: dart analyze precision-recall run_02" in result.stderr
    assert (trained / "runs" / "run_02" / "metrics.json").is_file()


def test_tables_fit_into_eighty_columns(trained: Path) -> None:
    for words in (
        ["train", "synthetic", *TINY, "--protocol", "reference", "--seeds", "0,1"],
        ["eval", "run_01"],
        ["analyze", "precision-recall", "run_01"],
        ["analyze", "memorization", "run_01"],
        ["preprocess", "synthetic"],
        ["download", "--list"],
    ):
        result = dart(*words)
        assert result.exit_code == 0, result.stderr
        assert max(len(line) for line in result.stdout.splitlines()) <= 80, words
        assert "…" not in result.stdout


def test_a_run_folder_holds_what_the_reference_says(trained: Path) -> None:
    folder = trained / "runs" / "run_01"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    of_seed = {
        "metrics.json", "history.parquet", "iterations.parquet", "model.safetensors",
        "scores.parquet",
    }  # fmt: skip
    assert names == {"settings.json", "environment.json", "metrics.json"} | {
        f"seed_{seed}/{name}" for seed in (0, 1) for name in of_seed
    }


def test_the_same_settings_give_the_same_bytes(trained: Path) -> None:
    settings = trained / "runs" / "run_01" / "settings.json"
    result = dart("train", "--config", str(settings), "--name", "again")
    assert result.exit_code == 0, result.stderr
    first, second = trained / "runs" / "run_01", trained / "runs" / "again"
    for path in sorted(first.rglob("*")):
        if path.is_file() and path.name != "environment.json":
            assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path


def test_train_json_follows_the_schema_and_agrees_with_the_run_folder(home: Path) -> None:
    result = dart("train", "synthetic", *TINY, "--seeds", "0,1", "--json")
    document = json.loads(result.stdout)
    jsonschema.validate(document, Metrics.model_json_schema(mode="serialization"))
    assert document["run"] == "run_01"
    assert [seed["seed"] for seed in document["seeds"]] == [0, 1]
    aucs = [seed["test_auc"] for seed in document["seeds"]]
    assert document["summary"]["test_auc"]["mean"] == pytest.approx(sum(aucs) / 2)
    on_disk = json.loads((home / "runs" / "run_01" / "metrics.json").read_text())
    assert {"run": "run_01"} | on_disk == document | {k: on_disk[k] for k in ("files", "checksum")}


@pytest.mark.parametrize("protocol", ["strict", "reference"])
def test_eval_repeats_the_measures_of_training(home: Path, protocol: str) -> None:
    dart("train", "synthetic", *TINY, "--protocol", protocol)
    trained = json.loads((home / "runs" / "run_01" / "metrics.json").read_text())["seeds"][0]
    again = json.loads(dart("eval", "--json").stdout)["seeds"][0]
    for key in ("test_auc", "test_auc_without_fp", "test_log_loss"):
        assert again[key] == pytest.approx(trained[key], abs=1e-12)


def test_eval_knows_the_other_splits(trained: Path) -> None:
    del trained
    document = json.loads(dart("eval", "run_01", "--split", "train", "--json").stdout)
    assert set(document["seeds"][0]) == {
        "seed", "train_auc", "train_auc_without_fp", "train_log_loss", "train_calibration_error",
        "train_auc_per_user",
    }  # fmt: skip


def test_download_and_preprocess_say_what_to_do_next(home: Path) -> None:
    result = dart("preprocess", "synthetic", "--set", "dataset.interactions=1500")
    assert "next: dart train synthetic" in result.stderr
    again = dart("preprocess", "synthetic", "--set", "dataset.interactions=1500")
    assert "nothing to do" in again.stderr
    assert home.is_dir()


def test_the_list_of_data_sets_says_what_is_here_and_whether_it_is_complete(
    home: Path,
) -> None:
    found = json.loads(dart("download", "--list", "--json").stdout)
    entries = {entry["name"]: entry for entry in found}
    assert {entry["here"] for entry in entries.values()} == {"no", "built in"}
    assert entries["movielens-100k"]["bytes"] == 1_979_173
    assert entries["synthetic"]["bytes"] is None
    dart("preprocess", "synthetic", *TINY[:6])
    shown = dart("download", "--list").stdout
    assert "built in" in shown
    assert home.is_dir()


def test_training_takes_the_data_set_prepared_last(home: Path) -> None:
    dart("preprocess", "synthetic", *TINY[:6])
    result = dart("train", *TINY)
    assert "on synthetic" in result.stdout
    assert home.is_dir()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["train", "sinthetic"], 2, r"no dataset named 'sinthetic'; did you mean synthetic\?"),
        (["train", "--strategy", "drat"], 2, r"no strategy named 'drat'; did you mean dart"),
        (["train", "--model", "fmm"], 2, r"no model named 'fmm'; did you mean"),
        (["train", "--r", "1.5"], 2, r"strategy\.r is 1\.5: input should be less than"),
        (["train", "--strategy", "base", "--r", "0.5"], 2, r"unknown setting strategy\.r;"),
        (["train", "--strategy", "dart-disc", "--r", "0.5"], 2, r"strategy\.r is 0\.5"),
        (["train", "--t-m", "soon"], 2, r"strategy\.t_m is 'soon': must be a number of iterations"),
        (["train", "--t-m", "0"], 2, r"strategy\.t_m is 0: the rate must rise"),
        (["train", "--basis", "all"], 2, r"strategy\.basis is 'all'"),
        (["train", "--protocol", "lenient"], 2, r"settings\.protocol is 'lenient'"),
        (["train", "--seeds", "5-1"], 2, r"--seeds '5-1'"),
        (["train", "--seeds", "x"], 2, r"--seeds takes a list such as 0-9"),
        (["train", "--seed", "1", "--seeds", "1-2"], 2, r"give --seed or --seeds"),
        (["train", "--set", "strategy"], 2, r"--set takes KEY=VALUE"),
        (["train", "--set", "training.speed=9"], 2, r"unknown setting settings\.training\.speed"),
        (["train", "--name", "../x"], 2, r"cannot name a run"),
        (["train", "--device", "tpu9"], 2, r"device 'tpu9'"),
        (["train", "--config", "missing.toml"], 2, r"cannot read the settings file missing\.toml"),
        (["eval", "run_99"], 2, r"there is no run 'run_99'"),
        (["eval"], 2, r"there is no finished run"),
        (["analyze", "precision"], 2, r"no analysis named 'precision'; did you mean"),
        (["analyze", "memorization", "run_99"], 2, r"there is no run 'run_99'"),
        (["download"], 2, r"name a dataset"),
        (["download", "synthetic", "movielens-100k", "--from", "x"], 2, r"--from fits one"),
        (["download", "movielens-100k", "--from", "/nowhere/u.data"], 1, r"/nowhere/u\.data"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_sentence_and_its_exit_code(
    home: Path, words: list[str], code: int, sentence: str
) -> None:
    import re

    result = dart(*words)
    assert result.exit_code == code, (result.stdout, result.stderr)
    assert result.stdout == ""
    said = [line for line in result.stderr.splitlines() if not line.startswith("•")]
    assert len(said) == 1
    assert re.search(sentence, said[0]), said[0]
    assert said[0].startswith("dart: ")
    assert not list_finished()
    assert not list((home / "runs").glob("*"))


def test_a_missing_gpu_is_said_before_any_work(home: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    result = dart("train", "--device", "cuda")
    assert result.exit_code == 1
    assert "use --device cpu" in result.stderr
    assert not home.exists()


def test_a_taken_run_name_is_refused(trained: Path) -> None:
    result = dart("train", "synthetic", *TINY, "--name", "run_01")
    assert result.exit_code == 2
    assert "there is a run 'run_01' already" in result.stderr
    assert (trained / "runs" / "run_01" / "metrics.json").is_file()


def test_precision_recall_of_base_says_what_to_train(home: Path) -> None:
    dart("train", "synthetic", *TINY, "--strategy", "base")
    result = dart("analyze", "precision-recall", "run_01")
    assert result.exit_code == 0, result.stderr
    words = " ".join(result.stdout.split())
    assert "dart train synthetic --strategy dart" in words
    assert "Precision at the top of the ranking" in words
    folder = home / "runs" / "run_01" / "analysis" / "precision-recall"
    assert {path.name for path in folder.glob("*.png")} == {"ranking.png"}


def test_an_unwritable_home_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("DART_HOME", str(blocked / "below"))
    result = dart("train", "synthetic", *TINY)
    assert result.exit_code == 1
    assert result.stderr.count("dart: ") == 1
    assert "DART_HOME" in result.stderr


def test_broken_weights_are_one_sentence(trained: Path) -> None:
    path = trained / "runs" / "run_01" / "seed_1" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    result = dart("eval", "run_01")
    assert result.exit_code == 1
    assert "model.safetensors is not what was written" in result.stderr


@pytest.fixture
def training(home: Path) -> Iterator["subprocess.Popen[str]"]:
    words = [sys.executable, "-m", "dartcli", "train", "synthetic", *TINY[:6], "--epochs", "100000"]
    with subprocess.Popen(
        [*words, "--patience", "100000"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not list((home / "runs").glob("run_01")) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield process
        process.kill()


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT to send on Windows")
def test_ctrl_c_in_training_ends_with_130_and_a_run_that_can_go_on(
    home: Path, training: "subprocess.Popen[str]"
) -> None:
    time.sleep(1)
    training.send_signal(signal.SIGINT)
    _, stderr = training.communicate(timeout=60)
    assert training.returncode == 130
    assert "go on with dart train --resume run_01." in stderr
    assert "Traceback" not in stderr
    assert [entry.state for entry in list_runs()] == ["unfinished"]
    assert len(list((home / "runs" / "run_01" / "checkpoints" / "seed_0").iterdir())) == 1


def test_python_m_dartcli_is_the_same_program(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dartcli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("dartcli ")
    assert not home.exists()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from dartcli.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'polars', 'numpy', 'matplotlib', 'scipy', 'pydantic', "
        "'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_interrupted_group_keeps_its_finished_seeds(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dartcli.experiments.evaluate import evaluate_run
    from dartcli.training import trainer
    from dartcli.training.epochs import EpochRecord

    original = trainer.SeedTraining.__iter__

    def interrupt_second(self: trainer.SeedTraining) -> Iterator[EpochRecord]:
        if self.seed == 1:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(trainer.SeedTraining, "__iter__", interrupt_second)
    result = dart("train", "synthetic", *TINY, "--seeds", "0-2")
    assert result.exit_code == 130
    run = find_run("run_01")
    assert run.metrics.interrupted
    assert run.seeds == (0,)
    assert evaluate_run("run_01")["seeds"][0]["seed"] == 0
    assert home.is_dir()


def test_history_and_trace_agree(trained: Path) -> None:
    del trained
    run = find_run("run_01")
    history, iterations = run.history(0), run.iterations(0)
    grouped = iterations.group_by("epoch", maintain_order=True).agg(
        pl.col("flagged").sum(), pl.col("objective").mean(), pl.col("iteration").max()
    )
    assert history["flagged"].to_list() == grouped["flagged"].to_list()
    assert history["iteration"].to_list() == grouped["iteration"].to_list()
    assert history["train_loss"].to_list() == pytest.approx(grouped["objective"].to_list())
    assert iterations["flagged"].sum() > 0


def test_a_home_whose_name_looks_like_a_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DART_HOME", str(tmp_path / "a[b]*{c} ?"))
    for words in (["train", "synthetic", *TINY], ["eval"], ["analyze", "dataset", "run_01"]):
        result = dart(*words)
        assert result.exit_code == 0, result.stderr
