"""What the user sees: stdout carries data, stderr carries talk."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dartcli.words import number

if TYPE_CHECKING:
    from dartcli.analysis import Cell
    from dartcli.training.loop import EpochRecord


def out() -> Console:
    """Return a console on stdout."""
    return Console(highlight=False)


def talk() -> Console:
    """Return a console on stderr."""
    return Console(stderr=True, highlight=False)


def note(sentence: str) -> None:
    """Say something on stderr that the user did not ask for but should know."""
    talk().print(f"• {sentence}", style="dim", markup=False, soft_wrap=True)


def can_ask() -> bool:
    """Return True where someone sits at stdin to answer a question."""
    return sys.stdin.isatty()


def next_command(command: str) -> None:
    """Name the next useful command on stderr."""
    talk().print(f"next: {command}", style="cyan", markup=False, soft_wrap=True)


def document(value: object) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    sections: Sequence[int] = (),
) -> None:
    """Print a table on stdout: numbers to the right, a rule after each of ``sections`` rows."""
    view = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for position, column in enumerate(columns):
        numeric = all(not isinstance(row[position], str) for row in rows)
        # a cell that is too wide goes on in the next line: nothing is cut
        view.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for index, row in enumerate(rows):
        view.add_row(*(number(cell) for cell in row), end_section=index + 1 in sections)
    out().print(view)


class EpochBar:
    """A progress bar over the epochs of each seed, with the validation AUC so far."""

    def __init__(self, epochs: int, seeds: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.epochs, self.seeds = epochs, seeds
        self.best = 0.0
        self.done = 0
        self.tasks: dict[int, Any] = {}
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("epoch {task.completed}/{task.total}"),
            TextColumn("valid AUC {task.fields[auc]:.4f} (best {task.fields[best]:.4f})"),
            TimeElapsedColumn(),
            console=talk(),
            transient=True,
        )

    def __call__(self, seed: int, record: EpochRecord) -> None:
        """Show one more epoch of ``seed``."""
        if seed not in self.tasks:
            for task in self.tasks.values():
                self.progress.update(task, visible=False)
            self.best = 0.0
            count = f" {len(self.tasks) + 1}/{self.seeds}" if self.seeds > 1 else ""
            self.tasks[seed] = self.progress.add_task(
                f"seed {seed}{count}", total=self.epochs, auc=0.0, best=0.0
            )
        self.best = max(self.best, record.valid_auc)
        self.progress.update(
            self.tasks[seed], completed=record.epoch, auc=record.valid_auc, best=self.best
        )


@contextmanager
def epoch_bar(epochs: int, seeds: int) -> Iterator[EpochBar | None]:
    """Yield a callback for epoch records; None, and no bar, where stderr is no terminal."""
    if not talk().is_terminal:
        yield None
        return
    bar = EpochBar(epochs, seeds)
    with bar.progress:
        yield bar


@contextmanager
def download_bar() -> Iterator[Any]:
    """Yield a callback (file, bytes so far, bytes in all); None where stderr is no terminal."""
    if not talk().is_terminal:
        yield None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    tasks: dict[str, Any] = {}
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=talk(),
        transient=True,
    ) as progress:

        def update(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done, total=total)

        yield update
