"""Trusted labels: answers to whether a user wanted an item, from files of a user."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl

from dartcli.data.columns import ITEM, LABEL, NOISY, USER, WANTED
from dartcli.data.encode import CODE, RAW, SHOWN, Encoded
from dartcli.data.logs.text import open_text
from dartcli.errors import DataError, first_line
from dartcli.settings import Options
from dartcli.storage import paths
from dartcli.storage.atomic import os_reason
from dartcli.storage.checksums import read_document, write_document
from dartcli.storage.tables import READ_ERRORS

LINE: Final = "line"
REQUIRED: Final = (USER, ITEM, WANTED)


class LabelCounts(Options):
    """What a file of labels contains."""

    rows: int
    """Rows."""
    answered: int
    """Interactions that it labels."""
    empty: int
    """Rows without an answer."""
    contradicting: int
    """Rows whose user and item have different answers; these are ignored."""
    unknown: int
    """Rows with an answer whose user and item have no interaction in the dataset."""


def load_labels(dataset: str) -> tuple[str, ...]:
    """Return the registered files of labels of ``dataset``, in the order in which they apply.

    Raises
    ------
    DataError
        If their list is corrupt.
    """
    path = _label_path(dataset)
    return tuple(read_document(path)["files"]) if path.is_file() else ()


def register_labels(dataset: str, files: Sequence[str]) -> None:
    """Use ``files`` whenever ``dataset`` is prepared from now on; none forgets those before."""
    if files:
        write_document(_label_path(dataset), {"files": list(files)})
    else:
        _label_path(dataset).unlink(missing_ok=True)


def add_labels(dataset: str, files: Sequence[str]) -> tuple[str, ...]:
    """Return the registered files of ``dataset``, and then ``files``, each once.

    Raises
    ------
    DataError
        If one of ``files`` is invalid, which is found here before anything is prepared.
    """
    for file in files:
        read_labels(Path(file))
    return (*(file for file in load_labels(dataset) if file not in files), *dict.fromkeys(files))


def _label_path(dataset: str) -> Path:
    return paths.home() / "labels" / f"{dataset}.json"


def apply_labels(
    encoded: Encoded, files: Sequence[str]
) -> tuple[Encoded, dict[str, LabelCounts], tuple[str, ...]]:
    """Set ``noisy`` of labeled interactions, and report what cannot be used.

    Parameters
    ----------
    encoded
        The interactions. Rows with label 0 are not changed.
    files
        Parquet or CSV files as :func:`read_labels` reads them. If several label an interaction,
        the last one counts.

    Returns
    -------
    encoded : Encoded
    counts : dict
        File -> what it contains.
    warnings : tuple of str
        Contradictions, and pairs without an interaction, by line number.

    Raises
    ------
    DataError
        If a file is invalid, or labels no interaction.
    """
    table, counts, warnings = encoded.interactions, {}, []
    # a field of a log may be named like the column of the answers
    answer = f"\0{WANTED}"
    for file in files:
        labels, counts[file], found = match_labels(Path(file), table, encoded.ids)
        warnings += found
        table = (
            table.join(
                labels.rename({WANTED: answer}), on=[USER, ITEM], how="left", maintain_order="left"
            )
            .with_columns(pl.coalesce(~pl.col(answer), NOISY).alias(NOISY))
            .drop(answer)
        )
    return replace(encoded, interactions=table), counts, tuple(warnings)


def match_labels(
    path: Path, interactions: pl.DataFrame, ids: Mapping[str, pl.DataFrame]
) -> tuple[pl.DataFrame, LabelCounts, list[str]]:
    """Return the usable answers of a file, its counts, and what is wrong with the others.

    Returns
    -------
    answers : DataFrame
        ``user`` and ``item`` (codes) and ``wanted``, one row per pair.
    counts : LabelCounts
    warnings : list of str

    Raises
    ------
    DataError
        As for :func:`apply_labels`.
    """
    table = read_labels(path)
    given = table.drop_nulls(WANTED)
    if given.is_empty():
        raise DataError(
            f"{path} has no answers: column `{WANTED}` is empty in all {len(table):,} rows. Write "
            "1 (wanted) or 0 (not wanted)."
        )
    pairs = interactions.filter(pl.col(LABEL) > 0).select(USER, ITEM)
    coded = given.with_columns(_find_codes(given[name], ids[name]) for name in (USER, ITEM))
    known = coded.join(pairs, on=[USER, ITEM], how="semi")
    unknown = coded.join(known, on=LINE, how="anti")
    is_clear = pl.col(WANTED).n_unique().over(USER, ITEM) == 1
    differ, answers = known.filter(~is_clear), known.filter(is_clear).unique([USER, ITEM])
    if known.is_empty():
        raise DataError(
            f"{path} labels no interaction: the user and item of {_list_places(path, unknown)} "
            "have none in the dataset. Give the raw ids of the source."
        )
    problems = {
        "different answers about the same interaction": differ,
        "answers about a user and item without an interaction": unknown,
    }
    warnings = [
        f"{path.name} has {what}, which are ignored: {_list_places(path, rows)}."
        for what, rows in problems.items()
        if len(rows)
    ]
    counts = LabelCounts(
        rows=len(table),
        answered=len(answers),
        empty=len(table) - len(given),
        contradicting=len(differ),
        unknown=len(unknown),
    )
    return answers.select(USER, ITEM, WANTED), counts, warnings


def _list_places(path: Path, rows: pl.DataFrame) -> str:
    place = "row" if _is_parquet(path) else "line"
    lines = [f"{line:,}" for line in rows[LINE].sort()]
    if len(lines) > SHOWN:
        lines = [*lines[:SHOWN], f"and {len(lines) - SHOWN:,} more"]
    return f"{place}{'s' * (len(lines) > 1)} {', '.join(lines)}"


def _find_codes(text: pl.Series, ids: pl.DataFrame) -> pl.Series:
    """Return the code of each raw id, given as text; null if there is none."""
    raw, given = ids[RAW], text
    if raw.dtype.is_integer():
        # a column of integers with an empty cell is written as floating-point numbers
        given = text.str.strip_chars().str.replace(r"\.0+$", "").cast(raw.dtype, strict=False)
    else:
        raw = raw.cast(pl.String)
    codes = ids[CODE]
    return given.replace_strict(raw, codes, default=None, return_dtype=codes.dtype)


def read_labels(path: Path) -> pl.DataFrame:
    """Read a file of labels: columns ``user``, ``item``, ``wanted``; others are ignored.

    Returns
    -------
    DataFrame
        ``line`` (row number for Parquet), ``user`` and ``item`` as text, ``wanted`` (Boolean, null
        if the cell is empty).

    Raises
    ------
    DataError
        If the file cannot be read, a column is missing, or an answer is neither 0 nor 1.
    """
    try:
        table = _read_parquet(path) if _is_parquet(path) else _read_text(path)
    except UnicodeError as error:
        raise DataError(f"{path} is not UTF-8 text. Save it as UTF-8.") from error
    except (*READ_ERRORS, csv.Error) as error:
        cause = os_reason(error) if isinstance(error, OSError) else first_line(error)
        raise DataError(f"cannot read {path}: {cause}.") from error
    answer = table[WANTED].fill_null("").str.strip_chars().str.to_lowercase()
    values = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
    wanted = answer.replace_strict(values, default=None, return_dtype=pl.Boolean)
    invalid = (wanted.is_null() & (answer != "")).arg_true()
    if len(invalid):
        raise DataError(
            f"{path}, {_list_places(path, table[invalid])}, column `{WANTED}`: found "
            f"{table[WANTED][invalid[0]]!r}, expected 1 (wanted), 0 (not wanted), or an empty cell."
        )
    return table.with_columns(wanted.alias(WANTED))


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _read_parquet(path: Path) -> pl.DataFrame:
    table = pl.read_parquet(path, glob=False)
    _check_columns(path, table.columns)
    number = pl.int_range(1, pl.len() + 1).alias(LINE)
    return table.select(number, pl.col(REQUIRED).cast(pl.String))


def _read_text(path: Path) -> pl.DataFrame:
    with open_text(path, "utf-8-sig") as file:
        header = file.readline()
        file.seek(0)
        # also the separator that a spreadsheet uses where the comma is for decimals
        rows = csv.DictReader(file, delimiter=max(",\t;|", key=header.count))
        _check_columns(path, rows.fieldnames or [])
        cells = []
        for row in rows:
            if None in row or None in row.values():
                raise DataError(
                    f"{path}, line {rows.line_num:,}: not as many cells as in the header. Quote "
                    "texts that contain the separator."
                )
            cells.append((rows.line_num, *(row[name] for name in REQUIRED)))
    schema = {LINE: pl.Int64, **dict.fromkeys(REQUIRED, pl.String)}
    return pl.DataFrame(cells, schema, orient="row")


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    for name in REQUIRED:
        if name not in columns:
            raise DataError(
                f"no column `{name}` in {path}. Labels need the columns `{USER}`, `{ITEM}`, and "
                f"`{WANTED}` (1 or 0); it has {', '.join(columns) or 'none'}."
            )
