"""The shell completes commands, names, and values; nothing heavy is imported for it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import open_terminal, read_until

from dartcli import catalog
from dartcli.cli import completion


def complete(line: str) -> list[str]:
    """Return what the shell would be offered for the last word of ``line``."""
    words = line.split(" ")
    environment = os.environ | {
        "_DART_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "dartcli"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("dart tr", {"train"}),
        ("dart train --strategy lc", {"lcd", "lcd-re"}),
        ("dart train --model f", {"fm"}),
        ("dart train syn", {"synthetic"}),
        ("dart train --basis ", {"positives", "batch"}),
        ("dart train --protocol s", {"strict"}),
        ("dart sweep --strategies base,dart-", {"base,dart-disc", "base,dart-rel"}),
        ("dart sweep --datasets synthetic,movielens-1m", {"synthetic,movielens-1m"}),
        ("dart analyze pre", {"precision-recall"}),
        ("dart analyze compare ", {"one", "two"}),
        ("dart analyze compare one t", {"two"}),
        ("dart eval o", {"one"}),
        ("dart resume ", {"left"}),
        ("dart preprocess --split t", {"temporal"}),
        ("dart list m", {"models"}),
        ("dart runs show o", {"one"}),
        ("dart runs remove l", {"left"}),
    ],
)
def test_values_are_completed(line: str, expected: set[str]) -> None:
    assert set(complete(line)) == expected


def test_every_component_is_completed() -> None:
    for kind in catalog.CONSTANT:
        offered = completion.complete_component(kind)("")
        assert offered == list(catalog.describe(kind).items())
        assert all(text for _, text in offered), kind


def test_completion_imports_nothing_heavy(trained: Path) -> None:
    assert trained.is_dir()
    code = (
        "import sys\nfrom dartcli import cli\n"
        "try: cli.app(prog_name='dart')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'polars', 'numpy', 'sklearn'} & set(sys.modules)\n"
        "print('imported', sorted(heavy))"
    )
    for line in ("dart train --strategy d", "dart eval o", "dart train s"):
        words = line.split()
        environment = os.environ | {
            "_DART_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert done.stdout.splitlines()[0], line
        assert done.stdout.splitlines()[-1] == "imported []", line


def test_completion_works_without_a_home_and_with_an_invalid_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert complete("dart eval ") == []
    home.write_text("")
    monkeypatch.setenv("DART_HOME", str(home))
    assert complete("dart eval ") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_a_value_in_a_terminal(home: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "dart"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dartcli "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}", "PS1": "ready> ", "TERM": "dumb",
    }  # fmt: skip
    words = ["bash", "--norc", "--noprofile", "-i"]
    with open_terminal(words, environment) as terminal:
        read_until(terminal, lambda text: "ready> " in text)
        os.write(terminal, b'eval "$(dart --show-completion bash)"; echo load""ed\n')
        read_until(terminal, lambda text: "loaded" in text and text.endswith("ready> "))
        os.write(terminal, b"dart train --strategy co-t\t")
        shown = read_until(terminal, lambda text: "co-teaching" in text)
        assert re.search(r"--strategy co-teaching", shown)
        os.write(terminal, b"\x15dart analyze lo\t")
        read_until(terminal, lambda text: "loss-" in text)
        os.write(terminal, b"\t\t")
        read_until(
            terminal, lambda text: all(f"loss-{x}" in text for x in ("by-rating", "distribution"))
        )
        os.write(terminal, b"\x15\x04")
    assert not home.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_for_other_shells_name_the_command(shell: str) -> None:
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "dartcli", "--show-completion", shell],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"complete_{shell}" in done.stdout
    assert "_DART_COMPLETE" in done.stdout
