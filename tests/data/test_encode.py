"""Encoding: dense, independent of the order of rows, reversible."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as checking
from hypothesis import strategies as st

from dartcli.data.columns import ITEM, LABEL, NOISY, RATING, USER
from dartcli.data.encode import CODE, RAW, encode
from dartcli.errors import DataError

ids = st.one_of(st.text(max_size=4), st.text("ab", max_size=2))


@checking(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=60))
def test_decoding_gives_back_what_was_encoded(pairs: list[tuple[str, str]]) -> None:
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


def test_missing_marks_become_unknown_and_missing_labels_positive() -> None:
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
    ("raw", "sentence"),
    [
        ({USER: [1]}, "test has no column item"),
        ({USER: [], ITEM: []}, "test holds no interaction"),
        ({USER: [1, None], ITEM: [1, 2]}, r"column user is empty in row 2 \(and 1 rows in all\)"),
        ({USER: [1, 2], ITEM: [1.0, float("nan")]}, "column item is empty in row 2"),
    ],
)
def test_what_cannot_be_encoded_is_refused(raw: dict[str, list[float]], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        encode(pl.LazyFrame(raw), "test")


def test_label_zero_is_never_a_false_positive_and_missing_ratings_are_null() -> None:
    raw = pl.LazyFrame(
        {
            USER: [1, 2, 3],
            ITEM: [1, 2, 3],
            LABEL: [0, 1, 1],
            NOISY: [1, 1, None],
            RATING: [1.0, 2.0, float("nan")],
        }
    )
    table = encode(raw, "test").interactions
    assert table[NOISY].to_list() == [False, True, None]
    assert table[RATING].to_list() == [1.0, 2.0, None]


def test_values_that_only_replaced_rows_have_get_no_code() -> None:
    raw = pl.LazyFrame({USER: [1, 1], ITEM: [5, 5], "device": ["old", "new"]})
    assert encode(raw, "test").ids["device"][RAW].to_list() == ["new"]


@pytest.mark.parametrize("name", ["key", "raw", "code", "a b.c-d"])
def test_a_field_may_have_any_plain_name(name: str) -> None:
    encoded = encode(pl.LazyFrame({USER: [1, 2], ITEM: [1, 2], name: [8, 7]}), "test")
    assert encoded.interactions[name].to_list() == [1, 0]


def test_categories_are_ordered_as_their_text_is() -> None:
    text = ["b", "c", "a", "b"]
    frame = pl.DataFrame({USER: text, ITEM: [1, 2, 3, 4]})
    plain = encode(frame.lazy(), "test")
    for dtype in (pl.Categorical, pl.Enum(["c", "b", "a"])):
        other = encode(frame.with_columns(pl.col(USER).cast(dtype)).lazy(), "test")
        assert other.interactions.equals(plain.interactions)
        assert other.ids[USER].equals(plain.ids[USER])
    assert plain.ids[USER].schema[RAW] == pl.String


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        ({LABEL: [1, 2]}, r"test: the column label is 2 in row 2; it must be 0 or 1"),
        ({LABEL: [0.5, 1.0]}, r"the column label is 0\.5 in row 1"),
        ({LABEL: [1, None]}, r"the column label is empty in row 2"),
        ({LABEL: ["1", "0"]}, r"the column label holds String; it must hold 0 or 1"),
        ({NOISY: [0, 7]}, r"the column noisy is 7 in row 2"),
        ({RATING: ["good", "bad"]}, r"the column rating holds String; it must hold numbers"),
        ({"tags": [[1], [2]]}, r"the column tags holds List\(Int64\)"),
        ({"a/b": [1, 2]}, r"the column 'a/b' cannot be a field; rename it"),
        ({"": [1, 2]}, r"the column '' cannot be a field"),
    ],
)
def test_columns_that_mean_nothing_are_refused(column: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        encode(pl.LazyFrame({USER: [1, 2], ITEM: [1, 2]} | column), "test")


def test_a_source_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\n1,2\n3,4,5\n")
    (tmp_path / "log.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(DataError, match="cannot read test: "):
        encode(pl.scan_csv(tmp_path / "log.csv"), "test")
    with pytest.raises(DataError, match="cannot read test: "):
        encode(pl.scan_parquet(tmp_path / "log.parquet"), "test")
    with pytest.raises(DataError, match="cannot read test: "):
        encode(pl.scan_parquet(tmp_path / "gone.parquet"), "test")
