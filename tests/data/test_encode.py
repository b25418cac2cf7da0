"""Encoding is dense, reversible, and independent of the order of rows."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as checking
from hypothesis import strategies as st

from dartcli.data.columns import ITEM, LABEL, NOISY, RATING, USER
from dartcli.data.encode import CODE, RAW, encode, encode_rows
from dartcli.errors import DataError
from dartcli.storage.tables import READ_ERRORS

ids = st.one_of(st.text(max_size=4), st.text("ab", max_size=2))


@checking(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=60))
def test_decoding_returns_the_raw_ids(pairs: list[tuple[str, str]]) -> None:
    raw = pl.DataFrame({USER: [u for u, _ in pairs], ITEM: [i for _, i in pairs]})
    encoded = encode(raw.lazy(), "test")
    table = encoded.interactions
    decoded = [
        (encoded.ids[USER][RAW][user], encoded.ids[ITEM][RAW][item])
        for user, item in table.select(USER, ITEM).iter_rows()
    ]
    last = {pair: position for position, pair in enumerate(pairs)}
    assert decoded == sorted(last, key=lambda pair: last[pair])
    assert encoded.duplicates_dropped == len(pairs) - len(last)
    for name in (USER, ITEM):
        codes = encoded.ids[name]
        assert codes[CODE].to_list() == list(range(len(codes)))
        assert sorted(codes[RAW]) == codes[RAW].to_list()
        assert set(table[name]) == set(codes[CODE])


def test_codes_do_not_depend_on_the_order_of_rows() -> None:
    raw = pl.DataFrame({USER: [9, 2, 5, 2], ITEM: [1, 1, 3, 7]})
    forward, backward = encode(raw.lazy(), "a"), encode(raw.reverse().lazy(), "b")
    assert forward.ids[USER].equals(backward.ids[USER])
    assert forward.interactions.equals(backward.interactions.reverse())


def test_the_last_of_duplicates_is_kept() -> None:
    raw = pl.DataFrame({USER: [1, 2, 1], ITEM: [5, 5, 5], RATING: [1.0, 2.0, 3.0]})
    encoded = encode(raw.lazy(), "test")
    assert encoded.interactions[RATING].to_list() == [2.0, 3.0]
    assert encoded.duplicates_dropped == 1


def test_without_marks_and_labels_every_row_is_a_positive_without_ground_truth() -> None:
    table = encode(pl.LazyFrame({USER: [1, 2], ITEM: [1, 2]}), "test").interactions
    assert table[LABEL].to_list() == [1, 1]
    assert table[NOISY].to_list() == [None, None]
    assert table.schema[USER] == table.schema[ITEM] == pl.UInt32


def test_further_columns_become_fields() -> None:
    raw = pl.LazyFrame({USER: [1, 2, 3], ITEM: [1, 2, 3], "device": ["tv", "pc", "tv"]})
    encoded = encode(raw, "test")
    assert encoded.fields == (USER, ITEM, "device")
    assert encoded.interactions["device"].to_list() == [1, 0, 1]


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ({USER: [1]}, "`item`"),
        ({USER: [], ITEM: []}, "test"),
        ({USER: [1, None, None], ITEM: [1, 2, 3]}, "row 2, column `user`.* 2 rows"),
        ({USER: [1, 2], ITEM: [1.0, float("nan")]}, "row 2, column `item`"),
    ],
)
def test_tables_without_ids_are_refused(raw: dict[str, list[float]], value: str) -> None:
    with pytest.raises(DataError, match=value):
        encode(pl.LazyFrame(raw), "test")


def test_a_row_with_label_zero_is_never_a_false_positive() -> None:
    raw = pl.LazyFrame(
        {
            USER: [1, 2, 3],
            ITEM: [1, 2, 3],
            LABEL: [0, 1, 1],
            NOISY: [1, 1, None],
            RATING: [1.0, 2.0, None],
        }
    )
    table = encode(raw, "test").interactions
    assert table[NOISY].to_list() == [False, True, None]
    assert table[RATING].to_list() == [1.0, 2.0, None]


def test_values_that_occur_only_in_replaced_rows_have_no_code() -> None:
    raw = pl.LazyFrame({USER: [1, 1], ITEM: [5, 5], "device": ["old", "new"]})
    assert encode(raw, "test").ids["device"][RAW].to_list() == ["new"]


@pytest.mark.parametrize("name", ["key", "raw", "code", "a b.c-d"])
def test_a_field_may_have_any_plain_name(name: str) -> None:
    encoded = encode(pl.LazyFrame({USER: [1, 2], ITEM: [1, 2], name: [8, 7]}), "test")
    assert encoded.interactions[name].to_list() == [1, 0]


def test_categories_are_ordered_like_text() -> None:
    text = ["b", "c", "a", "b"]
    frame = pl.DataFrame({USER: text, ITEM: [1, 2, 3, 4]})
    plain = encode(frame.lazy(), "test")
    for dtype in (pl.Categorical, pl.Enum(["c", "b", "a"])):
        other = encode(frame.with_columns(pl.col(USER).cast(dtype)).lazy(), "test")
        assert other.interactions.equals(plain.interactions)
        assert other.ids[USER].equals(plain.ids[USER])
    assert plain.ids[USER].schema[RAW] == pl.String


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ({LABEL: [1, 2]}, r"test, row 2, column `label`: found 2"),
        ({LABEL: [0.5, 1.0]}, r"row 1, column `label`: found 0\.5"),
        ({LABEL: [1, None]}, r"row 2, column `label`"),
        ({LABEL: ["1", "0"]}, r"`label` is String"),
        ({NOISY: [0, 7]}, r"row 2, column `noisy`: found 7"),
        ({NOISY: [0.0, float("nan")]}, r"row 2, column `noisy`: found nan"),
        ({RATING: ["good", "bad"]}, r"`rating` is String"),
        ({RATING: [1.0, float("nan")]}, r"row 2, column `rating`: found nan"),
        ({RATING: [float("-inf"), 1.0]}, r"row 1, column `rating`: found -inf"),
        ({"tags": [[1], [2]]}, r"`tags` is List\(Int64\)"),
        ({"a/b": [1, 2]}, r"`a/b`"),
        ({"": [1, 2]}, r"``"),
    ],
)
def test_invalid_columns_are_refused(column: dict[str, object], value: str) -> None:
    with pytest.raises(DataError, match=value):
        encode(pl.LazyFrame({USER: [1, 2], ITEM: [1, 2]} | column), "test")


def test_errors_use_the_column_names_of_the_source() -> None:
    with pytest.raises(DataError, match=r"row 2, column `clicked`: found 3"):
        encode(pl.LazyFrame({USER: [1, 2], ITEM: [1, 2], LABEL: [1, 3]}), "x", {LABEL: "clicked"})


@pytest.mark.parametrize("kind", [pl.String, pl.Int64])
def test_rows_of_another_table_get_the_same_codes_or_none(kind: type[pl.DataType]) -> None:
    large = 2**60
    raw = pl.DataFrame({USER: [large + 3, large, large + 2], ITEM: [1, 1, 1]}).cast({USER: kind})
    ids = encode(raw.lazy(), "test").ids
    others = [large + 2, None, large + 1, large + 3, large + 2]
    table = pl.DataFrame({USER: pl.Series(others).cast(kind), ITEM: [1, 2, 1, 1, 1]})
    coded = encode_rows(table.lazy(), ids, "test")
    assert coded[USER].to_list() == [1, None, None, 2, 1]
    assert coded[ITEM].to_list() == [0, None, 0, 0, 0]
    assert coded.schema[USER] == pl.UInt32


def test_ids_of_another_type_get_no_codes() -> None:
    ids = encode(pl.LazyFrame({USER: [1, 2], ITEM: ["a", "b"]}), "test").ids
    with pytest.raises(DataError, match=r"`user` is String .* Int64"):
        encode_rows(pl.LazyFrame({USER: ["1"], ITEM: ["a"]}), ids, "test")
    with pytest.raises(DataError, match=r"`item` is Int64 .* String"):
        encode_rows(pl.LazyFrame({USER: [1], ITEM: [1]}), ids, "test")


def test_an_unreadable_source_raises_a_read_error(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\n1,2\n3,4,5\n")
    (tmp_path / "log.parquet").write_bytes(b"PAR1 no parquet")
    for frame in (
        pl.scan_csv(tmp_path / "log.csv"),
        pl.scan_parquet(tmp_path / "log.parquet"),
        pl.scan_parquet(tmp_path / "gone.parquet"),
    ):
        with pytest.raises(READ_ERRORS):
            encode(frame, "test")


@checking(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_the_last_row_of_each_pair_is_kept_as_in_a_loop(pairs: list[tuple[int, int]]) -> None:
    raw = pl.DataFrame(
        {USER: [u for u, _ in pairs], ITEM: [i for _, i in pairs], RATING: range(len(pairs))}
    )
    last = {pair: row for row, pair in enumerate(pairs)}
    kept = encode(raw.lazy(), "test").interactions
    assert kept[RATING].to_list() == sorted(last.values())
