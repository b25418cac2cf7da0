"""Sampled negatives: uniform user-item pairs that are not known positives.

The free pairs are numbered without listing them. With ``k_0 < k_1 < ...`` the known pair codes,
``k_j - j`` free codes are smaller than ``k_j``, so the free code of rank ``r`` is
``r + #{j : k_j - j <= r}``: one binary search a pair, exact however few pairs are free, and no
user x item matrix. Everything works on the device of the generator.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from dartcli.errors import DataError

WIDE: Final = 2**63 - 1
"""Random integers are drawn below this and reduced: the bias of ``%`` is then below 2**-20."""
DENSE: Final = 4
"""Different ranks are taken from a permutation where fewer than this many times as many exist."""
SPARE: Final = 1 << 16
"""Ranks that cost nothing: this many are always permuted, and drawn beyond what is needed."""


def pair_codes(user: Tensor, item: Tensor, items: int) -> Tensor:
    """Return Long[N]: one integer a pair, ``user * items + item``."""
    return user.to(torch.int64) * items + item.to(torch.int64)


def sample_pairs(
    count: int, users: int, items: int, known: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw ``count`` independent pairs, uniform over users x items outside ``known``.

    Parameters
    ----------
    count
        Pairs to draw; a pair may come more than once.
    users, items
        Sizes of the two id spaces.
    known
        Long[K], sorted distinct pair codes that are never drawn.
    generator
        Source of randomness, on the device of ``known``.

    Returns
    -------
    user, item : Long[count] each

    Raises
    ------
    DataError
        If a pair is wanted and every pair is known.
    """
    free = _free(count, users, items, known)
    return _pairs(_ranks(count, free, generator), items, known)


def sample_distinct_pairs(
    count: int, users: int, items: int, known: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw ``count`` different pairs outside ``known``, every such sequence equally likely.

    Parameters and errors as for :func:`sample_pairs`. Where fewer than ``count`` pairs are free,
    all of them are returned. Memory is proportional to ``count`` plus the known pairs, however
    large users x items is.
    """
    free = _free(count, users, items, known)
    count = min(count, free)
    if free <= DENSE * count + SPARE:
        ranks = torch.randperm(free, generator=generator, device=generator.device)[:count]
    else:
        ranks = _distinct_ranks(count, free, generator)
    return _pairs(ranks, items, known)


def _free(count: int, users: int, items: int, known: Tensor) -> int:
    free = users * items - len(known)
    if count and free <= 0:
        raise DataError(
            f"every one of the {users:,} users interacted with every one of the {items:,} items, "
            "so no negative can be sampled; give data with impressions (a label of 0), or more "
            "items."
        )
    return free


def _ranks(count: int, free: int, generator: torch.Generator) -> Tensor:
    return torch.randint(WIDE, (count,), generator=generator, device=generator.device) % max(
        free, 1
    )


def _distinct_ranks(count: int, free: int, generator: torch.Generator) -> Tensor:
    """Draw until there are enough different ranks; a random part of them is uniform again."""
    ranks = torch.empty(0, dtype=torch.int64, device=generator.device)
    while len(ranks) < count:
        more = _ranks(count - len(ranks) + SPARE, free, generator)
        ranks = torch.unique(torch.cat([ranks, more]))
    order = torch.randperm(len(ranks), generator=generator, device=generator.device)
    return ranks[order[:count]]


def _pairs(ranks: Tensor, items: int, known: Tensor) -> tuple[Tensor, Tensor]:
    smaller_free = known - torch.arange(len(known), device=known.device)
    codes = ranks + torch.searchsorted(smaller_free, ranks, right=True)
    return codes // items, codes % items
