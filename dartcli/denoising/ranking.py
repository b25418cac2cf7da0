"""Exact ranking: ties are broken by row, so the order is the same on every device."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Basis = Literal["positives", "batch"]
"""Which rows a strategy ranks."""


def mask_ranked(label: Tensor, basis: Basis) -> Tensor:
    """Return Bool[N], the rows to rank: the positives, or the whole batch."""
    positive = label > 0
    return positive if basis == "positives" else torch.ones_like(positive)


def compute_rank_keys(
    score: Tensor, row: Tensor, eligible: Tensor, *, nonnegative: bool = False
) -> Tensor:
    """Return Int64[N], distinct keys that sort as the scores do.

    The order depends neither on the order of the batch nor on the device: among equal scores the
    smaller row has the higher key. The high half of a key holds the score's float32 bits, mapped so
    that integers compare as the floats do; the low half holds the row, negated.

    Parameters
    ----------
    score : Float[N]
        Compared as float32; must not be NaN.
    row : Int[N]
        Distinct, 0 to 2**31 - 1.
    eligible : Bool[N]
        Rows to rank; the others share the lowest key, below that of every eligible row.
    nonnegative : bool
        No score is negative or -0.0, as losses are not: computing their keys is simpler.
    """
    score = score.to(torch.float32)
    if nonnegative:
        bits = score.view(torch.int32)
    else:
        # -0.0 and 0.0 are equal but differ in their bits: adding 0.0 turns both into 0.0
        bits = (score + 0.0).view(torch.int32)
        # the magnitude bits of a negative float are inverted: a larger magnitude sorts lower
        bits = (bits >> 31).bitwise_and_(0x7FFFFFFF).bitwise_xor_(bits)
    key = (bits.to(torch.int64) << 32).sub_(row)
    return torch.where(eligible, key, torch.iinfo(torch.int64).min)


def find_top_keys(keys: Tensor, most: float) -> Tensor:
    """Return the ``floor(most) + 1`` highest of Int64[..., N] ``keys``, in descending order.

    ``most`` is an upper bound of what will be flagged that is known without waiting for the device:
    finding a few keys is faster than sorting all of them. If there are fewer keys, the smallest
    integer, which no eligible row has, follows them.
    """
    wanted, size = math.floor(most) + 1, keys.shape[-1]
    top = torch.topk(keys, min(wanted, size), dim=-1).values
    if wanted > size:
        top = F.pad(top, (0, 1), value=torch.iinfo(torch.int64).min)
    return top


def mask_highest(top_keys: Tensor, keys: Tensor, count: Tensor) -> Tensor:
    """Return Bool[..., N], the ``count`` highest of the distinct ``keys`` in the last dimension.

    Parameters
    ----------
    top_keys : Int64[..., K]
        From :func:`find_top_keys`.
    keys : Int64[..., N]
        All keys; an empty batch gives an empty mask.
    count : Int64[...]
        Number of keys to select, 0 to ``most``, on the device; not more than rows are eligible.
    """
    return keys > top_keys.gather(-1, count.unsqueeze(-1))


def count_share(rate: Tensor, count: Tensor) -> Tensor:
    """Return ``floor(rate * count)`` as Int64[], computed in float64 as Python does.

    ``rate`` is Float64[] and ``count`` Int64 of the same dimensions; neither is negative.
    """
    return (rate * count).to(torch.int64)
