"""Preview how a log will be read and split, by reading and splitting it without writing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from dartcli.data.columns import ITEM, LABEL, NOISY, USER
from dartcli.data.counts import warn_of_missing_negatives
from dartcli.data.encode import Encoded, encode, encode_rows
from dartcli.data.logs.labels import LabelCounts, apply_labels
from dartcli.data.logs.reader import read_log
from dartcli.data.logs.scan import expand_patterns, explain_unreadable, scan
from dartcli.data.logs.schema import LogOptions
from dartcli.errors import DataError
from dartcli.settings import PROTOCOLS, Protocol
from dartcli.storage.tables import READ_ERRORS

STRICT = PROTOCOLS["strict"]


def preview_log(
    options: LogOptions, protocol: Protocol = STRICT, split_seed: int = 0
) -> dict[str, Any]:
    """Read, check, and split a log without writing anything.

    Returns
    -------
    dict
        ``files``, ``columns`` (name -> type, as found), ``rows`` (the first five as they will be
        read), ``counts`` (``rows`` as read, ``duplicates`` among them that are dropped, ``users``,
        ``items``, and if known ``positives`` and ``noisy`` of the others), ``splits`` (name ->
        rows, sampled negatives included) and ``plan``, sentences that describe what will be done.

    Raises
    ------
    DataError
        As preparing the log would: if a file, column or value is missing or invalid, or the log
        cannot be split.
    """
    from dartcli.data.split import split

    files = expand_patterns(options.inputs, options)
    head, encoded, test = _read(options, files)
    encoded, labels, warnings = apply_labels(encoded, options.labels)
    schema, kept = scan(files, options).collect_schema(), encoded.interactions
    parts = split(
        kept,
        len(encoded.ids[USER]),
        len(encoded.ids[ITEM]),
        negatives_first=not protocol.resample_negatives,
        seed=split_seed,
        how=options.split,
        test=test,
    )
    positives = kept.filter(pl.col(LABEL) > 0)
    return {
        "files": [str(file) for file in files],
        "columns": {name: str(dtype) for name, dtype in schema.items()},
        "rows": [{k: to_json(v) for k, v in row.items()} for row in head.to_dicts()],
        "counts": _count(options, encoded, positives),
        "splits": {name: len(part) for name, part in parts.items()},
        "plan": [
            *_describe_rows(options, encoded),
            *(_describe_labels(file, one) for file, one in labels.items()),
            *warnings,
            *_describe_truth(options, positives),
            *_describe_split(options, kept, parts, protocol),
            _describe_fields(options),
        ],
    }


def _read(
    options: LogOptions, files: list[Path]
) -> tuple[pl.DataFrame, Encoded, pl.DataFrame | None]:
    """Return the first rows, the encoded interactions, and the clean test table, if any."""
    frame, names = read_log(options, options.inputs), options.column_names()
    where = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    try:
        head = frame.head(5).collect()
        encoded = encode(frame, where, names)
        test = None
        if options.test_clean:
            test = encode_rows(read_log(options, options.test_clean), encoded.ids, where, names)
    except READ_ERRORS as error:
        every = (
            [*files, *expand_patterns(options.test_clean, options)] if options.test_clean else files
        )
        raise DataError(explain_unreadable(where, every, error, options)) from error
    return head, encoded, test


def _count(options: LogOptions, encoded: Encoded, positives: pl.DataFrame) -> dict[str, int]:
    counts = {
        "rows": len(encoded.interactions) + encoded.duplicates_dropped,
        "duplicates": encoded.duplicates_dropped,
        "users": len(encoded.ids[USER]),
        "items": len(encoded.ids[ITEM]),
    }
    if options.label:
        counts["positives"] = len(positives)
    if options.noisy_if or options.labels:
        counts["noisy"] = int(positives[NOISY].sum())
    return counts


def to_json(value: object) -> object:
    """Return ``value``, or its text if JSON has no such type."""
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _describe_rows(options: LogOptions, encoded: Encoded) -> list[str]:
    kept, dropped = encoded.interactions, encoded.duplicates_dropped
    plan = []
    if dropped:
        plan.append(
            "if rows have the same user and item, the last one is kept: "
            f"{len(kept):,} of {len(kept) + dropped:,} rows remain."
        )
    impressions = int((kept[LABEL] == 0).sum())
    if impressions:
        plan.append(
            f"{len(kept) - impressions:,} rows are interactions, {impressions:,} are impressions "
            "without one; no negatives are sampled."
        )
    elif options.label:
        plan.append(
            f"every `{options.label}` is 1, so every row is an interaction; negatives are sampled "
            "uniformly."
        )
    else:
        plan.append("every row is an interaction; negatives are sampled uniformly.")
    return plan


def _describe_labels(file: str, counts: LabelCounts) -> str:
    """Return what a file of labels adds."""
    empty = f"; {counts.empty:,} rows have no answer" if counts.empty else ""
    return f"labels of {Path(file).name}: {counts.answered:,} interactions{empty}."


def _describe_truth(options: LogOptions, positives: pl.DataFrame) -> list[str]:
    condition = options.noisy_if
    if not (condition or options.labels):
        return ["no false positives are known: precision and recall cannot be computed."]
    false, unknown = int(positives[NOISY].sum()), positives[NOISY].null_count()
    known = len(positives) - unknown
    plan = []
    if unknown:
        null = f", because {condition} is null" if condition and not options.labels else ""
        plan.append(
            f"without ground truth{null}: {unknown:,} of the {len(positives):,} interactions."
        )
    if known and false in (0, known):
        share = "none" if not false else "all"
        found = f"{share} of the {known:,} interactions with ground truth are false positives"
        # with labels, the condition alone does not decide
        is_condition = condition and not options.labels
        cause = f": {condition} is {'never' if not false else 'always'} true. Check the condition"
        plan.append(f"{found}{cause if is_condition else ''}.")
    elif known:
        by = f" ({condition})" if condition else ""
        use = "to measure results"
        # a strategy such as `clean` refuses data of which it does not know everything
        if not unknown:
            use += ", and by strategies that need clean labels, such as `clean`"
        plan.append(
            f"known false positives{by}: {false:,} of the {known:,} interactions"
            f"{' with ground truth' if unknown else ''}. They are used {use}."
        )
    return plan


def _describe_split(
    options: LogOptions, kept: pl.DataFrame, parts: dict[str, pl.DataFrame], protocol: Protocol
) -> list[str]:
    shares = {
        "random": ("80% of the rows, chosen at random", "10%", "10%"),
        "temporal": (
            f"the first 80% of the rows by {options.time}",
            "the next 10%",
            "the last 10%",
        ),
        "leave-last-out": (
            "the other rows",
            "the row before the last of each user with three or more",
            f"each such user's last row by {options.time}",
        ),
    }
    train, valid, test = shares[options.split]
    if options.test_clean:
        # validation also gets what would have been for testing
        valid = {
            "random": "20%",
            "temporal": "the last 20%",
            "leave-last-out": "the last two rows of each user with three or more",
        }[options.split]
        test = "the files of --test-clean"
    plan = [f"split: train on {train}; validate on {valid}; test on {test}."]
    rows = ", ".join(f"{name} {len(part):,}" for name, part in parts.items())
    if (kept[LABEL] == 0).any():
        return [*plan, f"rows: {rows}."]
    anew = protocol.resample_negatives
    sampled = {name: part for name, part in parts.items() if not (anew and name == "train")}
    if options.test_clean:
        sampled.pop("test")
    plan += warn_of_missing_negatives("the log", sampled)
    included = f"{' and '.join(sampled)} include sampled negatives"
    return [*plan, f"rows: {rows}; {included}{', train gets new ones every epoch' * anew}."]


def _describe_fields(options: LogOptions) -> str:
    binned = [f"{name} ({options.bins} bins)" for name in options.numeric_fields]
    return f"fields of the model: {', '.join(['user', 'item', *options.fields, *binned])}."
