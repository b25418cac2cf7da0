"""Relative loss: the loss compared with the user's other interactions.

An active user's losses are low whatever they like; what differs from their mean is left.
"""

from __future__ import annotations

from torch import Tensor

from dartcli.denoising import Evidence, Signal, mean_by_code


def _compute(found: Evidence) -> Tensor:
    mean = mean_by_code(found.loss, found.user, len(found.user_counts))
    return found.loss - mean[found.user].float()


SIGNAL = Signal(title="The loss is high compared with the user's mean.", compute=_compute)
