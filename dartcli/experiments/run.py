"""The folder of one run: what is in it, how it is named, written and found.

::

    run_01/
      settings.json       the resolved settings; `--config` repeats them
      environment.json    program, libraries, machine, times
      metrics.json        the measures, and the hashes of settings and seeds; written last: without
                          it the run is not finished
      seed_0/
        metrics.json        measures of this seed, and the hash of each file beside it
        history.parquet     one row an epoch
        iterations.parquet  one row an iteration
        model.safetensors   the reported weights
        scores.parquet      the reported weights' scores: validation, test, training positives
        snapshots/          scores of validation after chosen iterations, where asked for
      checkpoints/        while it is trained, or was interrupted: where it stands
      analysis/           what `dart analyze` made

A document ends with a hash of itself, its seal. The measures vouch for settings and seeds, those of
a seed for its files, and every file is compared when it is read. Nothing is a pickle. Times are
only in ``environment.json``, so the rest of the folder is the same, byte for byte, whenever the run
is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from dartcli.errors import DartError, RunError
from dartcli.settings import Options, Settings, validate
from dartcli.storage.checksums import find_mismatch, read_document
from dartcli.storage.tables import READ_ERRORS
from dartcli.training.results import SeedMetrics, Spread

if TYPE_CHECKING:
    from torch import Tensor, nn

METRICS = "metrics.json"
SETTINGS = "settings.json"
ENVIRONMENT = "environment.json"
HISTORY = "history.parquet"
ITERATIONS = "iterations.parquet"
MODEL = "model.safetensors"
SCORES = "scores.parquet"
SNAPSHOTS = "snapshots"
CHECKPOINTS = "checkpoints"
IDENTITY: Final = "identity"
"""Key of the hash of settings and data in a seed's ``metrics.json``."""
FILES: Final = "files"
"""Key of the hashes in ``metrics.json``."""
UNSEALED: Final = (1, 2)
"""Formats without hashes."""
FORMAT: Final = 3
"""Version of the run folder. 1: no scores, no snapshots, fewer measures. 2: no hashes."""


class Metrics(Options):
    """The measures of a run: what ``dart train --json`` and ``dart eval --json`` print."""

    format: int = 1
    """Version of the run folder."""
    run: str
    """Name of the run."""
    dataset: str
    """Dataset."""
    protocol: str
    """Protocol in force."""
    model: str
    """Model."""
    strategy: str
    """Strategy."""
    seeds: tuple[SeedMetrics, ...]
    """One entry a seed."""
    summary: dict[str, Spread]
    """Each measure over the seeds."""
    interrupted: bool = False
    """True if the run was stopped before all its seeds were trained."""


@dataclass(frozen=True)
class Run:
    """A finished run on disk."""

    folder: Path

    @property
    def name(self) -> str:
        """Name of the run: that of its folder."""
        return self.folder.name

    @cached_property
    def settings(self) -> Settings:
        """The resolved settings."""
        path = self.folder / SETTINGS
        # those of a finished run are vouched for by its measures
        settings = validate(Settings, read_document(path, required=False), str(path))
        if (self.folder / METRICS).is_file():
            self._checked(SETTINGS, self._files)
        return settings

    @cached_property
    def metrics(self) -> Metrics:
        """The measures."""
        self._checked(SETTINGS, self._files)
        document = {key: value for key, value in self._document.items() if key != FILES}
        return validate(Metrics, {"run": self.name, **document}, str(self.folder / METRICS))

    @cached_property
    def _document(self) -> dict[str, Any]:
        """``metrics.json``."""
        path = self.folder / METRICS
        document = read_document(path, required=False)
        if document.get("format", 1) not in UNSEALED and not isinstance(document.get(FILES), dict):
            raise RunError(f"{path} has no hashes of the run's files; dart doctor helps.")
        return document

    @property
    def _files(self) -> Mapping[str, str] | None:
        """Name -> SHA-256 of settings and seeds; None in a run of an older version."""
        return self._document.get(FILES)

    def seed_files(self, seed: int) -> Mapping[str, str] | None:
        """Return name -> SHA-256 of the files of ``seed``; None in a run of an older version.

        Raises
        ------
        RunError
            If the document that lists them is not the one that was written.
        """
        if self._files is None:
            return None
        name = f"{self.seed_folder(seed).name}/{METRICS}"
        self._checked(name, self._files)
        files: Mapping[str, str] = read_document(self.folder / name)[FILES]
        return files

    def _checked(self, name: str, files: Mapping[str, str] | None, seed: int | None = None) -> Path:
        """Return the path of a file of the run, or of a seed; RunError where it is another now."""
        path = (self.folder if seed is None else self.seed_folder(seed)) / name
        if files is None:
            return path
        wrong = find_mismatch(path, files.get(name))
        if wrong:
            raise RunError(f"{path} is not what was written ({wrong}); {self._again}.")
        return path

    @property
    def _again(self) -> str:
        return f"make the run whole with dart doctor --repair and dart train --resume {self.name}"

    def check(self) -> None:
        """Compare every file of the run with what was written.

        Raises
        ------
        DartError
            If one is missing or another.
        """
        _ = self.settings, self.metrics
        for seed in self.seeds:
            files = self.seed_files(seed)
            for name in files or ():
                self._checked(name, files, seed)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Program, libraries, machine, times; empty where they cannot be read."""
        try:
            return read_document(self.folder / ENVIRONMENT, required=False)
        except DartError:
            return {}

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that were trained."""
        return tuple(seed.seed for seed in self.metrics.seeds)

    def seed_folder(self, seed: int) -> Path:
        """Return the folder of one seed."""
        return self.folder / f"seed_{seed}"

    def history(self, seed: int) -> pl.DataFrame:
        """Return the epoch records of ``seed``."""
        return self._table(seed, HISTORY)

    def iterations(self, seed: int) -> pl.DataFrame:
        """Return the iteration records of ``seed``; columns are described in ``trace.summary``."""
        return self._table(seed, ITERATIONS)

    def scores(self, seed: int) -> pl.DataFrame:
        """Return the scores of the reported weights.

        Columns: ``split`` (train, valid, test; of train only the positives), ``user``, ``item``,
        ``label``, ``noisy``, ``rating`` (null where the source has none), ``logit``, and
        ``user_positives``, ``item_positives``: training positives of the row's user and item.
        """
        return self._table(seed, SCORES)

    def snapshot(self, seed: int, iteration: int) -> pl.DataFrame:
        """Return the scores of the validation split after one iteration; columns as above."""
        known = self.snapshots(seed)
        if iteration not in known:
            kept = f"it kept {', '.join(map(str, known))}" if known else "it kept none"
            raise RunError(
                f"{self.name} kept no snapshot of iteration {iteration} (seed {seed}; {kept}); "
                f"train it again with dart train --config {self.folder / SETTINGS} "
                f"--snapshot {iteration}."
            )
        return self._table(seed, f"{SNAPSHOTS}/{iteration}.parquet")

    def snapshots(self, seed: int) -> list[int]:
        """Return the iterations of which ``seed`` kept a snapshot, in order."""
        files = self.seed_files(seed)
        if files is None:
            found = (self.seed_folder(seed) / SNAPSHOTS).glob("*.parquet")
            files = {f"{SNAPSHOTS}/{path.name}": "" for path in found}
        return sorted(int(Path(name).stem) for name in files if name.startswith(f"{SNAPSHOTS}/"))

    def weights(self, seed: int) -> dict[str, Tensor]:
        """Return the reported weights of ``seed``, on the CPU."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self._checked(MODEL, self.seed_files(seed), seed)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise RunError(
                f"cannot read the weights in {path} ({error}); train the run again with "
                f"dart train --config {self.folder / SETTINGS}."
            ) from error

    def _table(self, seed: int, name: str) -> pl.DataFrame:
        path = self._checked(name, self.seed_files(seed), seed)
        if name == SCORES and self.metrics.format < 2:
            raise RunError(
                f"{self.name} was trained by an older version, which kept no scores; train it "
                f"again with dart train --config {self.folder / SETTINGS}."
            )
        try:
            return pl.read_parquet(path, glob=False)
        except READ_ERRORS as error:
            raise RunError(
                f"cannot read {path} ({error}); train the run again with "
                f"dart train --config {self.folder / SETTINGS}."
            ) from error


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
            f"the weights in {run.seed_folder(seed) / MODEL} do not fit the model and dataset "
            f"that {run.folder / SETTINGS} describes; train the run again."
        ) from error
