"""Divide a sweep among machines, and put the parts together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from dartcli.errors import RunError, UsageError
from dartcli.experiments.sweep import (
    ROWS,
    Sweep,
    check_same_data,
    check_tuning,
    claim_sweep,
    find_sweep,
)


def parse_shard(text: str) -> tuple[int, int]:
    """Parse ``"2/8"``, the second of eight parts; UsageError if the text is anything else."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(
            f"invalid value for `--shard`: {text!r}. Use I/N, such as 2/8 for the second of eight "
            "parts."
        )
    return number, count


def merge_sweeps(name: str, folders: Iterable[Path]) -> Sweep:
    """Add to the sweep ``name`` what it lacks of the sweeps in ``folders``, and return it.

    Raises UsageError if one is no sweep, has another protocol, or was tuned unlike the others, and
    RunError if they contradict.
    """
    parts = [find_sweep(str(folder.resolve())) for folder in folders]
    for part in parts:
        document = part.document
        merged = claim_sweep(name, document.protocol)
        cells = {(one.dataset, one.model) for one in document.entries}
        check_tuning(merged, cells, {(one.dataset, one.model) for one in document.tuned})
        keys = sorted(path.stem for path in (part.folder / ROWS).glob("*.json"))
        rows = {key: row for key in keys if (row := part.row(key)) is not None}
        before = {key: row for key in rows if (row := merged.row(key)) is not None}
        check_same_data(merged, [*rows.values(), *before.values()])
        for key, row in rows.items():
            found, known = row.metrics, before.get(key, row).metrics
            # another processor may round differently
            if abs((found.test_auc or 0.0) - (known.test_auc or 0.0)) > 1e-3:
                raise RunError(
                    f"row {key} of {part.folder} has another test AUC ({found.test_auc}) than "
                    f"that of sweep {name} ({known.test_auc}), with the same settings and data. "
                    "Remove one of the two files."
                )
            if key not in before:
                merged.write(row)
        merged.extend(document.entries, document.tuned)
    return merged
