"""Rarity: the baseline that uses no model."""

from __future__ import annotations

from torch import Tensor

from dartcli.denoising import Evidence, Signal


def _compute(found: Evidence) -> Tensor:
    return -found.item_counts[found.item].float()


SIGNAL = Signal(title="The item has few interactions.", compute=_compute)
