"""CrossDenoise: weight by the rank of the loss and by the reputations of user and item.

Source: Liu et al., "From Entity Reliability to Clean Feedback" (EARD, WWW 2026; first published as
"CrossDenoise", arXiv 2508.10851), read together with the authors' program. Their rule trains the
first two epochs plainly; from then on, a pair that was in the epoch before has the weight

    (rank of its loss - 1/2) / n * reputation of its user * reputation of its item,

ranked among the n rows of that epoch from the highest loss (rank 1) to the lowest (rank n; equal
losses share the higher rank). The reputations fall linearly from ``upper`` for the user (or item)
with the lowest mean loss in that epoch to ``lower`` for the one with the highest. Other pairs, such
as new negatives, have weight 1.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from dartcli import settings
from dartcli.denoising import Context, Decision, Observed, Strategy
from dartcli.denoising.memory import SCALE

PLAIN: int = 2
"""Epochs of plain training at the start."""


class CrossDenoise(Strategy):
    """Weight ``rank(loss) * reputation(user) * reputation(item)`` from the epoch before."""

    needs_study = True

    class Options(settings.Options):
        """Range of a reputation."""

        lower: float = Field(0.5, ge=0)
        """Reputation of the user, or item, with the highest mean loss (the paper's alpha)."""
        upper: float = Field(1.5, ge=0)
        """Reputation of the one with the lowest mean loss (the paper's beta)."""

    options: Options
    weight: Tensor
    loss: Tensor
    of_user: Tensor
    of_item: Tensor

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        table = context.require_table("the strategy crossdenoise")
        self.register_buffer("weight", torch.ones(table.rows))
        self.register_buffer("loss", torch.zeros(table.rows))
        # losses as integers, so that the order of a batch changes no sum; then counts
        self.register_buffer("of_user", torch.zeros(2, table.users, dtype=torch.int64))
        self.register_buffer("of_item", torch.zeros(2, table.items, dtype=torch.int64))

    def study(self, epoch: int, model: nn.Module, fields: Tensor, label: Tensor) -> None:  # noqa: ARG002 - only losses count
        """Compute the weights of the recorded rows from the epoch before."""
        if epoch > PLAIN:
            recorded = len(label)
            losses = self.loss[:recorded]
            # of all rows of the epoch: new negatives have no weight, but a rank
            rank = (self.loss.numel() - torch.searchsorted(self.loss.sort().values, losses)).float()
            share = (rank - 0.5) / self.loss.numel()
            user, item = (
                self._rank_entities(total)[fields[:, place]]
                for place, total in enumerate((self.of_user, self.of_item))
            )
            self.weight[:recorded] = share * user * item
        self.of_user.zero_()
        self.of_item.zero_()

    def _rank_entities(self, total: Tensor) -> Tensor:
        """Return Float[entities], reputations by the rank of the mean loss; ties by code."""
        mean = total[0] / total[1]
        order = mean.argsort(stable=True)
        seen = int((total[1] > 0).sum())
        result = mean.new_ones(len(mean), dtype=torch.float32)
        scale = torch.linspace(self.options.upper, self.options.lower, seen, device=mean.device)
        # NaN, the mean of no rows, sorts last
        result[order[:seen]] = scale
        return result

    def decide(self, observed: Observed) -> Decision:
        """Return the weight from the epoch before, and the record.

        Raises
        ------
        UsageError
            If the batch has no users or items.
        """
        user, item = observed.require_entities("the strategy crossdenoise")
        row = observed.row.long()
        self.loss[row] = observed.loss.float()
        scaled = (observed.loss.clamp(max=SCALE) * SCALE).long()
        both = torch.stack([scaled, torch.ones_like(scaled)])
        self.of_user.index_add_(1, user.long(), both)
        self.of_item.index_add_(1, item.long(), both)
        return Decision(self.weight[row], observed.label)


STRATEGY = CrossDenoise
