"""MentorNet's predefined curriculum: train on what is easy by a running percentile of the loss.

Source: Jiang et al., "MentorNet: Learning Data-Driven Curriculum for Very Deep Neural Networks on
Corrupted Labels" (ICML 2018), the predefined (not learnt) mentor, self-paced by a moving average.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from dartcli import settings
from dartcli.denoising import Context, Decision, Observed, Strategy


class MentorNet(Strategy):
    """Weight 1 where the loss is at most a running percentile of the batch's losses, else 0.

    The percentile of each batch enters an exponential moving average, which is the strategy's
    memory. Epochs up to ``burn_in`` are plain.
    """

    class Options(settings.Options):
        """Pace of the curriculum."""

        percentile: float = Field(0.75, gt=0, le=1)
        """Share of the losses that is easy enough."""
        decay: float = Field(0.95, ge=0, lt=1)
        """Weight of the past in the moving average."""
        burn_in: int = Field(1, ge=0)
        """Plain epochs at the start."""
        basis: Literal["positives", "batch"] = "batch"
        """Take the percentile of, and drop, any row of the batch (as published), or positives."""

    options: Options
    threshold: Tensor
    batches: Tensor

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def decide(self, observed: Observed) -> Decision:
        """Return weight 0 for the rows that are too hard, and advance the moving average."""
        every = torch.ones_like(observed.label, dtype=torch.bool)
        ranked = observed.label > 0 if self.options.basis == "positives" else every
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
