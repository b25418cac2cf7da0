"""``dartcli.train``: one call with the settings that matter most as arguments."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dartcli.experiments.configure import resolve
from dartcli.experiments.run import Run
from dartcli.experiments.train import CHECKPOINT_EVERY, name_components, train_run
from dartcli.settings import Settings, load_tree

if TYPE_CHECKING:
    from dartcli.training.epochs import EpochRecord

Report = Callable[[int, "EpochRecord"], None]
"""Takes a seed and the record of an epoch."""
Named = str | Mapping[str, Any]
"""The name of a component, or a mapping with ``name`` and ``options``."""


def train(  # noqa: PLR0913 - the settings that matter most, so that editors complete them
    dataset: str | Settings | Mapping[str, Any] | None = None,
    *,
    strategy: Named | None = None,
    model: Named | None = None,
    protocol: Literal["strict", "reference"] | None = None,
    seeds: int | Sequence[int] | None = None,
    epochs: int | None = None,
    patience: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    device: str | None = None,
    name: str | None = None,
    config: Path | str | None = None,
    checkpoint_every: str = CHECKPOINT_EVERY,
    progress: bool | Report = False,
    **settings: Any,
) -> Run:
    """Train one run, over one seed or several, and return it.

    Parameters
    ----------
    dataset
        Name of a dataset, or a mapping such as ``{"name": "synthetic", "options": {"users": 80}}``;
        default: ``synthetic``. Or settings: those of another run, or a nested mapping such as
        ``{"dataset": {...}, "training": {...}}``.
    strategy, model
        A name, or a mapping such as ``{"name": "dart", "options": {"r": 0.25}}``.
    protocol
        ``strict`` (default) or ``reference``.
    seeds
        One seed or several; default: 0.
    epochs, patience, batch_size, learning_rate, weight_decay
        As for ``dart train``.
    device
        ``auto`` (default), ``cpu``, ``cuda``, or ``cuda:N``.
    name
        Name of the run; default: the next free ``run_01``, ``run_02``, ....
    config
        TOML or JSON file with settings; arguments override it.
    checkpoint_every
        How often to write a checkpoint: ``"5ep"``, ``"90s"``, ``"10m"``, ``"off"``.
    progress
        True shows a line on stderr. A function is called with (seed, epoch record) after each
        epoch.
    **settings
        Other parts of the settings, such as ``training={"optimizer": "sparse-adam"}``.

    Raises
    ------
    DartError
        If a setting is invalid, or the data cannot be obtained, read, or trained on.
    """
    arguments: dict[str, Any] = {
        "strategy": strategy,
        "model": model,
        "protocol": protocol,
        "seeds": (seeds,) if isinstance(seeds, int) else seeds and tuple(seeds),
        "device": device,
    }
    training = {
        "epochs": epochs,
        "patience": patience,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
    }
    configuration = resolve(
        load_tree(Path(config)) if config else {},
        _to_tree(dataset),
        *map(name_components, (settings, arguments)),
        {"training": training},
    )
    with _follow(progress, configuration.settings) as report:
        return train_run(
            configuration, name=name, progress=report, checkpoint_every=checkpoint_every
        )


def _to_tree(dataset: str | Settings | Mapping[str, Any] | None) -> Mapping[str, Any]:
    if isinstance(dataset, Settings):
        return dataset.model_dump()
    if isinstance(dataset, str) or "name" in (dataset or {}):
        return name_components({"dataset": dataset})
    return dataset or {}


@contextmanager
def _follow(progress: bool | Report, settings: Settings) -> Iterator[Report | None]:  # noqa: FBT001
    """Yield what is called after each epoch."""
    if progress is not True:
        yield progress or None
        return
    line = _ProgressLine(settings)
    try:
        yield line
    finally:
        line.end()


class _ProgressLine:
    """One line on stderr that is rewritten after every epoch; notebooks show it too."""

    def __init__(self, settings: Settings) -> None:
        self.epochs, self.best = settings.training.epochs, 0.0
        self.training: tuple[int, int] | None = None
        self.width = 0

    def __call__(self, seed: int, record: EpochRecord) -> None:
        if (seed, record.stage) != self.training:
            self.end()
            self.training, self.best = (seed, record.stage), 0.0
        self.best = max(self.best, record.valid_auc)
        stage = f"stage {record.stage}/{record.stages}, " if record.stages > 1 else ""
        text = (
            f"seed {seed}, {stage}epoch {record.epoch}/{self.epochs}: "
            f"valid AUC {record.valid_auc:.4f} (best {self.best:.4f})"
        )
        sys.stderr.write("\r" + text.ljust(self.width))
        sys.stderr.flush()
        self.width = len(text)

    def end(self) -> None:
        """End the line, if it was begun."""
        if self.width:
            sys.stderr.write("\n")
            self.width = 0
