"""Unknown codes and bins, compared with plain loops."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import settings as checking
from hypothesis import strategies as st

from dartcli.data.features import Field, fit_features

codes = st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=1, max_size=20)


@checking(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), codes)
def test_codes_missing_in_training_become_the_unknown_code(
    train: list[int], test: list[int | None]
) -> None:
    tables = {
        "train": pl.DataFrame({"x": pl.Series(train, dtype=pl.UInt32)}),
        "test": pl.DataFrame({"x": pl.Series(test, dtype=pl.UInt32)}),
    }
    result, fields = fit_features(tables, (Field(name="x", size=6, values=6),), bins=4)
    assert fields == (Field(name="x", size=7, values=6),)
    assert result["train"]["x"].to_list() == train
    assert result["test"]["x"].to_list() == [code if code in train else 6 for code in test]


numbers = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=40)


@checking(max_examples=150, deadline=None)
@given(numbers, numbers, st.integers(2, 6))
def test_a_bin_is_the_number_of_edges_at_or_below_the_value(
    train: list[float | None], test: list[float | None], bins: int
) -> None:
    tables = {
        name: pl.DataFrame({"bin:x": pl.Series(values, dtype=pl.Float32)})
        for name, values in (("train", train), ("test", test))
    }
    result, (field,) = fit_features(tables, (), bins)
    assert field.edges is not None
    assert list(field.edges) == sorted(set(field.edges))
    assert len(field.edges) <= bins - 1
    assert field.size == field.values + 1 == len(field.edges) + 2
    for name, values in (("train", train), ("test", test)):
        expected = [
            field.values if value is None else sum(value >= edge for edge in field.edges)
            for value in values
        ]
        assert result[name]["x"].to_list() == expected
    known = [value for value in train if value is not None]
    used = set(result["train"]["x"].to_list()) - {field.values}
    # no bin is empty in training: every edge is a value that training has
    assert used == (set(range(len(field.edges) + 1)) if known else set())


def test_bins_have_equal_shares_if_values_are_distinct() -> None:
    values = np.random.default_rng(0).permutation(1000).astype(np.float32)
    result, (field,) = fit_features({"train": pl.DataFrame({"bin:x": values})}, (), 10)
    counts = result["train"]["x"].value_counts()["count"].to_list()
    assert field.values == 10
    assert max(counts) - min(counts) <= 2
