"""Sampled negatives are free pairs, uniform and reproducible."""

import pytest
import torch
from hypothesis import given
from hypothesis import settings as checking
from hypothesis import strategies as st

from dartcli.data.negatives import pair_codes, sample_distinct_pairs, sample_pairs
from dartcli.errors import DataError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def codes_of(pairs: tuple[torch.Tensor, torch.Tensor], items: int) -> list[int]:
    return pair_codes(*pairs, items).tolist()


@st.composite
def worlds(draw: st.DrawFn) -> tuple[int, int, list[int], int, int]:
    users, items = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    every = users * items
    known = draw(st.sets(st.integers(0, every - 1), max_size=every - 1))
    return users, items, sorted(known), draw(st.integers(0, 200)), draw(st.integers(0, 2**32))


@checking(max_examples=150, deadline=None)
@given(worlds())
def test_no_sampled_pair_is_known(world: tuple[int, int, list[int], int, int]) -> None:
    users, items, known, count, seed = world
    sorted_codes = torch.tensor(known, dtype=torch.int64)
    drawn = codes_of(sample_pairs(count, users, items, sorted_codes, generator(seed)), items)
    assert len(drawn) == count
    assert not set(drawn) & set(known)
    assert all(0 <= code < users * items for code in drawn)
    again = codes_of(sample_pairs(count, users, items, sorted_codes, generator(seed)), items)
    assert again == drawn


@checking(max_examples=150, deadline=None)
@given(worlds())
def test_distinct_pairs_are_distinct_and_at_most_the_free_ones(
    world: tuple[int, int, list[int], int, int],
) -> None:
    users, items, known, count, seed = world
    sorted_codes = torch.tensor(known, dtype=torch.int64)
    drawn = codes_of(
        sample_distinct_pairs(count, users, items, sorted_codes, generator(seed)), items
    )
    assert len(set(drawn)) == len(drawn) == min(count, users * items - len(known))
    assert not set(drawn) & set(known)


def test_sparse_data_are_sampled_without_enumerating_pairs() -> None:
    users = items = 1_000_000  # 10**12 pairs: an enumeration would not fit into memory
    known = torch.arange(0, 10_000, 2)
    drawn = codes_of(sample_distinct_pairs(5_000, users, items, known, generator()), items)
    assert len(set(drawn)) == 5_000
    assert not set(drawn) & set(known.tolist())
    assert codes_of(sample_distinct_pairs(5_000, users, items, known, generator()), items) == drawn


@pytest.mark.parametrize("sample", [sample_pairs, sample_distinct_pairs])
def test_every_free_pair_is_equally_likely(sample: object) -> None:
    known = torch.tensor([0, 3, 7, 8])
    counts = torch.zeros(12)
    rounds, each = 2000, 2
    for seed in range(rounds):
        drawn = sample(each, 3, 4, known, generator(seed))  # type: ignore[operator]
        counts += torch.bincount(pair_codes(*drawn, 4), minlength=12)
    free = [code for code in range(12) if code not in known.tolist()]
    expected = rounds * each / len(free)
    chi_squared = sum(float((counts[code] - expected) ** 2) / expected for code in free)
    assert chi_squared < 24.3  # 7 degrees of freedom: exceeded with probability 0.001


@pytest.mark.parametrize("sample", [sample_pairs, sample_distinct_pairs])
def test_without_free_pairs_sampling_is_an_error(sample: object) -> None:
    with pytest.raises(DataError, match=r"2 users .* 3 items"):
        sample(1, 2, 3, torch.arange(6), generator())  # type: ignore[operator]


def test_the_only_free_pair_of_a_million_is_found() -> None:
    known = torch.cat([torch.arange(777), torch.arange(778, 1_000_000)])
    assert set(codes_of(sample_pairs(100, 1000, 1000, known, generator()), 1000)) == {777}
    assert codes_of(sample_distinct_pairs(100, 1000, 1000, known, generator()), 1000) == [777]


def test_every_free_pair_can_be_drawn() -> None:
    known = torch.tensor([0, 1, 5, 9, 10, 11])
    drawn = codes_of(sample_distinct_pairs(6, 3, 4, known, generator()), 4)
    assert sorted(drawn) == [2, 3, 4, 6, 7, 8]


def test_pairs_are_uniform_for_large_id_spaces() -> None:
    # 3 * 2**30 codes: 32 random bits reduced by % would draw the first third twice as often
    none = torch.empty(0, dtype=torch.int64)
    user, _ = sample_pairs(60_000, 3, 2**30, none, generator())
    share = torch.bincount(user, minlength=3) / len(user)
    assert (share - 1 / 3).abs().max() < 0.01  # five standard errors


def test_zero_pairs_can_be_drawn() -> None:
    for sample in (sample_pairs, sample_distinct_pairs):
        user, item = sample(0, 2, 3, torch.arange(6), generator())
        assert len(user) == len(item) == 0
