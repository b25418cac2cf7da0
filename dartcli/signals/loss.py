"""Loss: what DART ranks by.

For a positive, the margin between the probabilities of the two labels ranks alike.
"""

from __future__ import annotations

from torch import Tensor

from dartcli.denoising import Evidence, Signal


def _compute(found: Evidence) -> Tensor:
    return found.loss


SIGNAL = Signal(title="The model gives the interaction a low probability.", compute=_compute)
