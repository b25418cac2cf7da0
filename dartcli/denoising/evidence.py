"""What a finished model tells about the training positives, and the contract of a signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Evidence:
    """The P training positives as a finished model sees them, on the CPU.

    The model must not have been trained on a trusted label: its loss on that row would be unlike
    the loss on the others.
    """

    row: Tensor
    """Long[P], index in the training table, ascending."""
    user: Tensor
    """Long[P], encoded user."""
    item: Tensor
    """Long[P], encoded item."""
    logit: Tensor
    """Float[P], the model's logit."""
    user_counts: Tensor
    """Int[users], training positives of each user."""
    item_counts: Tensor
    """Int[items], training positives of each item."""
    user_factors: Tensor
    """Float[users, K], the model's embedding of each user; K = 0 if it has none."""
    item_factors: Tensor
    """Float[items, K], the model's embedding of each item."""

    @cached_property
    def loss(self) -> Tensor:
        """Float[P], binary cross-entropy against the recorded label 1."""
        return F.softplus(-self.logit)


@dataclass(frozen=True)
class Signal:
    """A way to tell from evidence how suspicious each training positive is."""

    title: str
    """What is suspicious about a row, in a phrase."""
    compute: Callable[[Evidence], Tensor]
    """Returns Float[P], higher = more suspicious; a pure function."""


def mean_by_code(values: Tensor, code: Tensor, codes: int) -> Tensor:
    """Return Float64[codes], the mean of ``values`` with each code; 0 for a code without any.

    ``values`` is Float[N], and ``code`` is Long[N] from 0 to ``codes`` - 1.
    """
    total = torch.zeros(codes, dtype=torch.float64).index_add_(0, code, values.double())
    return total / torch.bincount(code, minlength=codes).clamp(min=1)
