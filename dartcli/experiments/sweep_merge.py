"""Divide a sweep among machines, and put the parts together."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dartcli.errors import RunError, UsageError
from dartcli.experiments.sweep import DOCUMENT, ROWS, Row, Sweep, check_same_data, claim_sweep

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One of several parts of equal size, in which the trainings of a sweep are dealt out."""

    number: int
    """From 1."""
    count: int
    """Number of parts."""

    def select(self, trainings: Sequence[T]) -> Sequence[T]:
        """Return every ``count``-th training; the parts are disjoint, and together they are all."""
        return trainings[self.number - 1 :: self.count]


def parse_shard(text: str) -> Shard:
    """Parse ``"2/8"``, the second of eight parts.

    Raises
    ------
    UsageError
        If the text is anything else, or there is no such part.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    shard = Shard(int(match[1]), int(match[2])) if match else Shard(0, 0)
    if not 1 <= shard.number <= shard.count:
        raise UsageError(
            f"invalid value for `--shard`: {text!r}. Use I/N, such as 2/8 for the second of eight "
            "parts."
        )
    return shard


def merge_sweeps(name: str, folders: Iterable[Path]) -> Sweep:
    """Add the trainings of the sweeps in ``folders`` to the sweep ``name``, and return it.

    Rows are written one by one, and only if they are missing, so merging again, or after an
    interruption, gives the same sweep.

    Raises
    ------
    UsageError
        If a folder is not a sweep, or has another protocol.
    RunError
        If two parts were trained on different data, or contradict each other.
    DataError
        If the document of a part is corrupt.
    """
    parts = [Sweep(folder) for folder in folders]
    for part in parts:
        if not (part.folder / DOCUMENT).is_file():
            raise UsageError(
                f"{part.folder} is not a sweep: it has no {DOCUMENT}. Give the folder of a sweep, "
                "such as `sweeps/sweep-strict` under the DART_HOME of another machine."
            )
    merged = claim_sweep(name, parts[0].document.protocol)
    for part in parts:
        _add(part, merged)
    return Sweep(merged.folder)


def _add(part: Sweep, merged: Sweep) -> None:
    if part.document.protocol != merged.document.protocol:
        raise UsageError(
            f"{part.folder} uses protocol {part.document.protocol}, and sweep {merged.name} "
            f"{merged.document.protocol}. Merge it into another `--name`."
        )
    keys = sorted(path.stem for path in (part.folder / ROWS).glob("*.json"))
    found = {key: row for key in keys if (row := part.row(key)) is not None}
    if len(found) < len(keys):
        logger.warning(f"{len(keys) - len(found):,} rows of {part.folder} cannot be read; skipped")
    known = {key: merged.row(key) for key in found}
    check_same_data(merged, [*found.values(), *filter(None, known.values())])
    for key, row in found.items():
        before = known[key]
        if before is None:
            merged.write(row)
        elif not _is_same(before, row):
            raise RunError(
                f"row {key} of {part.folder} has another test AUC ({row.metrics.test_auc}) than "
                f"that of sweep {merged.name} ({before.metrics.test_auc}), with the same settings "
                "and data. Remove one of the two files."
            )
    merged.extend(part.document.entries, part.document.tuned)


def _is_same(one: Row, other: Row) -> bool:
    """Return whether two trainings agree up to the rounding of different processors."""
    first, second = one.metrics.test_auc, other.metrics.test_auc
    return first == second or (
        first is not None and second is not None and abs(first - second) < 1e-3
    )
