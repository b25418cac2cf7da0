"""Checkpoints: a training in files, so that it can go on as if it had never stopped.

::

    checkpoints/seed_0/
      000000001280/         by the steps taken
        state.safetensors     weights, Adam, strategy, counters, generator, trace of this epoch
        epochs.parquet        one row a finished epoch
        iterations.parquet    one row an iteration of those
        checkpoint.json       where the training stands, and the hash of each file; written last

A checkpoint is a folder that appears whole, is read back and compared before an older one goes,
and is only believed if every hash fits.
"""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
import torch
from pydantic import ValidationError
from torch import Tensor

from dartcli.errors import DartError, RunError, StoppedError, UsageError
from dartcli.settings import Options
from dartcli.storage.atomic import atomic_directory
from dartcli.storage.checksums import find_mismatch, hash_file, read_document, write_document
from dartcli.storage.tables import write_table, write_tensors
from dartcli.training.epochs import HISTORY_COLUMNS, EpochRecord, Position, epoch_table
from dartcli.training.program import add_prefix, strip_prefix

logger = logging.getLogger(__name__)

STATE = "state.safetensors"
EPOCHS = "epochs.parquet"
ITERATIONS = "iterations.parquet"
DOCUMENT = "checkpoint.json"
FILES: Final = (STATE, EPOCHS, ITERATIONS)
KEPT: Final = 2
"""The newest, and the one before it."""
SCALARS: Final[Mapping[str, type[pl.DataType]]] = {
    **HISTORY_COLUMNS,
    "seconds": pl.Float64,
    "engine": pl.String,
    "remark": pl.String,
}
"""Columns of ``epochs.parquet``: the fields of an epoch's record that are a number or a word."""


class CheckpointDocument(Options):
    """``checkpoint.json``."""

    format: int
    """Version of the folder."""
    identity: str
    """Hash of the settings and of the data that the training began with."""
    epoch: int
    """Being trained, from 1."""
    step: int
    """Steps taken in it."""
    files: dict[str, str]
    """Name -> SHA-256."""


FORMAT: Final = 1


@dataclass(frozen=True)
class Interval:
    """How often a checkpoint is written; whichever is given."""

    epochs: int | None = None
    """After every so many epochs."""
    seconds: float | None = None
    """After the step at which so many seconds have passed."""


def parse_interval(text: str) -> Interval:
    """Turn ``"5ep"``, ``"90s"``, ``"10m"``, ``"1h"`` or ``"off"`` into :class:`Every`.

    Raises
    ------
    UsageError
        If it is nothing of the kind, or zero.
    """
    if text == "off":
        return Interval()
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ep|s|m|h)", text.strip())
    if match is None or float(match[1]) <= 0 or (match[2] == "ep" and "." in match[1]):
        raise UsageError(
            f"--checkpoint-every takes epochs such as 5ep, a time such as 90s, 10m or 1h, or off, "
            f"but got {text!r}."
        )
    if match[2] == "ep":
        return Interval(epochs=int(match[1]))
    return Interval(seconds=float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]])


class CheckpointWriter:
    """Decides when a training is written down, writes it, and ends it when it is asked to.

    Parameters
    ----------
    folder
        Holds one folder a checkpoint.
    identity
        Hash of settings and data.
    every
        How often.
    stopping
        Returns the number of the signal that asked the training to end, or 0.
    resume
        Words that say how to go on, for the sentence at the end.
    """

    def __init__(
        self,
        folder: Path,
        identity: str,
        every: Interval,
        stopping: Callable[[], int] = lambda: 0,
        resume: str = "",
    ) -> None:
        self.folder, self.identity, self.every = folder, identity, every
        self.stopping, self.resume = stopping, resume
        self._last = time.monotonic()

    def due(self, epoch: int | None = None) -> bool:
        """Return whether to write now; ``epoch`` is the number of an epoch that just ended."""
        if self.stopping():
            return True
        if epoch is not None and self.every.epochs is not None:
            return epoch % self.every.epochs == 0
        return (
            self.every.seconds is not None and time.monotonic() - self._last >= self.every.seconds
        )

    def kept(self) -> str:
        """Return words that say where the newest checkpoint is."""
        newest = next(iter(_folders(self.folder)), None)
        if newest is None:
            return "no checkpoint was written before it"
        return f"the last good checkpoint is {newest}, of iteration {int(newest.name):,}"

    def keep(self, position: Position) -> None:
        """Write a checkpoint, look at what was written, and remove all but the one before it.

        Raises
        ------
        StoppedError
            After writing, if the training was asked to end.
        DartError
            If it cannot be written.
        """
        place = self.folder / f"{position.iteration:012d}"
        write(place, position, self.identity)
        _verified(place)
        for old in _folders(self.folder)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        self._last = time.monotonic()
        number = self.stopping()
        if number:
            raise StoppedError(
                f"stopped after iteration {position.iteration:,} (epoch {position.epoch}); "
                f"{self.resume}.",
                number,
            )


def write(place: Path, position: Position, identity: str) -> None:
    """Write ``position`` to the folder ``place``, whole or not at all."""
    tensors = {name: _plain(value) for name, value in position.tensors.items()}
    for record in position.finished:
        past = {number: _plain(logits) for number, logits in record.snapshots.items()}
        tensors |= add_prefix(f"snapshots.{record.epoch}.", past)
    with atomic_directory(place) as folder:
        write_tensors(tensors, folder / STATE)
        write_table(epoch_table(position.finished, SCALARS), folder / EPOCHS)
        iterations = [record.iterations for record in position.finished]
        write_table(pl.concat(iterations) if iterations else pl.DataFrame(), folder / ITERATIONS)
        document = CheckpointDocument(
            format=FORMAT,
            identity=identity,
            epoch=position.epoch,
            step=position.step,
            files={name: hash_file(folder / name) for name in FILES},
        )
        write_document(folder / DOCUMENT, document.model_dump())


def load_latest(folder: Path, identity: str, device: torch.device) -> Position | None:
    """Return the newest checkpoint in ``folder`` that can be believed; None if there is none.

    Raises
    ------
    RunError
        If one was written for other settings or other data.
    """
    for place in _folders(folder):
        try:
            document = _verified(place)
            _check_identity(place, document, identity)
            return _read(place, document, device)
        except _OtherError:
            raise
        except DartError as error:
            logger.warning(f"{error} An older checkpoint is used, or the seed's beginning.")
    return None


class _OtherError(RunError):
    """A checkpoint of another training: no reason to look at older ones."""


def _check_identity(place: Path, document: CheckpointDocument, identity: str) -> None:
    if document.identity != identity:
        raise _OtherError(
            f"the checkpoint {place} was written for other settings or data than there are now; "
            "restore them, or remove the run and train it again."
        )


def _folders(folder: Path) -> list[Path]:
    """Return the folders of checkpoints, the newest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if re.fullmatch(r"\d{12}", path.name)]
    return sorted(found, reverse=True)


def _verified(place: Path) -> CheckpointDocument:
    broken = f"the checkpoint {place} is not what was written"
    try:
        document = CheckpointDocument.model_validate(read_document(place / DOCUMENT))
    except ValidationError as error:
        raise RunError(f"{broken} ({DOCUMENT} has other contents).") from error
    if document.format != FORMAT or set(document.files) != set(FILES):
        raise RunError(f"{broken} ({DOCUMENT} is of another version of this program).")
    for name, digest in document.files.items():
        wrong = find_mismatch(place / name, digest)
        if wrong:
            raise RunError(f"{broken} ({name}: {wrong}).")
    return document


def _read(place: Path, document: CheckpointDocument, device: torch.device) -> Position:
    from safetensors.torch import load_file

    stored = load_file(place / STATE)
    iterations = pl.read_parquet(place / ITERATIONS, glob=False)
    finished = [
        _record(row, iterations, stored, device)
        for row in pl.read_parquet(place / EPOCHS, glob=False).iter_rows(named=True)
    ]
    tensors = {
        name: value if name == "random" else value.to(device)
        for name, value in stored.items()
        if not name.startswith("snapshots.")
    }
    return Position(
        epoch=document.epoch, step=document.step, tensors=tensors, finished=tuple(finished)
    )


def _record(
    row: Mapping[str, Any],
    iterations: pl.DataFrame,
    stored: Mapping[str, Tensor],
    device: torch.device,
) -> EpochRecord:
    past = strip_prefix(stored, f"snapshots.{row['epoch']}.")
    return EpochRecord(
        **row,
        iterations=iterations.filter(pl.col("epoch") == row["epoch"]),
        snapshots={number: past[str(number)].to(device) for number in sorted(map(int, past))},
    )


def _plain(value: Tensor) -> Tensor:
    """Return a copy on the CPU that shares memory with nothing."""
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)
