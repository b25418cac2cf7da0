"""Building blocks of a denoising strategy: contracts, exact ranking, rate, and loss.

Strategies import from here. Equation numbers refer to the thesis "DART: Resolving Training Biases
for Recommender Systems via Data Discarding and Relabeling" (Tang, 2023). Every function works on
tensors of one device, has static shapes, and never waits for the device, so that a whole training
step can be captured in a CUDA graph.
"""

from __future__ import annotations

from dartcli.denoising.evidence import Evidence, Signal, mean_by_code
from dartcli.denoising.loss import bce, denoised_loss, objective_gradient, observe
from dartcli.denoising.ramp import RampStrategy, compute_rate
from dartcli.denoising.ranking import (
    Basis,
    compute_rank_keys,
    count_share,
    find_top_keys,
    mask_highest,
    mask_ranked,
)
from dartcli.denoising.strategy import (
    CleanSample,
    Context,
    Decision,
    Observed,
    Strategy,
    TrainingTable,
    count_positives,
)
from dartcli.denoising.teaching import DifferentialTeaching

__all__ = [
    "Basis",
    "CleanSample",
    "Context",
    "Decision",
    "DifferentialTeaching",
    "Evidence",
    "Observed",
    "RampStrategy",
    "Signal",
    "Strategy",
    "TrainingTable",
    "bce",
    "compute_rank_keys",
    "compute_rate",
    "count_positives",
    "count_share",
    "denoised_loss",
    "find_top_keys",
    "mask_highest",
    "mask_ranked",
    "mean_by_code",
    "objective_gradient",
    "observe",
]
