"""The meaning of the columns of a user's own log."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator

from dartcli.data.dataset import DataOptions, absolute_paths

Format = Literal["parquet", "csv", "tsv", "txt", "jsonl"]


class FileFormat(DataOptions):
    """How the files of a log are read, as far as their names do not tell."""

    format: Format | None = None
    """Format of all files; None = by the suffix of each."""
    separator: str | None = None
    """Character between the columns of text files; None = by the suffix (comma, or tab for
    ``.tsv``), and guessed for ``.txt``."""
    header: bool = True
    """The first line of a text file has the names of its columns. If false, they are named
    ``column_1``, ``column_2``, ...."""
    encoding: str = "utf-8"
    """Encoding of text files."""

    def text_flags(self) -> list[str]:
        """Return the flags that apply only to text files and were given."""
        given = {
            "--separator": self.separator is not None,
            "--no-header": not self.header,
            "--encoding": self.encoding != "utf-8",
        }
        return [flag for flag, is_given in given.items() if is_given]

    @field_validator("separator", mode="before")
    @classmethod
    def _check_separator(cls, value: Any) -> Any:
        value = {"\\t": "\t", "tab": "\t"}.get(value, value)
        if value is not None and (len(value) != 1 or not value.isascii() or value in '\r\n"'):
            raise ValueError("`--separator` must be one character, such as ';', '|', or '\\t'")
        return value

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str) -> str:
        try:
            "a".encode(value)
        except LookupError:
            raise ValueError("`--encoding` must be one such as utf-16 or latin-1") from None
        return value


class LogOptions(FileFormat):
    """The meaning of the columns of a log."""

    inputs: tuple[str, ...] = Field(min_length=1)
    """Files, directories, or patterns such as ``logs/*.parquet``. Text files may be compressed with
    gzip or zstd."""
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

    def make_absolute(self) -> Self:
        """Return the same log with absolute paths, so that it can be read from anywhere."""
        paths = {name: absolute_paths(getattr(self, name)) for name in ("inputs", "test_clean")}
        return self.model_copy(update=paths)

    def column_names(self) -> dict[str, str]:
        """Return role (``user``, ``item``, ``label``, ``rating``, ``time``) -> column."""
        roles = ("user", "item", "label", "rating", "time")
        return {role: name for role in roles if (name := getattr(self, role)) is not None}
