"""``dart runs``: list, show, compare, remove."""

import json
import shutil
from pathlib import Path

import pytest
from checksums import update_document
from typer.testing import CliRunner, Result

from dartcli.cli import app, console
from dartcli.experiments.run_index import find_run, list_finished
from dartcli.settings import parse_seeds, seeds_text
from dartcli.storage.checksums import read_document

TINY = [
    "train", "synthetic", "--epochs", "2", "--batch-size", "256", "--set", "dataset.users=60",
    "--set", "dataset.items=60", "--set", "dataset.interactions=900",
]  # fmt: skip


def dart(*words: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, ["runs", *words], input=typed)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DART_HOME with two finished runs and one that was left."""
    home = tmp_path_factory.mktemp("runs") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DART_HOME", str(home))
        for words in (
            ["--name", "one", "--seeds", "0-1", "--t-m", "4"],
            ["--name", "two", "--strategy", "base"],
        ):
            done = CliRunner().invoke(app, [*TINY, *words])
            assert done.exit_code == 0, done.stderr
    left = home / "runs" / "left"
    left.mkdir()
    shutil.copy(home / "runs" / "two" / "settings.json", left)
    return home


@pytest.fixture
def copied(made: Path, home: Path) -> Path:
    shutil.copytree(made, home)
    return home


def test_without_runs_the_list_says_what_to_do(home: Path) -> None:
    result = dart()
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "next: dart train" in result.stderr
    assert json.loads(dart("--json").stdout) == []
    assert not home.exists()


def test_the_list_names_every_run_and_those_not_finished(copied: Path) -> None:
    result = dart()
    assert result.exit_code == 0, result.stderr
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    assert "dart, fm" in result.stdout
    assert "synthetic, strict" in result.stdout
    found = json.loads(dart("--json").stdout)
    assert [(entry["name"], entry["state"]) for entry in found] == [
        ("one", "finished"), ("two", "finished"), ("left", "unfinished"),
    ]  # fmt: skip
    assert found[0]["seeds"] == [0, 1]
    assert found[0]["test_auc"] == find_run("one").metrics.summary["test_auc"].mean
    assert found[0]["ended"] == find_run("one").environment["ended"]
    assert found[2]["test_auc"] is None
    assert found[2]["strategy"] == "base"


def test_one_broken_run_does_not_hide_the_others(copied: Path) -> None:
    (copied / "runs" / "two" / "metrics.json").write_text("{")
    states = {entry["name"]: entry["state"] for entry in json.loads(dart("--json").stdout)}
    assert states == {"one": "finished", "two": "unreadable", "left": "unfinished"}
    assert dart().exit_code == 0


def test_an_interrupted_run_is_called_so(copied: Path) -> None:
    path = copied / "runs" / "one" / "metrics.json"
    update_document(path, interrupted=True)
    assert {entry["state"] for entry in json.loads(dart("--json").stdout)} == {
        "finished", "interrupted", "unfinished",
    }  # fmt: skip


def test_show_has_settings_and_measures(copied: Path) -> None:
    result = dart("show", "one")
    assert result.exit_code == 0, result.stderr
    assert "dataset.interactions" in result.stdout
    assert "strategy.t_m" in result.stdout
    assert "test auc per user" in result.stdout
    document = json.loads(dart("show", "one", "--json").stdout)
    assert document["settings"] == read_document(copied / "runs" / "one" / "settings.json")
    assert document["metrics"]["run"] == "one"
    assert "python" in document["environment"]
    left = dart("show", "left")
    assert left.exit_code == 1
    assert "was not finished" in left.stderr


def test_diff_shows_what_differs_and_nothing_else(copied: Path) -> None:
    found = json.loads(dart("diff", "one", "two", "--json").stdout)
    assert found["runs"] == ["one", "two"]
    assert found["settings"]["strategy.name"] == ["dart", "base"]
    assert found["settings"]["strategy.t_m"] == [4, None]
    assert found["settings"]["seeds"] == [[0, 1], [0]]
    assert "model.factors" not in found["settings"]
    shown = dart("diff", "one", "two")
    assert '"base"' in shown.stdout
    shutil.copytree(copied / "runs" / "one", copied / "runs" / "same")
    assert "are the same" in dart("diff", "one", "same").stdout
    assert dart("diff", "one").exit_code == 2


def test_remove_needs_a_yes_where_nobody_can_answer(copied: Path) -> None:
    result = dart("remove", "one")
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert list_finished() == ["one", "two"]
    result = dart("remove", "one", "left", "--yes")
    assert result.exit_code == 0
    assert result.stdout == "Removed one, left.\n"
    assert [path.name for path in (copied / "runs").iterdir()] == ["two"]
    assert json.loads(dart("remove", "two", "--yes", "--json").stdout) == {"removed": ["two"]}
    assert list((copied / "runs").iterdir()) == []


@pytest.mark.parametrize(("answer", "left"), [("y\n", ["two"]), ("n\n", ["one", "two"])])
def test_remove_asks_at_a_terminal(
    copied: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: list[str]
) -> None:
    monkeypatch.setattr(console, "can_ask", lambda: True)
    result = dart("remove", "one", typed=answer)
    assert result.exit_code == 0
    assert "Remove one with weights" in result.stderr
    assert list_finished() == left


@pytest.mark.parametrize("name", ["three", "..", ".", "", "../runs/one", "folder", ".hidden"])
def test_remove_refuses_what_is_no_run_before_it_removes_any(copied: Path, name: str) -> None:
    (copied / "runs" / "folder").mkdir()
    (copied / "runs" / ".hidden").mkdir()
    (copied / "runs" / ".hidden" / "settings.json").write_text("{}")
    result = dart("remove", "one", name, "--yes")
    assert result.exit_code == 2
    assert "is not the name of a run" in result.stderr
    assert list_finished() == ["one", "two"]


def test_removing_a_link_leaves_what_it_leads_to(copied: Path, tmp_path: Path) -> None:
    (copied / "runs" / "one").rename(tmp_path / "elsewhere")
    (copied / "runs" / "one").symlink_to(tmp_path / "elsewhere")
    assert dart("remove", "one", "--yes").exit_code == 0
    assert list_finished() == ["two"]
    assert (tmp_path / "elsewhere" / "metrics.json").is_file()


@pytest.mark.parametrize("text", ["0", "0-9", "0-2,5", "3,7-8"])
def test_seeds_are_written_as_they_are_read(text: str) -> None:
    assert seeds_text(parse_seeds(text)) == text
