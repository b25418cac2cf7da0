"""Bootstrapping: the target leans towards what the model believes.

Source: Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping" (2014),
Eq. 6 (soft) and 7 (hard), with the weights of that paper.
"""

from __future__ import annotations

import torch
from pydantic import Field

from dartcli import settings
from dartcli.denoising import Decision, Observed, Strategy


class BootstrapHard(Strategy):
    """Target ``beta * y + (1 - beta) * [p > 0.5]``."""

    class Options(settings.Options):
        """How much the record counts."""

        beta: float = Field(0.8, ge=0, le=1)
        """Weight of the recorded label in the target."""

    options: Options

    def decide(self, observed: Observed) -> Decision:
        """Return weight 1 and the mixed target for every row."""
        beta = self.options.beta
        label = beta * observed.label + (1 - beta) * self.belief(observed.probability)
        return Decision(torch.ones_like(label), label)

    def belief(self, probability: torch.Tensor) -> torch.Tensor:
        """Return the model's own label: 1 where the probability is above one half."""
        return (probability > 0.5).to(probability.dtype)


class BootstrapSoft(BootstrapHard):
    """Target ``beta * y + (1 - beta) * p``."""

    class Options(BootstrapHard.Options):
        """How much the record counts."""

        beta: float = Field(0.95, ge=0, le=1)
        """Weight of the recorded label in the target."""

    def belief(self, probability: torch.Tensor) -> torch.Tensor:
        """Return the probability itself."""
        return probability


STRATEGY = {"bootstrap-hard": BootstrapHard, "bootstrap-soft": BootstrapSoft}
