"""Preview how a log would be read."""

from __future__ import annotations

from typing import Any

import polars as pl

from dartcli.data.columns import ITEM, LABEL, NOISY, USER
from dartcli.data.logs.reader import read_log
from dartcli.data.logs.scan import expand_patterns, explain_unreadable, scan
from dartcli.data.logs.schema import LogOptions
from dartcli.errors import DataError
from dartcli.storage.tables import READ_ERRORS


def describe_log(options: LogOptions) -> dict[str, Any]:
    """Return how the log would be understood; see :func:`dartcli.steps.describe`."""
    files = expand_patterns(options.inputs)
    frame = read_log(options, options.inputs)
    schema = scan(files).collect_schema()
    try:
        head = frame.head(5).collect()
        counts = frame.select(
            pl.len().alias("rows"),
            pl.col(USER).n_unique().alias("users"),
            pl.col(ITEM).n_unique().alias("items"),
            *([pl.col(LABEL).sum().cast(pl.Int64).alias("positives")] if options.label else []),
            *([pl.col(NOISY).sum().alias("noisy")] if options.noisy_if else []),
        ).collect(engine="streaming")
    except READ_ERRORS as error:
        raise DataError(explain_unreadable(files[0], error)) from error
    found = counts.to_dicts()[0]
    return {
        "files": [str(file) for file in files],
        "columns": {name: str(dtype) for name, dtype in schema.items()},
        "rows": [{k: _plain(v) for k, v in row.items()} for row in head.to_dicts()],
        "counts": found,
        "plan": _plan(options, found),
    }


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _plan(options: LogOptions, found: dict[str, Any]) -> list[str]:
    """Say in sentences what would happen."""
    shares = {
        "random": "80 % of the rows, at random, to train on; 10 % to validate, 10 % to test",
        "temporal": f"the first 80 % by {options.time} to train on; the last 10 % to test",
        "leave-last-out": f"each user's last interaction by {options.time} to test, the one before "
        "to validate",
    }
    plan = [f"split: {shares[options.split]}."]
    if options.label:
        plan.append(
            f"{found['positives']:,} rows are interactions, {found['rows'] - found['positives']:,} "
            "were shown without one; no negatives are sampled."
        )
    else:
        plan.append("every row is an interaction; negatives are sampled, uniform over the pairs.")
    if options.noisy_if:
        plan.append(
            f"{found['noisy'] or 0:,} rows are known false positives ({options.noisy_if}): for "
            "measurement only, never trained on."
        )
    else:
        plan.append("no false positives are known: nothing can be said of precision and recall.")
    further = [
        *options.fields,
        *(f"{name} (in {options.bins} bins)" for name in options.numeric_fields),
    ]
    plan.append(f"the model sees user, item{''.join(f', {name}' for name in further)}.")
    plan.append("of rows with the same user and item the last one counts.")
    return plan
