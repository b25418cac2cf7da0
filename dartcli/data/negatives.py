"""Sampled negatives: uniform user-item pairs that are not known positives.

Everything works on the device of the generator; rejection is vectorised over sorted pair codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dartcli.errors import DataError

SPARE = 1 << 16


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
        If every pair is known.
    """
    if count and users * items <= len(known):
        raise DataError(_exhausted(users, items))
    codes = _draw(count, users * items, generator)
    rejected = _is_known(codes, known).nonzero().squeeze(1)
    while len(rejected):
        fresh = _draw(len(rejected), users * items, generator)
        codes[rejected] = fresh
        rejected = rejected[_is_known(fresh, known)]
    return codes // items, codes % items


def sample_distinct_pairs(
    count: int, users: int, items: int, known: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw ``count`` different pairs outside ``known``, every such set equally likely.

    Parameters and errors as for :func:`sample_pairs`. Where fewer than ``count`` pairs are left,
    all of them are returned. Dense data are enumerated, sparse data sampled by rejection: memory
    stays proportional to ``count`` plus the known pairs.
    """
    total = users * items
    if count and total <= len(known):
        raise DataError(_exhausted(users, items))
    if total <= 4 * (count + len(known)) + SPARE:
        free = torch.ones(total, dtype=torch.bool, device=known.device)
        free[known] = False
        codes = free.nonzero().squeeze(1)
    else:
        codes = known.new_empty(0)
        while len(codes) < count:
            fresh = _draw(count - len(codes) + SPARE, total, generator)
            codes = torch.unique(torch.cat([codes, fresh[~_is_known(fresh, known)]]))
    order = torch.randperm(len(codes), generator=generator, device=known.device)
    codes = codes[order[:count]]
    return codes // items, codes % items


def _draw(count: int, total: int, generator: torch.Generator) -> Tensor:
    return torch.randint(total, (count,), generator=generator, device=generator.device)


def _is_known(codes: Tensor, known: Tensor) -> Tensor:
    if len(known) == 0:
        return torch.zeros_like(codes, dtype=torch.bool)
    position = torch.searchsorted(known, codes).clamp(max=len(known) - 1)
    return known[position] == codes


def _exhausted(users: int, items: int) -> str:
    return (
        f"every one of the {users:,} users interacted with every one of the {items:,} items, so "
        "no negative can be sampled; give data with impressions (a label of 0), or more items."
    )
