"""``dart runs``: list, show, compare, remove."""

import json
import shutil
import statistics
from pathlib import Path

import pytest
from checksums import update_document
from running import dart, succeed

from dartcli.cli import console
from dartcli.experiments.run_index import find_run, list_finished
from dartcli.settings import parse_seeds, seeds_text
from dartcli.storage.checksums import read_document


def list_states() -> dict[str, str]:
    entries = json.loads(succeed("runs", "--json").stdout)["runs"]
    return {entry["name"]: entry["state"] for entry in entries}


def test_empty_list_suggests_training(home: Path) -> None:
    result = succeed("runs")
    assert result.stdout == ""
    assert "next: dart train" in result.stderr
    assert json.loads(succeed("runs", "--json").stdout) == {"runs": [], "sweeps": []}
    assert not home.exists()


@pytest.mark.usefixtures("trained")
def test_list_contains_finished_and_unfinished_runs() -> None:
    shown = succeed("runs").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "dart, fm" in shown
    assert "synthetic," in shown
    found = json.loads(succeed("runs", "--json").stdout)["runs"]
    assert [(entry["name"], entry["state"]) for entry in found] == [
        ("one", "finished"), ("two", "finished"), ("left", "unfinished"),
    ]  # fmt: skip
    assert found[0]["seeds"] == [0, 1]
    assert found[0]["test_auc"] == find_run("one").metrics.summary["test_auc"].mean
    assert found[0]["ended"] == find_run("one").environment["ended"]
    assert found[2]["test_auc"] is None
    assert found[2]["strategy"] == "base"


def test_corrupt_and_interrupted_runs_are_listed_with_the_others(trained: Path) -> None:
    (trained / "runs" / "two" / "metrics.json").write_text("{")
    update_document(trained / "runs" / "one" / "metrics.json", interrupted=True)
    assert list_states() == {"one": "interrupted", "two": "unreadable", "left": "unfinished"}
    succeed("runs")


def test_show_has_settings_and_metrics(trained: Path) -> None:
    shown = succeed("runs", "show", "one").stdout
    assert "dataset.interactions" in shown
    assert "strategy.t_m" in shown
    assert "test auc per user" in shown
    document = json.loads(succeed("runs", "show", "one", "--json").stdout)
    assert document["settings"] == read_document(trained / "runs" / "one" / "settings.json")
    assert document["metrics"]["run"] == "one"
    assert "python" in document["environment"]
    speed = document["environment"]["speed"]["0"]
    # 80% of 900 interactions and as many negatives
    assert speed["samples_per_second"] * speed["seconds_per_epoch"] == pytest.approx(1440, rel=0.01)
    speeds = document["environment"]["speed"].values()
    median = statistics.median(speed["seconds_per_epoch"] for speed in speeds)
    assert f"{median:.3g} s per epoch" in succeed("runs", "show", "one").stderr
    left = dart("runs", "show", "left")
    assert left.exit_code == 1
    assert "dart resume left" in left.stderr


def test_diff_shows_only_the_settings_that_differ(trained: Path) -> None:
    found = json.loads(succeed("runs", "diff", "one", "two", "--json").stdout)
    assert found["runs"] == ["one", "two"]
    assert found["settings"]["strategy.name"] == ["dart", "base"]
    assert found["settings"]["strategy.t_m"] == [4, None]
    assert found["settings"]["seeds"] == [[0, 1], [0]]
    assert "model.factors" not in found["settings"]
    assert '"base"' in succeed("runs", "diff", "one", "two").stdout
    shutil.copytree(trained / "runs" / "one", trained / "runs" / "same")
    same = json.loads(succeed("runs", "diff", "one", "same", "--json").stdout)
    assert same["settings"] == {}
    assert dart("runs", "diff", "one").exit_code == 2


def test_remove_needs_confirmation_on_the_command_line_without_a_terminal(trained: Path) -> None:
    result = dart("runs", "remove", "one")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert list_finished() == ["one", "two"]
    result = succeed("runs", "remove", "one", "left", "--yes")
    assert result.stdout == "Removed one, left.\n"
    assert [path.name for path in (trained / "runs").iterdir()] == ["two"]
    removed = json.loads(succeed("runs", "remove", "two", "--yes", "--json").stdout)
    assert removed == {"removed": ["two"]}
    assert list((trained / "runs").iterdir()) == []


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(("answer", "left"), [("y\n", ["two"]), ("n\n", ["one", "two"])])
def test_remove_asks_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, answer: str, left: list[str]
) -> None:
    monkeypatch.setattr(console, "can_ask", lambda: True)
    result = dart("runs", "remove", "one", typed=answer)
    assert result.exit_code == 0
    assert "Remove one" in result.stderr
    assert list_finished() == left


@pytest.mark.parametrize("name", ["three", "..", ".", "", "../runs/one", "folder", ".hidden"])
def test_remove_checks_all_names_before_it_removes_a_run(trained: Path, name: str) -> None:
    (trained / "runs" / "folder").mkdir()
    (trained / "runs" / ".hidden").mkdir()
    (trained / "runs" / ".hidden" / "settings.json").write_text("{}")
    result = dart("runs", "remove", "one", name, "--yes")
    assert result.exit_code == 2
    assert repr(name) in result.stderr
    assert list_finished() == ["one", "two"]


def test_removing_a_link_keeps_its_target(trained: Path, tmp_path: Path) -> None:
    (trained / "runs" / "one").rename(tmp_path / "elsewhere")
    (trained / "runs" / "one").symlink_to(tmp_path / "elsewhere")
    succeed("runs", "remove", "one", "--yes")
    assert list_finished() == ["two"]
    assert (tmp_path / "elsewhere" / "metrics.json").is_file()


@pytest.mark.parametrize("text", ["0", "0-9", "0-2,5", "3,7-8"])
def test_seeds_are_printed_as_they_are_parsed(text: str) -> None:
    assert seeds_text(parse_seeds(text)) == text
