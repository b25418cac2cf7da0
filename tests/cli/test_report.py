"""``dart report`` as a user types it."""

import json
import shutil
from pathlib import Path

import pytest
from checksums import update_checksums, update_document
from typer.testing import CliRunner, Result

from dartcli.cli import app
from dartcli.data.registry import find_dataset
from dartcli.experiments.run_index import find_run
from dartcli.reporting.build import write_report
from dartcli.reporting.overview import file_name
from dartcli.reporting.summary import summarize_runs

pytestmark = pytest.mark.long

TINY = [
    "train", "synthetic", "--epochs", "3", "--batch-size", "256", "--tau-m", "0.2",
    "--set", "dataset.users=80", "--set", "dataset.items=90", "--set", "dataset.interactions=1500",
]  # fmt: skip
BASE = [word for word in TINY if word not in {"--tau-m", "0.2"}]


def dart(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("report") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DART_HOME", str(home))
        for words in (
            [*TINY, "--name", "first", "--seeds", "0-1", "--t-m", "4"],
            [*BASE, "--name", "second", "--seeds", "0-1", "--strategy", "base"],
        ):
            done = dart(*words)
            assert done.exit_code == 0, done.stderr
    return home


@pytest.fixture
def copied(made: Path, home: Path) -> Path:
    shutil.copytree(made, home)
    return home


def test_the_page_of_two_runs_has_every_part(copied: Path) -> None:
    result = dart("report", "first", "second")
    assert result.exit_code == 0, result.stderr
    path = copied / "reports" / "first-second.html"
    assert result.stdout == f"{path}\n"
    text = path.read_text("utf-8")
    for words in (
        "dart and base on synthetic",
        "no verdict is possible with 2 seeds",
        "Memorization of true and false positives",
        "Identification of false positives",
        find_dataset("synthetic").license,
        "dart train --config first.json --name first",
        "never discarded or relabeled",
        "&#34;interactions&#34;: 1500",
        find_run("second").environment["ended"][:10],
    ):
        assert words in text, words
    assert not list((copied / "runs").glob("*/analysis")), "a report must not change a run"


def test_a_second_call_writes_the_same_bytes(copied: Path, tmp_path: Path) -> None:
    page, again = tmp_path / "a" / "page.html", tmp_path / "again.html"
    assert dart("report", "first", "--output", str(page)).exit_code == 0
    assert dart("report", "first", "-o", str(again)).exit_code == 0
    assert page.read_bytes() == again.read_bytes()
    assert not (copied / "reports").exists()


def test_json_describes_the_report_of_the_last_run(copied: Path) -> None:
    document = json.loads(dart("report", "--json").stdout)
    assert document["report"] == str(copied / "reports" / "second.html")
    assert {"dataset", "memorization", "precision-recall"} <= set(document["analyses"])
    assert "compare with base" in document["absent"]["compare"]
    assert document["summary"][0].startswith("second (base)")


def test_a_run_name_with_markup_is_escaped(copied: Path) -> None:
    name = "<b onclick=x>run"
    folder = copied / "elsewhere" / name
    shutil.copytree(copied / "runs" / "first", folder)
    result = dart("report", str(folder))
    assert result.exit_code == 0, result.stderr
    text = (copied / "reports" / "_b_onclick_x_run.html").read_text("utf-8")
    assert "<b onclick" not in text
    assert "&lt;b onclick=x&gt;run" in text


def test_a_broken_plugin_is_named_and_the_other_analyses_run(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dartcli import catalog

    names = catalog.names
    monkeypatch.setattr(
        catalog,
        "names",
        lambda kind: [*names(kind), *(["nothing-here"] if kind == "analyses" else [])],
    )
    page = write_report(["first"])
    assert "nothing-here" in page.absent["nothing-here"]
    # one run has no base to compare with, has no trusted labels, and is not a sweep
    absent = {"compare", "auto", "set-aside", "label-curve", "sensitivity", "search"}
    assert set(page.analyses) == set(names("analyses")) - absent


@pytest.mark.parametrize(
    ("words", "value"),
    [(["report", "third"], "third"), (["report", "first", "--output", "."], "--output .")],
)
def test_a_usage_error_names_the_argument_and_writes_nothing(
    copied: Path, words: list[str], value: str
) -> None:
    result = dart(*words)
    assert result.exit_code == 2
    assert value in result.stderr
    assert not (copied / "reports").exists()


def test_runs_on_different_data_are_not_compared(copied: Path) -> None:
    first, second = find_run("first"), find_run("second")
    assert "with 2 seeds" in summarize_runs([first, second])[0]
    path = second.folder / "settings.json"
    dataset = find_run("second").settings.dataset
    options = {**dataset.options, "interactions": 1501}
    update_document(path, dataset={"name": dataset.name, "options": options})
    update_checksums(second.folder)
    sentences = summarize_runs([first, find_run("second")])
    assert "not comparable" in sentences[0]


def test_many_runs_give_a_short_file_name(copied: Path) -> None:
    name = file_name([find_run("first")] * 40)
    assert name == "first-and-39-more.html"
    assert copied.is_dir()
