"""What the columns of a user's own log mean."""

from __future__ import annotations

from pydantic import Field

from dartcli.data.dataset import DataOptions


class LogOptions(DataOptions):
    """What the columns of a log mean."""

    inputs: tuple[str, ...] = Field(min_length=1)
    """Files, or patterns such as ``logs/*.parquet``: Parquet, CSV, TSV, also gzip or zstd."""
    user: str
    """Column of the user."""
    item: str
    """Column of the item."""
    label: str | None = None
    """Column of 1 (interaction) and 0 (shown, no interaction). With it no negatives are drawn;
    without it every row is an interaction."""
    rating: str | None = None
    """Column of explicit feedback: kept for measurement, never trained on."""
    noisy_if: str | None = None
    """SQL expression over the columns that marks known false positives, for measurement only."""
    fields: tuple[str, ...] = ()
    """Further categorical columns for the model."""
    numeric_fields: tuple[str, ...] = ()
    """Numeric columns for the model, in quantile bins of the training split."""
    bins: int = Field(10, ge=2, le=1000)
    """Quantile bins of a numeric column."""
    time: str | None = None
    """Column of the time; needed for the splits ``temporal`` and ``leave-last-out``."""
    test_clean: tuple[str, ...] = ()
    """Files with clean labels, of the same columns, that replace the test split."""
