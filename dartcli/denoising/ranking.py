"""The handling rate of Eq. 3 and exact ranking by loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def schedule(iteration: Tensor, t_i: float, t_m: float, tau_m: float) -> Tensor:
    """Return the handling rate tau(T) of Eq. 3 as Float64[] on the device of ``iteration``.

    ``max(min((T - t_i) / t_m * tau_m, tau_m), 0)``: zero until iteration ``t_i``, then linear up
    to ``tau_m``, reached ``t_m`` iterations later. ``t_m`` must be positive. Float64, so that
    ``floor(tau * n)`` equals the same expression in Python.
    """
    elapsed = iteration.to(torch.float64) - t_i
    # a GPU would turn division by a Python number into a product with its reciprocal
    elapsed = elapsed / elapsed.new_full((), t_m) * tau_m
    return elapsed.clamp(min=0.0, max=tau_m)


def rank_keys(score: Tensor, row: Tensor, eligible: Tensor) -> Tensor:
    """Return Int64[N] keys that order rows by ``score`` (ascending), without ties.

    The high half of a key is the score's float32 bits, mapped so that integers compare as the
    floats do; the low half puts, among equal scores, the smaller ``row`` higher. Rows that are
    not ``eligible`` get keys below every eligible one. The order therefore does not depend on the
    order of the batch or on the device. Rows must be distinct and below 2**31.
    """
    # -0.0 and 0.0 are equal floats with different bits: adding 0.0 makes both 0.0
    bits = (score.to(torch.float32) + 0.0).view(torch.int32)
    # of a negative float all bits but the sign are turned over
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = (ordered.to(torch.int64) << 32) | (0x7FFFFFFF - row.to(torch.int64))
    return key.masked_fill(~eligible, torch.iinfo(torch.int64).min)


def top(keys: Tensor, most: float) -> Tensor:
    """Return the ``floor(most)`` highest of Int64[..., N] ``keys``, in falling order.

    ``most`` is known without looking at the device: an upper bound of what will be flagged. A few
    are found faster than all are sorted. At least one is returned, unless there are no keys.
    """
    rows = keys.shape[-1]
    return torch.topk(keys, min(max(math.floor(most), 1), rows), dim=-1).values


def highest(top_keys: Tensor, keys: Tensor, count: Tensor) -> Tensor:
    """Return Bool[..., N]: the ``count`` highest of the distinct ``keys`` along the last dimension.

    ``top_keys`` are the highest of the same keys in falling order; ``count`` is Int64[...] on the
    device, 0 to their number. An empty batch gives an empty mask.
    """
    if keys.shape[-1] == 0:
        return torch.zeros_like(keys, dtype=torch.bool)
    count = count.unsqueeze(-1)
    threshold = top_keys.gather(-1, (count - 1).clamp(min=0))
    return (keys >= threshold) & (count > 0)


def share(rate: Tensor | float, count: Tensor) -> Tensor:
    """Return ``floor(rate * count)`` as Int64[], computed in float64."""
    return (rate * count.to(torch.float64)).floor().to(torch.int64)
