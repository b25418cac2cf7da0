"""The latest losses of the training positives, and their means by user, kept on the device."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from dartcli.denoising.strategy import Observed, TrainingTable

SCALE: Final = float(1 << 20)
"""Losses are summed as integers in units of its inverse: the order of a batch changes no sum."""


class LossMemory(nn.Module):
    """What the positives of a training table lost when they were last in a batch."""

    latest: Tensor
    user_total: Tensor
    user_count: Tensor

    def __init__(self, table: TrainingTable) -> None:
        super().__init__()
        for name, size, start in (
            ("latest", table.rows, -1),
            ("user_total", table.users, 0),
            ("user_count", table.users, 0),
        ):
            self.register_buffer(name, torch.full((size,), start, device=table.label.device))

    def update(self, observed: Observed) -> None:
        """Remember the losses of a batch, whose rows are distinct."""
        row = observed.row.long()
        user = row.new_zeros(len(row)) if observed.user is None else observed.user.long()
        positive = observed.label > 0
        loss = (observed.loss.clamp(max=SCALE) * SCALE).long()
        before = self.latest[row]
        known = before >= 0
        change = (loss - before.clamp(min=0)).masked_fill(~positive, 0)
        self.user_total.index_add_(0, user, change)
        self.user_count.index_add_(0, user, (positive & ~known).long())
        self.latest[row] = torch.where(positive, loss, before)

    def mean_of_users(self, user: Tensor) -> Tensor:
        """Return Float[N], the mean of the latest losses of each user's positives.

        It is 0 for a user without any.
        """
        code = user.long()
        mean = self.user_total[code].double() / self.user_count[code].clamp(min=1)
        return (mean / SCALE).float()

    def losses(self) -> Tensor:
        """Return Float[K], the losses known so far, by row; waits for the device."""
        return (self.latest[self.latest >= 0].double() / SCALE).float()
