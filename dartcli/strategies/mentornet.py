"""MentorNet's predefined curriculum: train on rows below a running percentile of the loss.

Source: Jiang et al., "MentorNet: Learning Data-Driven Curriculum for Very Deep Neural Networks on
Corrupted Labels" (ICML 2018): the predefined (not the learned) mentor, self-paced by a moving
average.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from dartcli import settings
from dartcli.denoising import Basis, Context, Decision, Observed, Strategy, mask_ranked


class MentorNet(Strategy):
    """Discard rows whose loss exceeds a running percentile of the batches' losses.

    The percentile of each batch enters an exponential moving average, which is the strategy's
    state. A batch without ranked rows leaves it unchanged. Epochs up to ``burn_in`` discard
    nothing, but update the average.
    """

    needs_epoch: ClassVar[bool] = True

    class Options(settings.Options):
        """Pace of the curriculum."""

        percentile: float = Field(0.75, gt=0, le=1)
        """Share of the losses that counts as easy."""
        decay: float = Field(0.95, ge=0, lt=1)
        """Weight of the past in the moving average."""
        burn_in: int = Field(1, ge=0)
        """Epochs of plain training at the start."""
        basis: Basis = "batch"
        """Rank, and discard, any row of the batch (as published), or positives only."""

    options: Options
    threshold: Tensor
    batches: Tensor

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def decide(self, observed: Observed) -> Decision:
        """Return weight 0 for rows that are too hard, else 1, and update the average."""
        ranked = mask_ranked(observed.label, self.options.basis)
        count = ranked.sum()
        if observed.loss.numel() > 0:
            ascending = torch.where(ranked, observed.loss, torch.inf).sort().values
            # the smallest loss that at least `percentile` of the ranked rows do not exceed
            position = (self.options.percentile * count.double()).ceil().long().clamp(min=1) - 1
            current = ascending.gather(0, position.view(1)).squeeze(0)
            decay = torch.where(self.batches > 0, self.options.decay, 0.0)
            moved = decay * self.threshold + (1 - decay) * current
            self.threshold.copy_(torch.where(count > 0, moved, self.threshold))
            self.batches.add_((count > 0).long())
        hard = ranked & (observed.loss > self.threshold) & (observed.epoch > self.options.burn_in)
        return Decision((~hard).to(observed.label.dtype), observed.label)


STRATEGY = MentorNet
