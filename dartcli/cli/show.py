"""What the user sees: stdout carries data, stderr carries talk."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dartcli import rendering
from dartcli.rendering import Marked

if TYPE_CHECKING:
    from dartcli.analysis import Cell
    from dartcli.sweeping import Progress as SweepProgress
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


def _cell(value: Cell) -> Text:
    style = ""
    if isinstance(value, Marked):
        style = "bold" if value.best else "dim" if value.unclear else ""
    return Text(rendering.text(value), style=style)


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    sections: Sequence[int] = (),
) -> None:
    """Print a table on stdout: numbers to the right, a rule after each of ``sections`` rows."""
    view = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    widths = _widths(columns, rows, out().width - 3 * len(columns) - 1)
    for position, column in enumerate(columns):
        numeric = all(not isinstance(row[position], str) for row in rows)
        view.add_column(
            column,
            justify="right" if numeric else "left",
            width=widths[position] if widths else None,
            overflow="fold",
        )
    for index, row in enumerate(rows):
        view.add_row(*(_cell(cell) for cell in row), end_section=index + 1 in sections)
    out().print(view)


def _widths(columns: Sequence[str], rows: Sequence[Sequence[Cell]], room: int) -> list[int] | None:
    """Return widths under which heads wrap and cells do not; None where even cells do not fit.

    Where the words of the heads need more room, the widest column of several words gives some.
    """
    texts = [[rendering.text(cell) for cell in row] for row in rows]
    cells = [max((len(row[i]) for row in texts), default=1) for i in range(len(columns))]
    heads = [max(map(len, column.split()), default=1) for column in columns]
    widths = [max(cell, head) for cell, head in zip(cells, heads, strict=True)]
    excess = sum(widths) - room
    for position in sorted(range(len(columns)), key=lambda i: -widths[i]):
        words = [word for row in texts for word in row[position].split()]
        spare = widths[position] - max([heads[position], *map(len, words)])
        if 0 < excess <= spare:
            widths[position] -= excess
            return widths
    if excess > 0:
        if sum(cells) > room:
            return None
        widths = cells
    for position, column in enumerate(columns):
        more = min(max(len(column) - widths[position], 0), room - sum(widths))
        widths[position] += more
    return widths


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
def sweep_bar() -> Iterator[Any]:
    """Yield a callback for the progress of a sweep: a bar, or a line now and then.

    Where stderr is no terminal, a line tells of every tenth part.
    """
    if not talk().is_terminal:
        yield _said_in_tenths()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        # trainings take minutes: estimate from many of them
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=talk(), transient=True, speed_estimate_period=3600) as bar:
        tasks: dict[str, Any] = {}

        def update(state: SweepProgress) -> None:
            if state.phase not in tasks:
                tasks[state.phase] = bar.add_task(
                    state.phase, total=state.total, completed=state.done
                )
            bar.update(tasks[state.phase], completed=state.done)
            if state.latest is not None and state.row is not None:
                entry, auc = state.latest.entry, state.row.metrics.test_auc
                bar.console.print(
                    f"{entry.dataset}, {entry.model}, {entry.arm}, seed {entry.seed}: "
                    f"AUC {rendering.text(auc)} ({state.row.seconds:.0f} s)",
                    style="dim",
                    markup=False,
                )

        yield update


def _said_in_tenths() -> Any:
    said: dict[str, int] = {}

    def update(state: SweepProgress) -> None:
        tenth = 10 * state.done // max(state.total, 1)
        if said.get(state.phase) != tenth:
            said[state.phase] = tenth
            note(f"{state.phase}: {state.done:,} of {state.total:,}")

    return update


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
