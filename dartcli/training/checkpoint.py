"""Checkpoints: files from which a training resumes as if it had never stopped.

::

    checkpoints/seed_0/
      000000001280/         named after the iterations so far
        state.safetensors     weights, Adam, strategy, counters, random state, record of this epoch
        epochs.parquet        one row per finished epoch
        iterations.parquet    one row per iteration of those
        checkpoint.json       the position, and the checksum of each file; written last

A checkpoint appears as a whole folder and is read back and verified before an older one is removed.
It is used only if every checksum matches.
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

FORMAT: Final = 3
STATE = "state.safetensors"
EPOCHS = "epochs.parquet"
ITERATIONS = "iterations.parquet"
DOCUMENT = "checkpoint.json"
FILES: Final = (STATE, EPOCHS, ITERATIONS)
KEPT: Final = 2
"""Checkpoints kept: the newest and the one before it."""
SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
SCALARS: Final[Mapping[str, type[pl.DataType]]] = {
    **HISTORY_COLUMNS,
    "seconds": pl.Float64,
    "engine": pl.String,
    "remark": pl.String,
    "stage": pl.Int64,
    "stages": pl.Int64,
}
"""Columns of ``epochs.parquet``: the fields of an epoch record that are a number or text."""


class CheckpointDocument(Options):
    """``checkpoint.json``."""

    format: int
    """Version of the folder."""
    identity: str
    """Hash of the settings and the data of the training."""
    stage: int
    """Current stage, from 1."""
    epoch: int
    """Current epoch, from 1."""
    step: int
    """Steps taken in it."""
    files: dict[str, str]
    """File name -> SHA-256."""


@dataclass(frozen=True)
class Interval:
    """How often to write a checkpoint: by epochs, by time, or never if both are None."""

    epochs: int | None = None
    """After this many epochs."""
    seconds: float | None = None
    """After the first step that ends this many seconds after the last checkpoint."""


def parse_interval(text: str) -> Interval:
    """Parse ``"5ep"``, ``"90s"``, ``"10m"``, ``"1h"``, or ``"off"``.

    Raises
    ------
    UsageError
        If the text is anything else, or zero.
    """
    if text == "off":
        return Interval()
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ep|s|m|h)", text.strip())
    if match is None or float(match[1]) <= 0 or (match[2] == "ep" and "." in match[1]):
        raise UsageError(
            f"invalid value for `--checkpoint-every`: {text!r}. Use epochs (`5ep`), a time (`90s`, "
            "`10m`, `1h`), or `off`."
        )
    if match[2] == "ep":
        return Interval(epochs=int(match[1]))
    return Interval(seconds=float(match[1]) * SECONDS[match[2]])


class CheckpointWriter:
    """Decides when to write a checkpoint, writes it, and stops the training if asked to.

    Parameters
    ----------
    folder
        Holds one folder per checkpoint; None only stops if asked to, and writes nothing.
    identity
        Hash of the settings and the data.
    interval
        How often to write.
    stop_signal
        Returns the number of the signal that asked the training to stop, or 0.
    resume_hint
        Sentence for the message after stopping, such as "Resume with `dart resume run_03`."
    """

    def __init__(
        self,
        folder: Path | None,
        identity: str,
        interval: Interval,
        stop_signal: Callable[[], int] = lambda: 0,
        resume_hint: str = "",
    ) -> None:
        self.folder, self.identity, self.interval = folder, identity, interval
        self.stop_signal, self.resume_hint = stop_signal, resume_hint
        self._last = time.monotonic()

    def is_due(self, epoch: int | None = None) -> bool:
        """Return whether to write now; ``epoch`` is the number of an epoch that just ended."""
        if self.stop_signal():
            return True
        if self.folder is None:
            return False
        if epoch is not None and self.interval.epochs is not None:
            return epoch % self.interval.epochs == 0
        seconds = self.interval.seconds
        return seconds is not None and time.monotonic() - self._last >= seconds

    def describe_latest(self) -> str:
        """Return a sentence that names the newest checkpoint."""
        newest = next(iter(_list_folders(self.folder)), None) if self.folder else None
        if newest is None:
            return "No checkpoint was written before."
        return f"The latest checkpoint is {newest} (iteration {int(newest.name):,})."

    def write(self, position: Position) -> None:
        """Write a checkpoint, verify it, and remove all older ones but the one before it.

        Raises
        ------
        StoppedError
            After writing, if the training was asked to stop.
        DartError
            If writing fails.
        """
        if self.folder is not None:
            place = self.folder / f"{position.iteration:012d}"
            write_checkpoint(place, position, self.identity)
            _verify(place)
            for old in _list_folders(self.folder)[KEPT:]:
                shutil.rmtree(old, ignore_errors=True)
        self._last = time.monotonic()
        number = self.stop_signal()
        if number:
            raise StoppedError(
                f"stopped after iteration {position.iteration:,} (epoch {position.epoch}). "
                f"{self.resume_hint}".rstrip(),
                number,
            )


def write_checkpoint(place: Path, position: Position, identity: str) -> None:
    """Write ``position`` to the folder ``place`` atomically."""
    tensors = {name: _detach(value) for name, value in position.tensors.items()}
    for record in position.finished:
        past = {number: _detach(logits) for number, logits in record.snapshots.items()}
        tensors |= add_prefix(f"snapshots.{record.stage}.{record.epoch}.", past)
    with atomic_directory(place) as folder:
        write_tensors(tensors, folder / STATE)
        write_table(epoch_table(position.finished, SCALARS), folder / EPOCHS)
        iterations = [
            record.iterations.with_columns(pl.lit(record.stage).alias("stage"))
            for record in position.finished
        ]
        write_table(pl.concat(iterations) if iterations else pl.DataFrame(), folder / ITERATIONS)
        document = CheckpointDocument(
            format=FORMAT,
            identity=identity,
            stage=position.stage,
            epoch=position.epoch,
            step=position.step,
            files={name: hash_file(folder / name) for name in FILES},
        )
        write_document(folder / DOCUMENT, document.model_dump())


def load_latest(folder: Path, identity: str, device: torch.device) -> Position | None:
    """Return the newest valid checkpoint in ``folder``, or None if there is none.

    A corrupt checkpoint is logged as a warning, and the one before it is used.

    Raises
    ------
    RunError
        If a checkpoint belongs to different settings or data.
    """
    for place in _list_folders(folder):
        try:
            document = _verify(place)
            position = _read(place, document, device)
        except DartError as error:
            logger.warning(f"{error} Falling back to the checkpoint before it, if there is one.")
            continue
        if document.identity != identity:
            raise RunError(
                f"checkpoint {place} belongs to different settings or data. Restore them, or "
                "remove the run with `dart runs remove` and train it again."
            )
        return position
    return None


def _list_folders(folder: Path) -> list[Path]:
    """Return the folders of checkpoints, newest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if re.fullmatch(r"\d{12}", path.name)]
    return sorted(found, reverse=True)


def _verify(place: Path) -> CheckpointDocument:
    """Return the document of the checkpoint ``place``; RunError if a checksum does not match."""
    corrupt = f"checkpoint {place} is corrupt"
    try:
        document = CheckpointDocument.model_validate(read_document(place / DOCUMENT))
    except ValidationError as error:
        raise RunError(f"{corrupt}: invalid {DOCUMENT}.") from error
    if document.format != FORMAT or set(document.files) != set(FILES):
        raise RunError(f"{corrupt}: {DOCUMENT} was written by another version of dartcli.")
    for name, digest in document.files.items():
        mismatch = find_mismatch(place / name, digest)
        if mismatch:
            raise RunError(f"{corrupt}: {name}: {mismatch}.")
    return document


def _read(place: Path, document: CheckpointDocument, device: torch.device) -> Position:
    from safetensors.torch import load_file

    stored = load_file(place / STATE)
    iterations = pl.read_parquet(place / ITERATIONS, glob=False)
    finished = [
        _read_record(row, iterations, stored, device)
        for row in pl.read_parquet(place / EPOCHS, glob=False).iter_rows(named=True)
    ]
    tensors = {
        # the state of a random generator stays on the CPU
        name: value if name == "random" else value.to(device)
        for name, value in stored.items()
        if not name.startswith("snapshots.")
    }
    return Position(
        document.epoch, document.step, tensors, finished=tuple(finished), stage=document.stage
    )


def _read_record(
    row: Mapping[str, Any],
    iterations: pl.DataFrame,
    stored: Mapping[str, Tensor],
    device: torch.device,
) -> EpochRecord:
    past = strip_prefix(stored, f"snapshots.{row['stage']}.{row['epoch']}.")
    own = (pl.col("stage") == row["stage"]) & (pl.col("epoch") == row["epoch"])
    return EpochRecord(
        **row,
        iterations=iterations.filter(own).drop("stage"),
        snapshots={number: past[str(number)].to(device) for number in sorted(map(int, past))},
    )


def _detach(value: Tensor) -> Tensor:
    """Return a copy on the CPU that shares memory with nothing."""
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)
