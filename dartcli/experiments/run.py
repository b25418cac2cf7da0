"""The folder of one run.

::

    run_01/
      settings.json       complete settings; `dart train --config` repeats them
      environment.json    versions, machine, times
      metrics.json        metrics, and the checksums of settings and seeds; written last: without
                          it the run is not finished
      seed_0/
        metrics.json        metrics of this seed, and the checksum of each file beside it
        history.parquet     one row per epoch
        iterations.parquet  one row per iteration
        model.safetensors   the reported weights
        identified.safetensors  weights that the last stage's labels come from, with such a strategy
        scores.parquet      scores of the reported weights: validation, test, training positives
        snapshots/          scores of the validation split after chosen iterations, if requested
      checkpoints/        while the run is being trained or was interrupted
      analysis/           output of `dart analyze`

Every JSON document ends with its own checksum, and every file is verified when it is read. There
are no pickles. Times are only in ``environment.json``, so repeating a run reproduces all other
files byte for byte.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from dartcli.errors import DartError, DataError, RunError
from dartcli.settings import Options, Settings, validate
from dartcli.storage.checksums import find_mismatch, read_document, read_verified
from dartcli.storage.tables import read_table
from dartcli.training.results import SeedMetrics, Spread

if TYPE_CHECKING:
    from torch import Tensor, nn

METRICS = "metrics.json"
SETTINGS = "settings.json"
ENVIRONMENT = "environment.json"
HISTORY = "history.parquet"
ITERATIONS = "iterations.parquet"
MODEL = "model.safetensors"
IDENTIFIED = "identified.safetensors"
SCORES = "scores.parquet"
SNAPSHOTS = "snapshots"
CHECKPOINTS = "checkpoints"
IDENTITY: Final = "identity"
"""Key of the hash of settings and data in a seed's ``metrics.json``."""
FILES: Final = "files"
"""Key of the checksums in ``metrics.json``."""
FORMAT: Final = 5
"""Version of the run folder."""


class Metrics(Options):
    """The metrics of a run: what ``dart train --json`` prints."""

    format: int
    """Version of the run folder."""
    run: str
    """Name of the run."""
    dataset: str
    """Dataset."""
    protocol: str
    """Protocol."""
    model: str
    """Model."""
    strategy: str
    """Strategy."""
    seeds: tuple[SeedMetrics, ...]
    """One entry per seed."""
    summary: dict[str, Spread]
    """Each metric over the seeds."""
    interrupted: bool = False
    """The run was stopped before all its seeds were trained."""


@dataclass(frozen=True, repr=False)
class Run:
    """A run on disk; everything but ``settings`` and ``environment`` needs it to be finished."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the run: that of its folder."""
        return self.folder.name

    def __repr__(self) -> str:
        if not (self.folder / METRICS).is_file():
            return f"<Run {self.name}: not finished>"
        metrics = self.metrics
        auc = metrics.summary["test_auc"].mean
        count = len(self.seeds)
        return (
            f"<Run {self.name}: {metrics.strategy}, {metrics.model} on {metrics.dataset}, "
            f"{count} seed{'s' * (count != 1)}, test AUC {'–' if auc is None else f'{auc:.4f}'}>"
        )

    def _repr_html_(self) -> str:
        """Return a table of the metrics, for notebooks."""
        if not (self.folder / METRICS).is_file():
            return escape(repr(self))
        rows = "".join(
            f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{_format_number(spread.mean)}</td>"
            f"<td>{_format_number(spread.std)}</td></tr>"
            for name, spread in self.metrics.summary.items()
        )
        head = "<tr><th>metric</th><th>mean</th><th>std</th></tr>"
        return f"<table><caption>{escape(repr(self))}</caption>{head}{rows}</table>"

    def model(self, seed: int | None = None, device: str = "cpu") -> nn.Module:
        """Return the module with the reported weights of ``seed``, in evaluation mode.

        Its data are prepared again if they are not cached, because they decide its size.

        Parameters
        ----------
        seed
            Default: the first seed of the run.
        device
            ``cpu``, ``cuda``, ``cuda:N``, or ``auto``.

        Raises
        ------
        UsageError
            If the seed was not trained, or the device does not exist.
        RunError, DataError
            If the weights or the data cannot be read.
        """
        # the module above this one that builds models reads runs, so it is looked up by name
        evaluate = importlib.import_module("dartcli.experiments.evaluate")
        model: nn.Module = evaluate.load_model(
            self, self.seeds[0] if seed is None else seed, device
        )
        return model

    @cached_property
    def settings(self) -> Settings:
        """The complete settings."""
        path = self.folder / SETTINGS
        settings = validate(Settings, read_document(path), str(path))
        if (self.folder / METRICS).is_file():
            self._verify(SETTINGS, self._files)
        return settings

    @cached_property
    def metrics(self) -> Metrics:
        """The metrics of all seeds."""
        document = {key: value for key, value in self._document.items() if key != FILES}
        return validate(Metrics, {"run": self.name, **document}, str(self.folder / METRICS))

    @cached_property
    def _document(self) -> dict[str, Any]:
        """``metrics.json``."""
        path = self.folder / METRICS
        document = read_document(path)
        if document.get("format") != FORMAT or not isinstance(document.get(FILES), dict):
            raise RunError(
                f"{path} was written by another version of dartcli. Train the run again with "
                f"`dart train --config {self.folder / SETTINGS}`."
            )
        return document

    @property
    def _files(self) -> Mapping[str, str]:
        """File name -> SHA-256, of settings and seeds."""
        files: Mapping[str, str] = self._document[FILES]
        return files

    @cached_property
    def _seed_files(self) -> dict[int, Mapping[str, str]]:
        return {}

    def seed_files(self, seed: int) -> Mapping[str, str]:
        """Return file name -> SHA-256 of the files of ``seed``.

        Raises
        ------
        RunError
            If the document that lists them is corrupt.
        """
        if seed not in self._seed_files:
            name = f"{self.seed_folder(seed).name}/{METRICS}"
            self._verify(name, self._files)
            self._seed_files[seed] = read_document(self.folder / name)[FILES]
        return self._seed_files[seed]

    def identity(self, seed: int) -> str:
        """Return the hash of the settings and the data that ``seed`` was trained with."""
        self.seed_files(seed)  # verifies the document
        return str(read_document(self.seed_folder(seed) / METRICS)[IDENTITY])

    def _verify(self, name: str, files: Mapping[str, str], seed: int | None = None) -> None:
        """Raise RunError if a file of the run, or of a seed, is not the one that was written."""
        path = (self.folder if seed is None else self.seed_folder(seed)) / name
        mismatch = find_mismatch(path, files.get(name))
        if mismatch:
            raise RunError(self._explain_corrupt(f"{path}: {mismatch}"))

    def _explain_corrupt(self, found: object) -> str:
        cause = str(found).removeprefix("cannot read ").rstrip(".")
        return (
            f"{cause}. Repair the run with `dart doctor --repair`, then `dart resume {self.name}`."
        )

    def check(self) -> None:
        """Verify every file of the run.

        Raises
        ------
        DartError
            If one is missing or corrupt.
        """
        _ = self.settings, self.metrics
        for seed in self.seeds:
            files = self.seed_files(seed)
            for name in files:
                self._verify(name, files, seed)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, machine, and times; empty if they cannot be read."""
        try:
            return read_document(self.folder / ENVIRONMENT)
        except DartError:
            return {}

    def describe_speed(self) -> str | None:
        """Return the speed of its trainings for display; None if it was not recorded.

        ``environment.json`` has it for each seed; this is the median over them.
        """
        speeds = self.environment.get("speed")
        if not isinstance(speeds, dict) or not speeds:
            return None
        seconds, samples = (
            statistics.median(float(speed[key]) for speed in speeds.values())
            for key in ("seconds_per_epoch", "samples_per_second")
        )
        return f"{seconds:.3g} s per epoch, {samples:,.0f} samples per second"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that were trained."""
        return tuple(seed.seed for seed in self.metrics.seeds)

    def seed_folder(self, seed: int) -> Path:
        """Return the folder of one seed."""
        return self.folder / f"seed_{seed}"

    def history(self, seed: int) -> pl.DataFrame:
        """Return the epoch records of ``seed``: ``dartcli.training.epochs.HISTORY_COLUMNS``."""
        return self._table(seed, HISTORY)

    def iterations(self, seed: int) -> pl.DataFrame:
        """Return the iteration records of ``seed``.

        Columns: see :meth:`dartcli.training.recorder.Recorder.summary`.
        """
        return self._table(seed, ITERATIONS)

    def scores(self, seed: int) -> pl.DataFrame:
        """Return the scores of the reported weights.

        Columns: ``split`` (train, valid, test; only the positives of train), ``user``, ``item``,
        ``label``, ``noisy``, ``rating`` (null if the source has none), ``logit``, and
        ``user_positives``, ``item_positives``: training positives of the row's user and item.
        """
        return self._table(seed, SCORES)

    def snapshot(self, seed: int, iteration: int) -> pl.DataFrame:
        """Return the scores of the validation split after one iteration; columns as above."""
        known = self.snapshots(seed)
        if iteration not in known:
            kept = ", ".join(map(str, known)) or "none"
            raise RunError(
                f"{self.name}, seed {seed}: no snapshot of iteration {iteration} (snapshots: "
                f"{kept}). Train it again with `dart train --config {self.folder / SETTINGS} "
                f"--snapshot {iteration}`."
            )
        return self._table(seed, f"{SNAPSHOTS}/{iteration}.parquet")

    def snapshots(self, seed: int) -> list[int]:
        """Return the iterations with a snapshot of ``seed``, in order."""
        names = self.seed_files(seed)
        return sorted(int(Path(name).stem) for name in names if name.startswith(f"{SNAPSHOTS}/"))

    def weights(self, seed: int) -> dict[str, Tensor]:
        """Return the reported weights of ``seed``, on the CPU."""
        return self._load_weights(seed, MODEL)

    def identifying_weights(self, seed: int) -> dict[str, Tensor]:
        """Return the weights that know no trusted label: of the stage before the last, if any."""
        has_stages = IDENTIFIED in self.seed_files(seed)
        return self._load_weights(seed, IDENTIFIED if has_stages else MODEL)

    def _load_weights(self, seed: int, name: str) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self.seed_folder(seed) / name
        try:
            return load(read_verified(path, self.seed_files(seed).get(name)))
        except (DataError, SafetensorError) as error:
            raise RunError(self._explain_corrupt(error)) from error

    def _table(self, seed: int, name: str) -> pl.DataFrame:
        try:
            return read_table(self.seed_folder(seed) / name, self.seed_files(seed).get(name))
        except DataError as error:
            raise RunError(self._explain_corrupt(error)) from error


def _format_number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def load_model_weights(model: nn.Module, run: Run, seed: int) -> None:
    """Load the reported weights of one seed into ``model``.

    Raises
    ------
    RunError
        If they cannot be read or do not fit the model.
    """
    try:
        model.load_state_dict(run.weights(seed))
    except RuntimeError as error:
        raise RunError(
            f"the weights in {run.seed_folder(seed) / MODEL} do not fit the model and dataset of "
            f"{run.folder / SETTINGS}. Train the run again."
        ) from error
