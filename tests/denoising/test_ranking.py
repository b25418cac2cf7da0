"""Exact ranking against Python's sort."""

import math
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dartcli.denoising import (
    compute_rank_keys,
    count_share,
    find_top_keys,
    mask_highest,
    mask_ranked,
)


def rank(scores: list[float], rows: list[int]) -> list[int]:
    """Return the rows in descending order of their keys."""
    keys = compute_rank_keys(
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(rows, dtype=torch.int64),
        torch.ones(len(rows), dtype=torch.bool),
    )
    assert len(set(keys.tolist())) == len(rows)
    return [rows[i] for i in torch.argsort(keys, descending=True).tolist()]


def test_keys_order_every_kind_of_float_and_break_ties_by_row() -> None:
    scores = [0.0, -0.0, 1e-45, -1e-45, 3.5, -3.5, math.inf, -math.inf, 3.5, 0.0]
    rows = [5, 4, 0, 1, 2**31 - 1, 7, 8, 9, 2, 6]
    assert rank(scores, rows) == [8, 2, 2**31 - 1, 0, 4, 5, 6, 1, 7, 9]


finite_bits = st.floats(width=32, allow_nan=False)


@given(st.lists(st.tuples(finite_bits, st.integers(0, 2**31 - 1)), unique_by=lambda pair: pair[1]))
def test_keys_sort_as_python_sorts_floats_then_rows(pairs: list[tuple[float, int]]) -> None:
    expected = [row for _, row in sorted(pairs, key=lambda pair: (-pair[0], pair[1]))]
    assert rank([score for score, _ in pairs], [row for _, row in pairs]) == expected


def test_keys_of_neighboring_floats_differ_in_the_right_direction() -> None:
    bits = [0, 1, 2, 0x007FFFFF, 0x00800000, 0x3F800000, 0x3F800001, 0x7F7FFFFF, 0x7F800000]
    upward = [struct.unpack("f", struct.pack("I", pattern))[0] for pattern in bits]
    scores = torch.tensor([*(-value for value in reversed(upward[1:])), *upward])
    # rows order equal scores only, so neither order of rows may matter here
    for rows in (torch.arange(len(scores)), torch.arange(len(scores)).flip(0)):
        keys = compute_rank_keys(scores, rows, torch.ones_like(scores, dtype=torch.bool))
        assert bool((keys[1:] > keys[:-1]).all())


@pytest.mark.parametrize("row", [0, 1, 2**31 - 2, 2**31 - 1])
@pytest.mark.parametrize("score", [-math.inf, -3.4e38, -1e-45, 0.0, math.inf])
def test_every_eligible_row_is_above_every_other_row(row: int, score: float) -> None:
    keys = compute_rank_keys(
        torch.tensor([score, math.inf]), torch.tensor([row, 5]), torch.tensor([True, False])
    )
    assert keys[0] > keys[1]
    chosen = mask_highest(find_top_keys(keys, 1), keys, torch.tensor(1))
    assert chosen.tolist() == [True, False]


@given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), unique=True, max_size=20), st.data())
def test_the_highest_are_the_top_of_the_sorted_keys(keys: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(keys)))
    most = data.draw(st.integers(count, len(keys)))
    tensor = torch.tensor(keys, dtype=torch.int64)
    chosen = mask_highest(find_top_keys(tensor, most), tensor, torch.tensor(count))
    assert chosen.dtype == torch.bool
    expected = set(sorted(keys, reverse=True)[:count])
    assert chosen.tolist() == [key in expected for key in keys]


def test_the_highest_are_found_along_the_last_dimension() -> None:
    keys = torch.tensor([[3, 1, 2], [5, 6, 4]])
    top_keys = find_top_keys(keys, 3)
    for first in range(4):
        for second in range(4):
            chosen = mask_highest(top_keys, keys, torch.tensor([first, second]))
            assert chosen.tolist() == [
                [key > 3 - first for key in (3, 1, 2)],
                [key > 6 - second for key in (5, 6, 4)],
            ]


def test_shares_are_rounded_down_as_python_does() -> None:
    counts = torch.arange(200)
    for percent in range(101):
        expected = [math.floor(percent / 100 * count) for count in range(200)]
        assert (
            count_share(torch.tensor(percent / 100, dtype=torch.float64), counts).tolist()
            == expected
        )


def test_the_positives_or_the_whole_batch_are_ranked() -> None:
    label = torch.tensor([1.0, 0.0, 1.0])
    assert mask_ranked(label, "positives").tolist() == [True, False, True]
    assert mask_ranked(label, "batch").tolist() == [True, True, True]
