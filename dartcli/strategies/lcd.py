"""LCD: label correction weighted by the loss.

Source: Dai et al., "LCD: Adaptive Label Correction for Denoising Music Recommendation", CIKM 2022.
With ``w = (l - min l) / (max l - min l + 1e-8)`` over the batch, ``lcd`` trains on
``w * y + (1 - w) * p`` and the thesis's reversal ``lcd-re`` on ``w * p + (1 - w) * y``, so that
the target leans on the model where the loss is high. The first epoch is plain.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dartcli.denoising import Decision, Observed, Strategy


class Lcd(Strategy):
    """Target ``w * y + (1 - w) * p``: high loss keeps the record."""

    def decide(self, observed: Observed) -> Decision:
        """Return weight 1 and the corrected target for every row; in epoch 1 the record."""
        if observed.loss.numel() == 0:
            return Decision(torch.ones_like(observed.label), observed.label)
        low, high = observed.loss.aminmax()
        trust = self.trust((observed.loss - low) / (high - low + 1e-8))
        corrected = trust * observed.label + (1 - trust) * observed.probability
        label = torch.where(observed.epoch > 1, corrected, observed.label)
        return Decision(torch.ones_like(label), label)

    def trust(self, scaled_loss: Tensor) -> Tensor:
        """Return Float[N], the weight of the recorded label, from the loss scaled to 0..1."""
        return scaled_loss


class LcdRe(Lcd):
    """Target ``w * p + (1 - w) * y``: high loss leans on the model."""

    def trust(self, scaled_loss: Tensor) -> Tensor:
        """Return one minus the scaled loss."""
        return 1 - scaled_loss


STRATEGY = {"lcd": Lcd, "lcd-re": LcdRe}
