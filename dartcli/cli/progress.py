"""Progress bars on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dartcli.cli.console import note, talk
from dartcli.reporting import formats

if TYPE_CHECKING:
    from dartcli.experiments.sweep_runner import SweepProgress
    from dartcli.training.epochs import EpochRecord


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
                    f"AUC {formats.text(auc)} ({state.row.seconds:.0f} s)",
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
