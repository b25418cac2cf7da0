"""The meaning of the columns of a user's own log."""

from __future__ import annotations

from pydantic import Field

from dartcli.data.dataset import DataOptions


class LogOptions(DataOptions):
    """The meaning of the columns of a log."""

    inputs: tuple[str, ...] = Field(min_length=1)
    """Files or patterns such as ``logs/*.parquet``: Parquet, CSV or TSV, the latter two also
    compressed with gzip or zstd."""
    user: str
    """Column of the user."""
    item: str
    """Column of the item."""
    label: str | None = None
    """Column of 1 (interaction) and 0 (shown without one). If given, no negatives are sampled; else
    every row is an interaction."""
    rating: str | None = None
    """Column of explicit feedback, used only to measure results."""
    noisy_if: str | None = None
    """SQL expression over the columns that is true for known false positives, used to measure
    results, and for training only by strategies that need clean labels, such as ``clean``."""
    fields: tuple[str, ...] = ()
    """Further categorical columns for the model."""
    numeric_fields: tuple[str, ...] = ()
    """Numeric columns for the model, replaced by quantile bins of the training split."""
    bins: int = Field(10, ge=2, le=1000)
    """Quantile bins per numeric column."""
    time: str | None = None
    """Column of the time, needed for the splits ``temporal`` and ``leave-last-out``."""
    test_clean: tuple[str, ...] = ()
    """Files with clean labels and the same columns, used instead of the test split. Validation then
    has the rows that would have been for testing, too."""

    def column_names(self) -> dict[str, str]:
        """Return role (``user``, ``item``, ``label``, ``rating``, ``time``) -> column."""
        roles = ("user", "item", "label", "rating", "time")
        return {role: name for role in roles if (name := getattr(self, role)) is not None}
