"""S-model: a noise layer on top of the model, learned with it.

Source: Goldberger and Ben-Reuven, "Training Deep Neural Networks Using a Noise Adaptation Layer"
(ICLR 2017), the simple variant, in which the noise does not depend on the features.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from dartcli import settings
from dartcli.denoising import Context
from dartcli.strategies.base import Base


class SModel(Base):
    """Fit ``P(recorded) = q1 * p + q0 * (1 - p)`` with a learnable 2 x 2 stochastic matrix."""

    class Options(settings.Options):
        """Initial noise."""

        keep: float = Field(0.9, gt=0.5, lt=1)
        """Initial probability that the record shows the true label, for both labels."""

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        start = math.log(options.keep) - math.log1p(-options.keep)
        # one row per true label; softmax over the recorded label
        self.noise = nn.Parameter(torch.eye(2) * start)

    def link(self, logit: Tensor) -> Tensor:
        """Return the logit of the recorded label: the model's, through the noise layer."""
        disliked, liked = F.logsigmoid(-logit), F.logsigmoid(logit)
        transition = F.log_softmax(self.noise, dim=1)
        recorded = torch.logaddexp(disliked + transition[0, 1], liked + transition[1, 1])
        not_recorded = torch.logaddexp(disliked + transition[0, 0], liked + transition[1, 0])
        return recorded - not_recorded


STRATEGY = SModel
