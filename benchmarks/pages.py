"""Run the commands of a page in an empty home, and compare what they print with the page.

::

    python -m benchmarks.pages docs/tutorial/first-run.md

Trainings are as long as on the page. Only rows of tables are compared.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.results import find_blocks, find_commands, run_command
from dartcli.cli import console
from dartcli.cli.errors import guarded
from dartcli.errors import DartError


def find_wrong_rows(page: str) -> list[str]:
    """Run the ``dart`` commands of a page, and return the table rows in it that none prints.

    Runs are written to ``DART_HOME``.

    Raises
    ------
    DartError
        If a command fails, or if the page has no table.
    """
    printed = [run_command(words) for words in find_commands(page) if words[0] == "dart"]
    # columns are as wide as their widest cell, which the page may have left out
    found = {" ".join(line.split()) for text in printed for line in text.splitlines()}
    text = "".join(find_blocks(page, "text"))
    rows = [line for line in text.splitlines() if "│" in line]
    if not rows:
        raise DartError("the page has no table to compare.")
    return [row for row in rows if " ".join(row.split()) not in found]


def main(
    page: Annotated[Path, typer.Argument(metavar="PAGE", dir_okay=False, exists=True)],
) -> None:
    """Run the commands of a page in an empty home, and compare its tables with what they print."""
    text = page.read_text("utf-8")
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"DART_HOME": home, "COLUMNS": "100"}
        wrong = find_wrong_rows(text)
    if wrong:
        console.print_line("\n".join(wrong))
        raise DartError(f"{page}: its commands do not print the {len(wrong)} rows above.")
    console.note(f"{page} shows what its commands print")


if __name__ == "__main__":
    typer.run(guarded(main))
