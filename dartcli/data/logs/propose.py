"""List the columns of a log, and propose which are the users and the items."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from dartcli.data.logs.preview import to_json
from dartcli.data.logs.scan import expand_patterns, explain_unreadable, scan
from dartcli.errors import DataError
from dartcli.storage.tables import READ_ERRORS

NAMES: Final = {
    "user": r"user|uid|member|customer|visitor|account|person|reader|listener|buyer|client|session",
    "item": r"item|iid|product|article|movie|film|song|track|book|video|content|sku|isbn|joke|news",
}
"""Role -> words that occur in the names of such columns; earlier ones are better evidence."""


def propose_columns(
    inputs: Sequence[str], user: str | None = None, item: str | None = None
) -> dict[str, Any]:
    """Return what the columns of a log contain, and which could be the users and items.

    Returns
    -------
    dict
        ``files``, ``columns`` (name -> type), ``distinct`` (name -> number of distinct values),
        ``rows`` (the first five), ``counts`` (``rows``), and ``proposed`` (``user`` and ``item``;
        null if no column has a name that says so).

    Raises
    ------
    DataError
        If a file is missing or cannot be read.
    """
    files = expand_patterns(inputs)
    frame = scan(files)
    schema = frame.collect_schema()
    plain = [name for name, dtype in schema.items() if not dtype.is_nested()]
    try:
        head = frame.head(5).collect()
        found = frame.select(pl.len().alias("\0rows"), pl.col(plain).n_unique()).collect()
    except READ_ERRORS as error:
        raise DataError(explain_unreadable(files[0].name, files, error)) from error
    distinct = found.row(0, named=True)
    rows = distinct.pop("\0rows")
    proposed = {"user": user, "item": item}
    ids = [
        name
        for name in plain
        if schema[name].is_integer() or schema[name] in (pl.String, pl.Boolean)
    ]
    for role, given in proposed.items():
        if given is None:
            taken = [name for name in proposed.values() if name]
            proposed[role] = _find_name(role, [name for name in ids if name not in taken])
    return {
        "files": [str(file) for file in files],
        "columns": {name: str(dtype) for name, dtype in schema.items()},
        "distinct": distinct,
        "rows": [{k: to_json(v) for k, v in row.items()} for row in head.to_dicts()],
        "counts": {"rows": rows},
        "proposed": proposed,
    }


def _find_name(role: str, names: Sequence[str]) -> str | None:
    """Return the column whose name says that it is of ``role``; None if there is none."""
    for word in NAMES[role].split("|"):
        matching = [name for name in names if re.search(word, name, re.IGNORECASE)]
        if matching:
            return min(matching, key=lambda name: ("id" not in name.lower(), len(name)))
    initials = [name for name in names if name.lower() in (role[0], f"{role[0]}_id")]
    return initials[0] if initials else None
