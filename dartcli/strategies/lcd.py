"""LCD: correct labels with weights from the loss.

Source: Dai et al., "LCD: Adaptive Label Correction for Denoising Music Recommendation", CIKM 2022.
With ``w = (l - min l) / (max l - min l + 1e-8)`` over the batch, ``lcd`` trains on
``w * y + (1 - w) * p``, and the thesis's reversal ``lcd-re`` on ``w * p + (1 - w) * y``, so that
the target follows the model if the loss is high. The first epoch is plain training.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from dartcli.denoising import Decision, Observed, Strategy


class Lcd(Strategy):
    """Train on ``w * y + (1 - w) * p``: a high loss keeps the recorded label."""

    needs_epoch: ClassVar[bool] = True

    def decide(self, observed: Observed) -> Decision:
        """Return weight 1 and the corrected target; in epoch 1 the recorded label."""
        if observed.loss.numel() == 0:
            return Decision(torch.ones_like(observed.label), observed.label)
        low, high = observed.loss.aminmax()
        trust = self.compute_trust((observed.loss - low) / (high - low + 1e-8))
        corrected = trust * observed.label + (1 - trust) * observed.probability
        label = torch.where(observed.epoch > 1, corrected, observed.label)
        return Decision(torch.ones_like(label), label)

    def compute_trust(self, scaled_loss: Tensor) -> Tensor:
        """Return Float[N], the recorded label's weight, from the loss scaled to 0 to 1."""
        return scaled_loss


class LcdRe(Lcd):
    """Train on ``w * p + (1 - w) * y``: a high loss follows the model."""

    def compute_trust(self, scaled_loss: Tensor) -> Tensor:
        """Return one minus the scaled loss."""
        return 1 - scaled_loss


STRATEGY = {"lcd": Lcd, "lcd-re": LcdRe}
