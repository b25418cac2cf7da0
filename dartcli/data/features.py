"""Fit fields on the training split: quantile bins, and a code for unknown values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from dartcli.data.dataset import BIN_PREFIX
from dartcli.settings import Options

Tables = Mapping[str, pl.DataFrame]
Floats = npt.NDArray[np.float64]


class Field(Options):
    """One categorical field of the models."""

    name: str
    """Column name."""
    size: int
    """Number of codes, including the one for unknown values."""
    values: int
    """Number of known values, with codes 0 to ``values - 1``; the unknown code, if any, is next."""
    edges: tuple[float, ...] | None = None
    """Of a binned number: the inner edges of its bins, ascending; each is in the bin above."""


def fit_features(
    tables: Tables, fields: tuple[Field, ...], bins: int
) -> tuple[Tables, tuple[Field, ...]]:
    """Fit bins and unknown codes on ``tables["train"]``, and apply them to every table.

    Parameters
    ----------
    tables
        ``train`` and others. Columns named ``bin:...`` contain numbers; they are replaced by
        UInt32 columns without the prefix. A null number is unknown.
    fields
        The fields that already have codes. Null and codes that no training row has become the
        unknown code (``values``), which no training row has.
    bins
        Quantile bins per number; fewer if quantiles coincide.

    Returns
    -------
    tables, fields
        The tables with all fields as codes, and all fields with their final sizes.
    """
    result = dict(tables)
    known = [field.model_copy(update={"size": field.values + 1}) for field in fields]
    for field in fields:
        seen = np.zeros(field.values + 1, dtype=bool)
        seen[result["train"][field.name].drop_nulls().to_numpy()] = True
        seen[field.values] = False
        result = {key: _mark_unknown(table, field, seen) for key, table in result.items()}
    binned = [name for name in result["train"].columns if name.startswith(BIN_PREFIX)]
    for column in binned:
        edges = _fit_edges(result["train"][column], bins)
        name = column.removeprefix(BIN_PREFIX)
        result = {key: _bin(table, column, name, edges) for key, table in result.items()}
        known.append(
            Field(
                name=name, size=len(edges) + 2, values=len(edges) + 1, edges=tuple(edges.tolist())
            )
        )
    return result, tuple(known)


def _mark_unknown(table: pl.DataFrame, field: Field, seen: npt.NDArray[np.bool_]) -> pl.DataFrame:
    codes = table[field.name].fill_null(field.values).to_numpy()
    final = np.where(seen[codes], codes, field.values).astype(np.uint32)
    return table.with_columns(pl.Series(field.name, final))


def _fit_edges(train: pl.Series, bins: int) -> Floats:
    values = train.drop_nulls().drop_nans().to_numpy()
    if len(values) == 0:
        return np.empty(0)
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    edges = np.unique(np.quantile(values.astype(np.float64), inner, method="inverted_cdf"))
    # an edge at the minimum would make the lowest bin empty
    above: Floats = edges[edges > values.min()]
    return above


def _bin(table: pl.DataFrame, column: str, name: str, edges: Floats) -> pl.DataFrame:
    values = table[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    codes = np.searchsorted(edges, values, side="right")
    codes[np.isnan(values)] = len(edges) + 1
    return table.drop(column).with_columns(pl.Series(name, codes.astype(np.uint32)))
