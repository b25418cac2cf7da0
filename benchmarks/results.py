"""Run the experiments behind ``docs/results``, and put their tables into the pages.

::

    python -m benchmarks.results            list the parts, which are the pages with tables
    python -m benchmarks.results table-2    run the commands of a part, and rewrite its tables
    python -m benchmarks.results all        every part; days of computing on a small machine

A table in a page stands between ``<!-- dart ... -->`` or ``<!-- python -m ... -->``, the command
that prints it, and ``<!-- end -->``; the commands that make its data are the ``sh`` blocks of the
page. What is finished is not repeated, so an interrupted part resumes.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from dartcli.cli import console
from dartcli.cli.errors import guarded
from dartcli.errors import DartError, UsageError
from dartcli.experiments.run_index import is_run
from dartcli.storage import paths

PAGES = Path(__file__).parent.parent / "docs/results"
TABLE = re.compile(
    r"^<!-- (?P<command>(?:dart|python -m) .*?) -->\n(?P<table>.*?)^<!-- end -->$",
    re.DOTALL | re.MULTILINE,
)


def find_blocks(page: str, language: str) -> list[str]:
    """Return the contents of the fenced blocks of ``language`` in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def find_commands(page: str) -> list[list[str]]:
    """Return the words of every command line in the ``sh`` blocks of a page."""
    text = "\n".join(find_blocks(page, "sh")).replace("\\\n", " ")
    lines = (shlex.split(line, comments=True) for line in text.splitlines())
    return [words for words in lines if words]


def read_commands(page: str) -> list[list[str]]:
    """Return the ``dart`` commands in the ``sh`` blocks of a page that make its data."""
    found = find_commands(page)
    return [words for words in found if words[0] == "dart" and words[1] in {"train", "sweep"}]


def is_finished(words: list[str]) -> bool:
    """Return whether a command is a training whose run exists; sweeps know what they lack."""
    return words[1] == "train" and is_run(paths.runs() / words[words.index("--name") + 1])


def rewrite_tables(page: str, run: Callable[[list[str]], str]) -> str:
    """Return ``page`` with every table replaced by what ``run`` returns for its command."""

    def replace(found: re.Match[str]) -> str:
        table = run(shlex.split(found["command"])).strip()
        return f"<!-- {found['command']} -->\n\n{table}\n\n<!-- end -->"

    return TABLE.sub(replace, page)


def run_command(words: list[str]) -> str:
    """Run ``dart`` or ``python``, and return what it prints; its messages go to the terminal.

    Raises
    ------
    DartError
        If it fails.
    """
    console.note(shlex.join(words))
    more = ["-m", "dartcli", *words[1:]] if words[0] == "dart" else words[1:]
    done = subprocess.run(  # noqa: S603 - this program, with the words of a page of this repository
        [sys.executable, *more], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise DartError(f"`{shlex.join(words)}` failed. See its output above.")
    return done.stdout


def main(
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="PART...", help="Pages of docs/results, or all.")
    ] = None,
) -> None:
    """Run the experiments of a page of docs/results, and put their tables into it."""
    pages = {path.stem: path for path in sorted(PAGES.glob("*.md"))}
    with_tables = [name for name, path in pages.items() if TABLE.search(path.read_text())]
    if not parts:
        console.print_line("\n".join(with_tables))
        return
    for part in with_tables if parts == ["all"] else parts:
        if part not in with_tables:
            raise UsageError(f"no part {part!r}. Choose from all, {', '.join(with_tables)}.")
        page = pages[part].read_text()
        for words in read_commands(page):
            if not is_finished(words):
                run_command(words)
        pages[part].write_text(rewrite_tables(page, run_command))
        console.note(f"{pages[part]} holds the tables of {paths.home()}")


if __name__ == "__main__":
    typer.run(guarded(main))
