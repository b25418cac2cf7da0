"""Forward correction for one-sided noise: train through the process that adds false positives.

Source: Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction
Approach" (CVPR 2017), the forward procedure, with a transition matrix that corrupts dislikes only:
a user who likes an item interacts with it; one who does not still does with probability rho.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from dartcli import settings
from dartcli.denoising import Context
from dartcli.strategies.base import Base


class ForwardCorrection(Base):
    """Fit ``P(interaction) = p + rho * (1 - p)``; evaluation uses the logit of p."""

    class Options(settings.Options):
        """Assumed noise."""

        rho: float = Field(0.1, ge=0, lt=1)
        """Probability that a row the user does not like is recorded as positive; 0 is plain
        training. With as many negatives as positives, and a share s of false positives among the
        latter, it is s / (1 + s)."""

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        self.log_rho = math.log(options.rho) if options.rho > 0 else -math.inf
        self.log_rest = math.log1p(-options.rho)

    def link(self, logit: Tensor) -> Tensor:
        """Return ``log((exp(x) + rho) / (1 - rho))``, the logit of the recorded label."""
        return torch.logaddexp(logit, logit.new_full((), self.log_rho)) - self.log_rest


STRATEGY = ForwardCorrection
