"""Show progress on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dartcli.cli.console import note, share_stderr, shows_progress, stderr
from dartcli.reporting import formats

if TYPE_CHECKING:
    from dartcli.experiments.sweep_plan import PlannedTraining
    from dartcli.experiments.sweep_runner import SweepProgress
    from dartcli.settings import Settings
    from dartcli.training.epochs import EpochRecord


@contextmanager
def loading_torch() -> Iterator[None]:
    """Say on a terminal that PyTorch is being imported, which takes a second or more."""
    if not shows_progress() or "torch" in sys.modules:
        yield
        return
    with share_stderr(), stderr().status("loading PyTorch..."):
        yield


def _make_bar(*columns: Any, width: int = 20, kind: Any = None, **options: Any) -> Any:
    from rich.progress import BarColumn, Progress, TextColumn

    name = TextColumn("{task.description}")
    return (kind or Progress)(
        name, BarColumn(bar_width=width), *columns, console=stderr(), transient=True, **options
    )


class EpochBar:
    """One bar for the epochs of all seeds, with the validation AUC and the time left."""

    def __init__(self, settings: Settings) -> None:
        from rich.progress import TextColumn

        # a complete configuration states the number of epochs
        self.epochs, self.seeds = settings.training.epochs or 0, settings.seeds
        self.best = 0.0
        self.place = -1
        self.estimate = TimeLeft(self.epochs, len(self.seeds))
        self.progress = _make_bar(TextColumn("{task.fields[text]}"), width=10)
        self.task = self.progress.add_task(
            self._name_seed(self.seeds[0]), total=self.epochs * len(self.seeds), text="epoch 1"
        )

    def __call__(self, seed: int, record: EpochRecord) -> None:
        """Show one more epoch of ``seed``."""
        # a strategy of several stages trains each seed several times
        place = self.seeds.index(seed) * record.stages + record.stage - 1
        if place != self.place:
            self.place, self.best = place, 0.0
        self.best = max(self.best, record.valid_auc)
        self.estimate.trainings = len(self.seeds) * record.stages
        left = self.estimate.update(place, record.epoch)
        stage = f"stage {record.stage}/{record.stages}, " if record.stages > 1 else ""
        self.progress.update(
            self.task,
            description=self._name_seed(seed),
            total=self.epochs * self.estimate.trainings,
            completed=place * self.epochs + record.epoch,
            text=f"{stage}epoch {record.epoch}/{self.epochs}, AUC {record.valid_auc:.4f} "
            f"(best {self.best:.4f}), {left}",
        )

    def _name_seed(self, seed: int) -> str:
        count = len(self.seeds)
        return f"seed {seed}" + (f" ({self.seeds.index(seed) + 1}/{count})" if count > 1 else "")


class TimeLeft:
    """Estimate the time that the epochs left of several trainings will take.

    Trainings that stop early have fewer epochs; as soon as one has ended, the others are expected
    to need as many on average.
    """

    def __init__(
        self, epochs: int, trainings: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.epochs, self.trainings, self.clock = epochs, trainings, clock
        self.started = clock()
        self.reached: dict[int, int] = {}
        self.trained = 0

    def update(self, place: int, epoch: int) -> str:
        """Return the time left after ``epoch`` of the training ``place``, counted from 0."""
        self.reached[place] = epoch
        self.trained += 1
        ended = [last for other, last in self.reached.items() if other != place]
        expected = sum(ended) / len(ended) if ended else self.epochs
        left = max(expected - epoch, 0) + (self.trainings - place - 1) * expected
        seconds = round(left * (self.clock() - self.started) / self.trained)
        limit = "about" if ended else "at most"
        return f"{limit} {format_duration(seconds)} left"


def format_duration(seconds: int) -> str:
    """Return a duration as ``0:07`` or ``1:02:03``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def epoch_bar(settings: Settings) -> Iterator[EpochBar | None]:
    """Yield a callback for epoch records, or None if stderr is not a terminal."""
    if not shows_progress():
        yield None
        return
    with share_stderr():
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
    from rich.console import RenderableType
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
    from rich.text import Text

    class SweepBar(Progress):
        running = ""

        def get_renderables(self) -> Iterator[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            if self.running:
                yield Text(f"running: {self.running}", no_wrap=True, overflow="ellipsis")

    columns = (MofNCompleteColumn(), TimeElapsedColumn(), "left", TimeRemainingColumn())
    # one training takes minutes, so the time left is estimated from the last hour
    with share_stderr(), _make_bar(*columns, kind=SweepBar, speed_estimate_period=3600) as bar:

        def update(state: SweepProgress) -> None:
            if [task.description for task in bar.tasks] != [state.phase]:
                for task in bar.task_ids:
                    bar.remove_task(task)
                bar.add_task(state.phase, total=state.total, completed=state.done)
            bar.update(bar.task_ids[0], completed=state.done)
            bar.running = "; ".join(map(_name_training, state.running))
            if state.latest is not None and state.row is not None:
                auc = formats.text(state.row.metrics.test_auc)
                name = _name_training(state.latest)
                note(f"{name}: test AUC {auc} ({state.row.seconds:.0f} s)")

        yield update


def _name_training(training: PlannedTraining) -> str:
    entry = training.entry
    return f"{entry.dataset}, {entry.model}, {entry.arm}, seed {entry.seed}"


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
    with (
        share_stderr(),
        _make_bar(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as bar,
    ):

        def update(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield update
