"""The denoising core: what a strategy sees and decides, the schedule, the exact ranking, the loss.

Equation numbers are those of the thesis "DART: Resolving Training Biases for Recommender Systems
via Data Discarding and Relabeling" (Tang, 2023). Everything here works on tensors of one device,
has static shapes, and never waits for the device, so a whole training step can be captured.
"""

from __future__ import annotations

from dartcli.denoising.loss import bce, denoised_loss, observe
from dartcli.denoising.ranking import highest, rank_keys, schedule, share, top
from dartcli.denoising.strategy import (
    CleanSample,
    Context,
    Decision,
    Observed,
    Strategy,
    TrainingTable,
)

__all__ = [
    "CleanSample",
    "Context",
    "Decision",
    "Observed",
    "Strategy",
    "TrainingTable",
    "bce",
    "denoised_loss",
    "highest",
    "observe",
    "rank_keys",
    "schedule",
    "share",
    "top",
]
