"""Every Python block in README and docs runs; every dart command in them parses."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dartcli.cli import app

ROOT = Path(__file__).parent.parent
PARTS_OF_RUNS = [["show"], ["diff"], ["remove"]]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


def commands(page: Path) -> list[str]:
    text = "\n".join(blocks(page, "sh"))
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.partition(" #")[0])
        if words[:1] == ["dart"]:
            found.append(line.partition(" #")[0].strip())
    return found


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name
)
def test_python_in_the_docs_runs(page: Path, home: Path, tmp_path: Path) -> None:
    code = "\n".join(blocks(page, "python"))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert home is not None


@pytest.mark.parametrize(
    ("page", "command"),
    [(page, command) for page in PAGES for command in commands(page)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_commands_in_the_docs_know_their_flags(page: Path, command: str) -> None:
    words = shlex.split(command)[1:]
    flags = [word.partition("=")[0] for word in words if word.startswith("-")]
    group = words[:2] if words[0] == "runs" and words[1:2] in PARTS_OF_RUNS else words[:1]
    shown = CliRunner().invoke(app, [*group, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, page
    for flag in flags:
        assert flag in shown.stdout, (page, flag)


def test_the_strategy_of_the_how_to_page_is_one_file_and_keeps_the_contracts(
    home: Path, tmp_path: Path
) -> None:
    page = ROOT / "docs/how-to/add-a-strategy.md"
    code = blocks(page, "python")[0]
    (tmp_path / "soft_cap.py").write_text(code)
    lines = [
        "import sys, dartcli.strategies",
        f"dartcli.strategies.__path__.append({str(tmp_path)!r})",
    ]
    train = [
        *lines,
        "from dartcli.cli import main",
        "sys.argv = ['dart', 'train', 'synthetic', '--strategy', 'soft-cap', '--epochs', '2',",
        "    '--set', 'strategy.cap=2', '--set', 'dataset.interactions=1500']",
        "main()",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(train)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '"cap": 2.0' in (home / "runs/run_01/settings.json").read_text()
    contracts = str(ROOT / "tests/contracts/test_strategies.py")
    check = [
        *lines,
        "import pytest",
        f"sys.exit(pytest.main([{contracts!r}, '-q', '-k', 'soft-cap', '-n', '0']))",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(check)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_local_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text("utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), (page, target)


def test_the_commands_of_your_own_data_run_after_its_python(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / "docs/how-to/your-own-data.md"
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-c", blocks(page, "python")[0]], check=True)
    for command in commands(page):
        done = CliRunner().invoke(app, shlex.split(command)[1:])
        assert done.exit_code == 0, (command, done.stderr)
    assert (home / "runs/run_01/analysis/precision-recall/numbers.json").is_file()
