"""What a terminal shows while something runs, and after Ctrl-C."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from running import DATA, TRAIN, dart
from terminal import open_terminal, read_rest, read_until, split_lines

from dartcli.cli import console, progress
from dartcli.settings import Settings

PROGRAM = [sys.executable, "-m", "dartcli"]


def test_the_time_left_counts_on_the_epochs_of_the_seeds_that_have_ended() -> None:
    now = 0.0
    left = progress.TimeLeft(100, 3, lambda: now)
    now = 10.0
    # ten seconds per epoch, at most 299 epochs
    assert left.update(0, 1) == "at most 49:50 left"
    now = 20.0
    left.update(0, 2)
    now = 30.0
    left.update(0, 3)
    now = 40.0
    assert left.update(0, 4) == "at most 49:20 left"
    now = 50.0
    # the first seed stopped after four epochs: three more of this one, four of the next
    assert left.update(1, 1) == "about 1:10 left"
    now = 60.0
    assert left.update(2, 7) == "about 0:00 left"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0:00"), (67, "1:07"), (3600, "1:00:00"), (93784, "26:03:04")]
)
def test_durations_are_written_like_clocks(seconds: int, expected: str) -> None:
    assert progress.format_duration(seconds) == expected


@pytest.mark.parametrize("width", [80, 120])
def test_one_bar_shows_all_seeds_in_one_line(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(width=width, force_terminal=True, record=True, stderr=True)
    monkeypatch.setattr(console, "_shared", terminal)
    settings = Settings.model_validate({"seeds": range(10), "training": {"epochs": 200}})
    bar = progress.EpochBar(settings)
    for seed in (0, 1, 9):
        record = SimpleNamespace(epoch=20, valid_auc=0.75 - seed / 100, stage=1, stages=1)
        bar(seed, record)  # type: ignore[arg-type]
        terminal.print(bar.progress.get_renderable())
    shown = terminal.export_text().splitlines()
    assert len(shown) == 3
    assert max(map(len, shown)) <= width
    assert "seed 9 (10/10)" in shown[2]
    assert "epoch 20/200, AUC 0.6600 (best 0.6600), about" in shown[2]
    # the seeds before have stopped after a tenth of their epochs; the bar counts them as done
    assert bar.progress.tasks[0].percentage == pytest.approx(91.0)


def test_the_bar_counts_the_epochs_of_all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(width=80, force_terminal=True, record=True, stderr=True)
    monkeypatch.setattr(console, "_shared", terminal)
    settings = Settings.model_validate({"seeds": range(2), "training": {"epochs": 10}})
    bar = progress.EpochBar(settings)
    for seed, stage, epoch, done in ((0, 1, 5, 5), (0, 2, 1, 11), (1, 1, 4, 24), (1, 2, 10, 40)):
        record = SimpleNamespace(epoch=epoch, valid_auc=0.75, stage=stage, stages=2)
        bar(seed, record)  # type: ignore[arg-type]
        assert (bar.progress.tasks[0].completed, bar.progress.tasks[0].total) == (done, 40)
        terminal.print(bar.progress.get_renderable())
    shown = terminal.export_text().splitlines()
    assert max(map(len, shown)) <= 80
    assert "stage 2/2, epoch 1/10" in shown[1]


def environment(home: Path) -> dict[str, str]:
    found = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    return found | {"DART_HOME": str(home)}


@pytest.mark.parametrize("columns", [80, 120])
def test_a_training_in_a_terminal_says_what_it_is_doing(home: Path, columns: int) -> None:
    words = [*PROGRAM, *TRAIN, "--seeds", "0-1"]
    with open_terminal(words, environment(home), columns) as terminal:
        lines = split_lines(read_rest(terminal))
    assert "loading PyTorch..." in lines[0]
    # messages have lines of their own although a bar is shown
    assert "• preparing synthetic" in lines
    bars = [line for line in lines if line.startswith("seed ")]
    assert any("seed 1 (2/2)" in line and "epoch 2/2, AUC 0." in line for line in bars)
    assert max(map(len, bars)) <= columns
    assert lines[-1].startswith("next: dart ")


@pytest.mark.parametrize(
    ("words", "sign", "expected"),
    [
        (
            [*TRAIN, "--epochs", "5000", "--patience", "5000", "--name", "long"],
            "/5000, AUC",
            "Resume with `dart resume long`.",
        ),
        (
            ["sweep", "--datasets", "synthetic", "--jobs", "1", "--seeds", "0-9", *DATA, "--set",
             "training.epochs=5000", "--set", "training.patience=5000", "--no-tune-base"],
            "running: synthetic",
            "Run `dart sweep --datasets synthetic --jobs 1",
        ),
    ],
    ids=["train", "sweep"],
)  # fmt: skip
def test_ctrl_c_names_the_command_that_resumes_on_a_line_of_its_own(
    home: Path, words: list[str], sign: str, expected: str
) -> None:
    with open_terminal([*PROGRAM, *words], environment(home), 300) as terminal:
        read_until(terminal, lambda text: sign in text)
        os.write(terminal, b"\x03")
        lines = split_lines(read_rest(terminal))
    assert expected in lines[-1]
    assert lines[-1].startswith(("Stopped after ", "Interrupted. "))


def test_a_taken_name_is_refused_before_anything_is_prepared(home: Path) -> None:
    (home / "runs" / "taken").mkdir(parents=True)
    result = dart(*TRAIN, "--name", "taken")
    assert result.exit_code == 2
    assert "run 'taken' exists" in result.stderr
    assert not (home / "processed").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--strategy", "drat"],
        ["train", "--set", "strategy=drat"],
        ["train", "--model", "fmm"],
        ["train", "movielens"],
        ["sweep", "--strategies", "base,drat"],
        ["sweep", "--datasets", "movielens"],
        ["analyze", "precision"],
        ["eval", "run_99"],
        ["resume", "run_99"],
    ],
    ids=" ".join,
)
def test_wrong_names_are_refused_before_torch_is_imported(home: Path, words: list[str]) -> None:
    code = (
        "import sys\nfrom dartcli.cli import app\n"
        f"try: app({words!r})\n"
        "except SystemExit as stop: print(stop.code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(home), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "2 False\n", done.stderr
