"""Show progress on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dartcli.cli.console import note, shows_progress, stderr
from dartcli.reporting import formats

if TYPE_CHECKING:
    from rich.progress import Progress

    from dartcli.experiments.sweep_runner import SweepProgress
    from dartcli.settings import Settings
    from dartcli.training.epochs import EpochRecord


def _make_bar(*columns: Any, **options: Any) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn

    name = TextColumn("{task.description}")
    return Progress(
        name, BarColumn(bar_width=20), *columns, console=stderr(), transient=True, **options
    )


class EpochBar:
    """A bar for the epochs of one seed, with the validation AUC."""

    def __init__(self, settings: Settings) -> None:
        from rich.progress import TextColumn, TimeElapsedColumn

        self.epochs, self.seeds = settings.training.epochs, len(settings.seeds)
        self.best = 0.0
        self.tasks: dict[int, Any] = {}
        self.progress = _make_bar(
            TextColumn("epoch {task.completed}/{task.total}"),
            TextColumn("valid AUC {task.fields[auc]:.4f} (best {task.fields[best]:.4f})"),
            TimeElapsedColumn(),
        )

    def __call__(self, seed: int, record: EpochRecord) -> None:
        """Show one more epoch of ``seed``."""
        if seed not in self.tasks:
            for task in self.tasks.values():
                self.progress.update(task, visible=False)
            self.best = 0.0
            count = f" ({len(self.tasks) + 1}/{self.seeds})" if self.seeds > 1 else ""
            self.tasks[seed] = self.progress.add_task(
                f"seed {seed}{count}", total=self.epochs, auc=0.0, best=0.0
            )
        self.best = max(self.best, record.valid_auc)
        self.progress.update(
            self.tasks[seed], completed=record.epoch, auc=record.valid_auc, best=self.best
        )


@contextmanager
def epoch_bar(settings: Settings) -> Iterator[EpochBar | None]:
    """Yield a callback for epoch records, or None if stderr is not a terminal."""
    if not shows_progress():
        yield None
        return
    bar = EpochBar(settings)
    with bar.progress:
        yield bar


@contextmanager
def sweep_bar() -> Iterator[Callable[[SweepProgress], None]]:
    """Yield a callback for the progress of a sweep.

    If stderr is not a terminal, it prints a line for every tenth of a phase instead of a bar.
    """
    if not shows_progress():
        yield _make_tenths_printer()
        return
    from rich.progress import MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    # one training takes minutes, so the time left is estimated from the last hour
    with _make_bar(*columns, speed_estimate_period=3600) as bar:
        tasks: dict[str, Any] = {}

        def update(state: SweepProgress) -> None:
            if state.phase not in tasks:
                tasks[state.phase] = bar.add_task(
                    state.phase, total=state.total, completed=state.done
                )
            bar.update(tasks[state.phase], completed=state.done)
            if state.latest is not None and state.row is not None:
                entry, auc = state.latest.entry, state.row.metrics.test_auc
                note(
                    f"{entry.dataset}, {entry.model}, {entry.arm}, seed {entry.seed}: "
                    f"AUC {formats.text(auc)} ({state.row.seconds:.0f} s)"
                )

        yield update


def _make_tenths_printer() -> Callable[[SweepProgress], None]:
    printed: dict[str, int] = {}

    def update(state: SweepProgress) -> None:
        tenth = 10 * state.done // max(state.total, 1)
        if printed.get(state.phase) != tenth:
            printed[state.phase] = tenth
            note(f"{state.phase}: {state.done:,} of {state.total:,}")

    return update


@contextmanager
def download_bar() -> Iterator[Callable[[str, int, int | None], None] | None]:
    """Yield a callback (file, bytes so far, total bytes), or None if stderr is not a terminal."""
    if not shows_progress():
        yield None
        return
    from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    tasks: dict[str, Any] = {}
    with _make_bar(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as bar:

        def update(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield update
