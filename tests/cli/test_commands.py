"""What all commands have in common, and the small ones: download, eval, analyze."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from running import DATA, TRAIN, dart, succeed
from typer.main import get_command

from dartcli import catalog
from dartcli.cli import app, tables
from dartcli.cli.summary import print_run
from dartcli.experiments.configure import resolve
from dartcli.experiments.run_index import find_run, flatten_settings

COMMANDS = list(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_fits_into_eighty_columns_and_its_examples_use_existing_flags(
    monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = succeed(*command, "--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    examples = re.findall(r"^   (dart .*(?:\\\n.*)?)", text, re.MULTILINE)
    assert examples or command in ([], ["--help"])
    for example in examples:
        words = shlex.split(example.replace("\\\n", " "))
        assert words[1] in COMMANDS
        for flag in (word for word in words if word.startswith("--")):
            assert flag in succeed(words[1], "--help").stdout, example


@pytest.mark.usefixtures("trained")
def test_tables_fit_into_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [find_run("one"), find_run("two")]
    for run in runs:
        print_run(run, quiet=False, json=False)
    for name in catalog.names("analyses"):
        analysis = catalog.load("analyses", name)
        # these compare several runs
        if analysis.takes_runs and name not in {"compare", "set-aside", "label-curve", "auto"}:
            for table in analysis.answer(runs[:1]).tables:
                tables.table(table.title, table.columns, table.rows)
    printed = capsys.readouterr().out
    for words in (["eval", "one"], ["preprocess", "synthetic", *DATA], ["download", "--list"]):
        printed += succeed(*words).stdout
    assert max(map(len, printed.splitlines())) <= 80
    assert "…" not in printed


@pytest.mark.parametrize("name", ["one", "two"])
def test_eval_repeats_the_metrics_of_training(trained: Path, name: str) -> None:
    stored = json.loads((trained / "runs" / name / "metrics.json").read_text())["seeds"][0]
    again = json.loads(succeed("eval", name, "--json").stdout)["seeds"][0]
    for key in ("test_auc", "test_auc_without_fp", "test_log_loss"):
        assert again[key] == pytest.approx(stored[key], abs=1e-12)


@pytest.mark.usefixtures("trained")
def test_eval_without_a_name_uses_the_last_run_and_knows_other_splits() -> None:
    document = json.loads(succeed("eval", "--split", "train", "--json").stdout)
    assert document["run"] == "two"
    assert set(document["seeds"][0]) == {
        "seed", "train_auc", "train_auc_without_fp", "train_log_loss", "train_calibration_error",
        "train_auc_per_user", "train_auc_labeled",
    }  # fmt: skip


@pytest.mark.usefixtures("trained")
def test_eval_repeats_the_lists_of_training_and_adds_baselines() -> None:
    document = json.loads(succeed("eval", "one", "--top-k", "20", "--json").stdout)
    stored = find_run("one").metrics
    for seed, again in zip(stored.seeds, document["seeds"], strict=True):
        assert again["test_recall_at_20"] == seed.test_recall_at_20
        assert again["test_ndcg_at_20"] == seed.test_ndcg_at_20
    assert set(document["baselines"]) == {"popularity", "itemknn"}
    summary = document["baselines"]["itemknn"]["summary"]
    assert 0 < summary["test_ndcg_at_20"]["mean"] < 1
    printed = succeed("eval", "one", "--top-k", "5", "--split", "valid").stdout
    assert printed.count("Recall@5") == 2
    assert "popularity" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_analysis_of_base_ranks_what_was_not_flagged(trained: Path) -> None:
    result = succeed("analyze", "precision-recall", "two")
    assert "never discarded or relabeled an interaction" in " ".join(result.stdout.split())
    folder = trained / "runs" / "two" / "analysis" / "precision-recall"
    assert {path.name for path in folder.glob("*.png")} == {"ranking.png"}


def test_preparing_again_does_nothing(home: Path) -> None:
    first = succeed("preprocess", "synthetic", *DATA)
    assert "next: dart train synthetic" in first.stderr
    written = {path: path.stat().st_mtime_ns for path in home.rglob("*.parquet")}
    assert written
    again = json.loads(succeed("preprocess", "synthetic", *DATA, "--json").stdout)
    assert again["dataset"] == "synthetic"
    assert written == {path: path.stat().st_mtime_ns for path in home.rglob("*.parquet")}


def test_list_of_datasets_shows_what_is_here(home: Path) -> None:
    entries = {
        entry["name"]: entry for entry in json.loads(succeed("download", "--list", "--json").stdout)
    }
    assert {entry["here"] for entry in entries.values()} == {"no", "built in"}
    assert entries["movielens-100k"]["bytes"] == 1_979_173 + 236_344
    assert entries["synthetic"]["bytes"] is None
    assert "built in" in succeed("download", "--list").stdout
    assert not home.exists()


def test_corrupt_weights_are_reported(trained: Path) -> None:
    path = trained / "runs" / "one" / "seed_1" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    result = dart("eval", "one")
    assert result.exit_code == 1
    assert str(path) in result.stderr


def test_python_m_dartcli_is_the_same_program(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dartcli", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("dartcli ")
    assert not home.exists()


def test_help_imports_no_large_library() -> None:
    code = (
        "import sys; from dartcli.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'polars', 'numpy', 'matplotlib', 'scipy', 'pydantic', "
        "'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("kind", catalog.CONSTANT)
def test_list_and_analyze_show_every_component(kind: catalog.Kind, home: Path) -> None:
    expected = [
        {"name": name, "description": text} for name, text in catalog.describe(kind).items()
    ]
    assert json.loads(succeed("list", kind, "--json").stdout) == expected
    assert succeed("list", kind, "-q").stdout.split() == catalog.names(kind)
    table = succeed("list", kind).stdout
    assert all(name in table for name in catalog.names(kind))
    if kind == "analyses":
        assert succeed("analyze").stdout == table
    assert not home.exists()


def test_help_states_the_defaults_of_both_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", succeed("train", "--help").stdout).split())
    strict, reference = (
        flatten_settings(resolve({"protocol": name}).settings) for name in ("strict", "reference")
    )
    for key in [
        *(f"strategy.{name}" for name in ("r", "tau_m", "t_i", "t_m", "basis")),
        *(f"training.{name}" for name in ("epochs", "patience", "batch_size", "learning_rate")),
        *("training.weight_decay", "training.optimizer", "training.ranking"),
    ]:
        flag = "--" + key.partition(".")[2].replace("_", "-")
        pattern = rf" {flag} [A-Z]+ .*?\[default: (\S+?)(?:; (\S+) under reference)?\]"
        stated = re.search(pattern, text)
        assert stated, flag
        for shown, default in [(stated[1], strict[key]), (stated[2] or stated[1], reference[key])]:
            assert type(default)(shown) == default, flag


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["eval", "one", "two"], "one\ntwo\n"),
        ([*TRAIN, "--name", "three"], "three\n"),
        (["download", "--list"], "".join(f"{name}\n" for name in catalog.names("datasets"))),
    ],
)
def test_quiet_commands_print_only_names(words: list[str], expected: str) -> None:
    result = succeed(*words, "-q")
    assert result.stdout == expected
    assert result.stderr == ""


def test_quiet_commands_print_only_paths(trained: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for words, expected in [
        (["preprocess", "synthetic", *DATA], 1),
        (["analyze", "memorization", "one"], 3),
        (["report", "one", "-o", str(page)], 1),
    ]:
        result = succeed(*words, "--quiet")
        paths = [Path(line) for line in result.stdout.splitlines()]
        assert len(paths) >= expected
        assert all(path.exists() for path in paths), words
        assert result.stderr == ""
    assert page.is_file()
    # a later command talks again
    assert "next: " in succeed("preprocess", "synthetic", *DATA).stderr
    assert trained.is_dir()
