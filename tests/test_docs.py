"""README and docs: Python blocks run, commands parse, links and paths exist."""

import functools
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.__main__ import benchmark_names
from benchmarks.__main__ import main as run_benchmark
from benchmarks.pages import find_wrong_rows
from benchmarks.results import find_blocks, find_commands
from dartcli import catalog
from dartcli.cli import app
from dartcli.experiments.sweep_plan import PRESETS
from dartcli.settings import PROTOCOLS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OWN_LOG = ROOT / "docs/how-to/your-own-data.md"
LABELS = ROOT / "docs/how-to/label.md"
TRUSTED = ROOT / "docs/tutorial/trusted-labels.md"
BENCHMARK = ["python", "-m", "benchmarks"]


def blocks(page: Path, language: str) -> list[str]:
    return find_blocks(page.read_text("utf-8"), language)


def commands(page: Path) -> list[list[str]]:
    found = find_commands(page.read_text("utf-8"))
    return [words for words in found if words[0] == "dart" or words[:3] == BENCHMARK]


@functools.cache
def parsers() -> tuple[Any, Any]:
    benchmark = typer.Typer()
    benchmark.command()(run_benchmark)
    return typer.main.get_command(app), typer.main.get_command(benchmark)


def mentioned(page: Path) -> list[list[str]]:
    """Commands in the running text, outside of code blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    spans = re.findall(r"`((?:dart|python -m benchmarks) (?!--install)[^`]+)`", text)
    return [shlex.split(span) for span in spans]


def find(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that ``words`` name, and its arguments."""
    program, benchmark = parsers()
    if words[:3] == BENCHMARK:
        assert words[3] in (*benchmark_names(), "NAME")
        return benchmark, words[3:]
    command, rest = program, words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    assert command is not program, rest
    return command, rest


def parse(words: list[str]) -> None:
    """Parse a command as the program would, without running it; raise if it is invalid."""
    command, rest = find(words)
    command.make_context(command.name, list(rest))


def run_python(page: Path, folder: Path) -> None:
    script = folder / "page.py"
    script.write_text("\n".join(blocks(page, "python")), "utf-8")
    runpy.run_path(str(script))


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "python") and page not in (OWN_LOG, LABELS, TRUSTED)],
    ids=lambda page: page.stem,
)
def test_python_blocks_run(
    page: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # a page may set it
    monkeypatch.setenv("DART_MIRROR", str(tmp_path))
    run_python(page, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_parse(page: Path) -> None:
    # a command may be mentioned by its name alone
    complete = [words for words in mentioned(page) if find(words)[1]]
    for words in [*commands(page), *complete]:
        try:
            parse(words)
        except Exception as error:
            raise AssertionError(shlex.join(words)) from error


def test_an_invalid_command_does_not_parse() -> None:
    for line in (
        "dart train --no-such-flag",
        "dart fly",
        "dart train --epochs many",
        "python -m benchmarks train --no-such-flag",
    ):
        with pytest.raises((AssertionError, typer.TyperException)):
            parse(shlex.split(line))


@pytest.mark.parametrize("kind", ["strategies", "signals", "models"])
def test_the_page_of_components_has_the_line_of_each(kind: catalog.Kind) -> None:
    text = (ROOT / "docs/reference/components.md").read_text("utf-8")
    section = text.partition(f"## {kind.capitalize()}\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*?) \|(?: \[.*)?$", section, re.M))
    assert rows == catalog.describe(kind)


READING_ORDER = [
    ROOT / "README.md",
    ROOT / "docs/tutorial/installation.md",
    ROOT / "docs/tutorial/first-run.md",
    TRUSTED,
    *(
        ROOT / f"docs/how-to/{name}.md"
        for name in re.findall(
            r"^([a-z-]+)$", (ROOT / "docs/how-to/index.md").read_text("utf-8"), re.M
        )
        # the components of these pages have a test of their own
        if not name.startswith("add-")
    ),
]
SHORTER = {
    # no test depends on the network, and two seeds are enough to compare
    "movielens-100k": "synthetic", "--seeds 0-9": "--seeds 0-1", "--seeds 0-4": "--seeds 0-1",
    "--seeds 0-2": "--seeds 0-1", "--trials 50": "--trials 3", "--confirm 100-109": "--confirm 7-8",
    # the simulator has no ratings
    "dataset.tp_threshold=3,4,5": "dataset.quality=0.5,1",
}  # fmt: skip


def run_page(page: Path, folder: Path) -> str:
    """Run the Python and shell blocks of a page in order; return what the commands print."""
    namespace: dict[str, Any] = {}
    printed = ""
    text = page.read_text("utf-8")
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```$", text, re.M | re.S):
        if language == "python":
            (folder / "block.py").write_text(block, "utf-8")
            found = runpy.run_path(str(folder / "block.py"), init_globals=namespace)
            namespace |= {key: value for key, value in found.items() if key[:2] != "__"}
            continue
        shorter = functools.reduce(lambda text, pair: text.replace(*pair), SHORTER.items(), block)
        for line in shorter.replace("\\\n", " ").splitlines():
            words = shlex.split(os.path.expandvars(line.rpartition("&& ")[2]), comments=True)
            if words[:1] != ["dart"] or words[1] == "download":
                continue
            more = ["--jobs", "1", "--no-tune-base"] if words[1] == "sweep" else []
            done = CliRunner().invoke(app, [*words[1:], *more])
            assert done.exit_code == 0, (page.name, line, done.stderr)
            printed += done.stdout
    return printed


@pytest.mark.long
def test_pages_run_top_to_bottom_in_one_home(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, protocol in list(PROTOCOLS.items()):
        monkeypatch.setitem(PROTOCOLS, name, protocol.model_copy(update={"epochs": 1}))
    for name, preset in list(PRESETS.items()):
        fewer = {"datasets": ("synthetic",), "models": ("fm",), "arms": preset.arms[:4]}
        chosen = preset.model_copy(update=fewer)
        monkeypatch.setitem(PRESETS, name, chosen)
    for page in READING_ORDER:
        run_page(page, tmp_path)
    # nothing that a page leaves behind is broken
    monkeypatch.chdir("/")
    findings = CliRunner().invoke(app, ["doctor", "--json"])
    states = {(one["part"], one["name"]): one["state"] for one in json.loads(findings.stdout)}
    assert {key for key, state in states.items() if state in ("error", "corrupt")} == set()
    assert ("run", "ml-dart") in states


@pytest.mark.long
@pytest.mark.realdata
def test_the_readme_shows_what_its_commands_print(
    mirrored_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Takes minutes: trainings are as long as on the page."""
    monkeypatch.setenv("COLUMNS", "100")
    assert find_wrong_rows(PAGES[0].read_text("utf-8")) == []
    assert (mirrored_home / "runs/ml-dart").is_dir()


def test_a_row_that_no_command_prints_is_found(home: Path) -> None:
    page = "```sh\ndart list models\n```\n```text\n│ fm │ wrong │\n```\n"
    assert find_wrong_rows(page) == ["│ fm │ wrong │"]


def test_the_page_on_your_own_log_shows_what_its_commands_print(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_python(OWN_LOG, tmp_path)
    printed = ""
    for words in commands(OWN_LOG):
        done = CliRunner().invoke(app, words[1:])
        assert done.exit_code == 0, (words, done.stderr)
        printed += done.stdout
    shown = "\n".join(blocks(OWN_LOG, "text"))
    rows = [line for line in shown.splitlines() if re.match(r"[│a-z].*\d", line)]
    assert rows
    assert [row for row in rows if row not in printed] == []
    assert (home / "runs/shop-dart/analysis/precision-recall/numbers.json").is_file()


def test_the_page_on_labels_shows_what_its_commands_print(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = " ".join(run_page(LABELS, tmp_path).split())
    for block in blocks(LABELS, "text"):
        assert " ".join(block.split()) in printed, block
    # the shown file was answered since
    (shown,) = blocks(LABELS, "csv")
    asked = [line.rstrip("01") for line in (tmp_path / "ask.csv").read_text("utf-8").splitlines()]
    assert asked[: shown.count("\n")] == shown.splitlines()


def test_the_components_of_the_how_to_pages_work_and_keep_the_contracts(
    home: Path, tmp_path: Path
) -> None:
    kinds = set()
    for page in (ROOT / "docs/how-to").glob("add-*.md"):
        code = blocks(page, "python")[0]
        path = re.match(r"# dartcli/(\w+)/(\w+\.py)", code)
        assert path, page
        kinds.add(path[1])
        (tmp_path / path[1]).mkdir()
        (tmp_path / path[1] / path[2]).write_text(code, "utf-8")
    assert kinds == {"analyses", "datasets", "models", "strategies"}
    contracts = [str(ROOT / f"tests/contracts/test_{kind}.py") for kind in ("strategies", "models")]
    script = f"""
import importlib, sys
for kind in {sorted(kinds)}:
    importlib.import_module("dartcli." + kind).__path__.append({str(tmp_path)!r} + "/" + kind)
import pytest
from typer.testing import CliRunner
from dartcli import catalog
from dartcli.cli import app
assert "toy" in catalog.names("datasets")
for line in (
    "train synthetic --strategy soft-cap --model cosine --epochs 2 --set strategy.cap=2"
    " --set model.factors=4 --set dataset.interactions=1500",
    "analyze best-epoch run_01",
):
    done = CliRunner().invoke(app, line.split())
    assert done.exit_code == 0, done.stderr
options = [*{contracts}, "-q", "-n0", "-k", "soft-cap or cosine", "-p", "no:cacheprovider"]
sys.exit(pytest.main(options))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert '"cap": 2.0' in (home / "runs/run_01/settings.json").read_text("utf-8")
    assert (home / "runs/run_01/analysis/best-epoch/numbers.json").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
    for path in re.findall(r"\btests/[\w/]+\.py\b", text):
        assert (ROOT / path).is_file(), path


def test_modules_named_in_the_architecture_exist() -> None:
    text = (ROOT / "docs/explanation/architecture.md").read_text("utf-8")
    paths = re.findall(r"`((?:\w+/)+\w+\.py)`", text)
    assert len(paths) > 20
    assert [path for path in paths if not (ROOT / "dartcli" / path).is_file()] == []
