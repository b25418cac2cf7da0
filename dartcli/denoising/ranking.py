"""Exact ranking: ties are broken by row, so the order is the same on every device."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Basis = Literal["positives", "batch"]
"""Which rows a strategy ranks."""


def mask_ranked(label: Tensor, basis: Basis) -> Tensor:
    """Return Bool[N], the rows to rank: the positives, or the whole batch."""
    positive = label > 0
    return positive if basis == "positives" else torch.ones_like(positive)


def compute_rank_keys(score: Tensor, row: Tensor, eligible: Tensor) -> Tensor:
    """Return Int64[N], distinct keys that sort as the scores do.

    The order depends neither on the order of the batch nor on the device: among equal scores the
    smaller row has the higher key. The high half of a key holds the score's float32 bits, mapped so
    that integers compare as the floats do; the low half holds the row, reversed.

    Parameters
    ----------
    score : Float[N]
        Compared as float32; must not be NaN.
    row : Int[N]
        Distinct, 0 to 2**31 - 1.
    eligible : Bool[N]
        Rows to rank; the others share the lowest key, below that of every eligible row.
    """
    # -0.0 and 0.0 are equal but differ in their bits: adding 0.0 turns both into 0.0
    bits = (score.to(torch.float32) + 0.0).view(torch.int32)
    # the magnitude bits of a negative float are inverted, so that a larger magnitude sorts lower
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = (ordered.to(torch.int64) << 32) | (0x7FFFFFFF - row.to(torch.int64))
    return key.masked_fill(~eligible, torch.iinfo(torch.int64).min)


def find_top_keys(keys: Tensor, most: float) -> Tensor:
    """Return the ``floor(most)`` highest of Int64[..., N] ``keys``, in descending order.

    ``most`` is an upper bound of what will be flagged that is known without waiting for the device:
    finding a few keys is faster than sorting all of them. At least one key is returned, unless
    there are none, and at most N.
    """
    return torch.topk(keys, min(max(math.floor(most), 1), keys.shape[-1]), dim=-1).values


def mask_highest(top_keys: Tensor, keys: Tensor, count: Tensor) -> Tensor:
    """Return Bool[..., N], the ``count`` highest of the distinct ``keys`` in the last dimension.

    Parameters
    ----------
    top_keys : Int64[..., K]
        The K highest keys in descending order, from :func:`find_top_keys`.
    keys : Int64[..., N]
        All keys; an empty batch gives an empty mask.
    count : Int64[...]
        Number of keys to select, 0 to K, on the device.
    """
    if keys.shape[-1] == 0:
        return torch.zeros_like(keys, dtype=torch.bool)
    count = count.unsqueeze(-1)
    threshold = top_keys.gather(-1, (count - 1).clamp(min=0))
    return (keys >= threshold) & (count > 0)


def count_share(rate: Tensor | float, count: Tensor) -> Tensor:
    """Return ``floor(rate * count)`` as Int64[], computed in float64 as Python does."""
    return (rate * count.to(torch.float64)).floor().to(torch.int64)
