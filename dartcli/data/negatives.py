"""Sample negatives: uniform user-item pairs that are not known positives.

Free pairs are numbered without listing them. With ``k_0 < k_1 < ...`` the known pair codes,
``k_j - j`` free codes are smaller than ``k_j``, so the free code of rank ``r`` is
``r + #{j : k_j - j <= r}``: one binary search per pair, exact however few pairs are free, without a
user x item matrix. Everything runs on the device of the generator.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from dartcli.errors import DataError

WIDE: Final = 2**63 - 1
"""Bound of the random integers before ``%``, which then has a bias below 2**-20."""
DENSE: Final = 4
"""Distinct ranks come from a permutation if at most this many times as many exist."""
BLOCK: Final = 1 << 20
"""Known pairs that are read at once."""
SPARE: Final = 1 << 16
"""Ranks that cost almost nothing: a permutation may have, and a draw has, this many extra."""


def pair_codes(user: Tensor, item: Tensor, items: int) -> Tensor:
    """Return Long[N]: one integer per pair, ``user * items + item``."""
    return user.to(torch.int64) * items + item.to(torch.int64)


def sample_pairs(
    count: int, users: int, items: int, known: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw ``count`` independent uniform pairs outside ``known``.

    Parameters
    ----------
    count
        Pairs to draw; a pair may be drawn more than once.
    users, items
        Sizes of the two id spaces.
    known
        Long[K], sorted distinct codes of the pairs that are never drawn.
    generator
        Source of randomness, on the device of ``known``.

    Returns
    -------
    user, item : Long[count] each

    Raises
    ------
    DataError
        If ``count`` is positive and every pair is known.
    """
    free = _count_free(count, users, items, known)
    return _find_pairs(_draw_ranks(count, free, generator), items, known)


def sample_distinct_pairs(
    count: int, users: int, items: int, known: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw ``count`` distinct pairs outside ``known``, every such sequence equally likely.

    Parameters and errors as for :func:`sample_pairs`. If fewer than ``count`` pairs are free, all
    of them are returned. Memory is proportional to ``count`` plus the known pairs, however large
    users x items is.
    """
    free = _count_free(count, users, items, known)
    count = min(count, free)
    if free <= DENSE * count + SPARE:
        ranks = torch.randperm(free, generator=generator, device=generator.device)[:count]
    else:
        ranks = _draw_distinct_ranks(count, free, generator)
    return _find_pairs(ranks, items, known)


def _count_free(count: int, users: int, items: int, known: Tensor) -> int:
    free = users * items - len(known)
    if count and free <= 0:
        raise DataError(
            f"cannot sample negatives: all {users:,} users interacted with all {items:,} items. "
            "Give data with more items, or with impressions (label 0)."
        )
    return free


def _draw_ranks(count: int, free: int, generator: torch.Generator) -> Tensor:
    return torch.randint(WIDE, (count,), generator=generator, device=generator.device) % max(
        free, 1
    )


def _draw_distinct_ranks(count: int, free: int, generator: torch.Generator) -> Tensor:
    """Draw until there are enough distinct ranks; a random subset of them is uniform again."""
    ranks = torch.empty(0, dtype=torch.int64, device=generator.device)
    while len(ranks) < count:
        more = _draw_ranks(count - len(ranks) + SPARE, free, generator)
        ranks = torch.unique(torch.cat([ranks, more]))
    order = torch.randperm(len(ranks), generator=generator, device=generator.device)
    return ranks[order[:count]]


def _find_pairs(ranks: Tensor, items: int, known: Tensor) -> tuple[Tensor, Tensor]:
    if len(known) <= BLOCK:
        # in place, because the known pairs can be most of the data
        smaller_free = torch.arange(len(known), device=known.device).neg_().add_(known)
        codes = ranks + torch.searchsorted(smaller_free, ranks, right=True)
    else:
        codes = ranks + _count_smaller(ranks, known)
    return codes // items, codes % items


def _count_smaller(ranks: Tensor, known: Tensor) -> Tensor:
    """Return Long[N], the known pairs below the free code of each rank, from a file in one pass."""
    ordered, place = ranks.sort()
    smaller = torch.zeros_like(ordered)
    for start in range(0, len(known), BLOCK):
        block = known[start : start + BLOCK]
        free = torch.arange(-start, -start - len(block), -1, device=known.device).add_(block)
        first = int(torch.searchsorted(ordered, free[:1]))
        # the next block counts again those that are past this one
        smaller[first:] = start + torch.searchsorted(free, ordered[first:], right=True)
    return torch.empty_like(smaller).scatter_(0, place, smaller)
