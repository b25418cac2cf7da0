"""Preview how a log will be read and split."""

from __future__ import annotations

from typing import Any

from dartcli.data.columns import ITEM, LABEL, NOISY, USER
from dartcli.data.encode import read_rows
from dartcli.data.logs.reader import read_log
from dartcli.data.logs.scan import expand_patterns, explain_unreadable, scan
from dartcli.data.logs.schema import LogOptions
from dartcli.errors import DataError
from dartcli.storage.tables import READ_ERRORS


def preview_log(options: LogOptions) -> dict[str, Any]:
    """Read and check a log without preparing anything.

    Returns
    -------
    dict
        ``files``, ``columns`` (name -> type, as found), ``rows`` (the first five as they will be
        read), ``counts`` (``rows``, ``users``, ``items``, and if known ``positives``, ``noisy``)
        and ``plan``, sentences that describe what will be done.

    Raises
    ------
    DataError
        If a file, column or value is missing or invalid.
    """
    files = expand_patterns(options.inputs, options)
    frame = read_log(options, options.inputs)
    where = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    try:
        head = frame.head(5).collect()
        rows = read_rows(frame, where, options.column_names())
    except READ_ERRORS as error:
        raise DataError(explain_unreadable(where, files, error, options)) from error
    counts = {"rows": len(rows), "users": rows[USER].n_unique(), "items": rows[ITEM].n_unique()}
    if options.label:
        counts["positives"] = int(rows[LABEL].sum())
    if options.noisy_if:
        counts["noisy"] = int(rows[NOISY].sum())
    schema = scan(files, options).collect_schema()
    return {
        "files": [str(file) for file in files],
        "columns": {name: str(dtype) for name, dtype in schema.items()},
        "rows": [{k: _to_json(v) for k, v in row.items()} for row in head.to_dicts()],
        "counts": counts,
        "plan": _describe_plan(options, counts),
    }


def _to_json(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _describe_plan(options: LogOptions, counts: dict[str, int]) -> list[str]:
    shares = {
        "random": "train on 80% of the rows, chosen at random; validate and test on 10% each",
        "temporal": f"train on the first 80% by {options.time}; test on the last 10%",
        "leave-last-out": f"test on each user's last interaction by {options.time}, validate on "
        "the one before",
    }
    plan = [f"split: {shares[options.split]}."]
    if options.label:
        plan.append(
            f"{counts['positives']:,} rows are interactions, "
            f"{counts['rows'] - counts['positives']:,} are impressions without one; no negatives "
            "are sampled."
        )
    else:
        plan.append("every row is an interaction; negatives are sampled uniformly.")
    if options.noisy_if:
        plan.append(
            f"{counts['noisy']:,} rows are known false positives ({options.noisy_if}); this is "
            "used to measure results, and by the reference strategies (`clean`)."
        )
    else:
        plan.append("no false positives are known: precision and recall cannot be computed.")
    binned = [f"{name} ({options.bins} bins)" for name in options.numeric_fields]
    plan.append(f"fields of the model: {', '.join(['user', 'item', *options.fields, *binned])}.")
    plan.append("if rows have the same user and item, the last one is kept.")
    return plan
