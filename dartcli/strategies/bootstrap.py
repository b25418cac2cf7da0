"""Bootstrapping: mix the recorded label with the model's prediction.

Source: Reed et al., "Training Deep Neural Networks on Noisy Labels with Bootstrapping" (2014),
Eq. 6 (soft) and 7 (hard), with that paper's weights.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from dartcli import settings
from dartcli.denoising import Decision, Observed, Strategy


class BootstrapHard(Strategy):
    """Train on the target ``beta * y + (1 - beta) * [p > 0.5]``."""

    class Options(settings.Options):
        """Weight of the record."""

        beta: float = Field(0.8, ge=0, le=1)
        """Weight of the recorded label in the target; 1 is plain training."""

    options: Options

    def decide(self, observed: Observed) -> Decision:
        """Return weight 1 and the mixed target for every row."""
        beta = self.options.beta
        label = beta * observed.label + (1 - beta) * self.predict(observed.probability)
        return Decision(torch.ones_like(label), label)

    def predict(self, probability: Tensor) -> Tensor:
        """Return Float[N], the predicted label: 1 if the probability exceeds 0.5, else 0."""
        return (probability > 0.5).to(probability.dtype)


class BootstrapSoft(BootstrapHard):
    """Train on the target ``beta * y + (1 - beta) * p``."""

    class Options(BootstrapHard.Options):
        """Weight of the record."""

        beta: float = Field(0.95, ge=0, le=1)
        """Weight of the recorded label in the target; 1 is plain training."""

    def predict(self, probability: Tensor) -> Tensor:
        """Return Float[N], the probability itself."""
        return probability


STRATEGY = {"bootstrap-hard": BootstrapHard, "bootstrap-soft": BootstrapSoft}
