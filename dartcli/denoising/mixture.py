"""Two kinds of positives in the distribution of the loss, by a mixture of two normals.

Source of the idea: Arazo et al., "Unsupervised Label Noise Modeling and Loss Correction" (ICML
2019), and Li et al., "DivideMix" (ICLR 2020), which fit two components to the losses and take the
posterior of the higher one as the probability of a wrong label. Here both are normal on the scale
of the logit, where the losses of a recommender are less skewed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

BINS: Final = 512
STEPS: Final = 200
"""Most steps of expectation maximization."""
TOLERANCE: Final = 1e-7
"""Gain in log likelihood per row, in nats, below which it ends."""
SURE: Final = 0.95
"""Posterior from which a row counts as surely false."""


@dataclass(frozen=True)
class Split:
    """Where a mixture divides the losses."""

    share: float
    """Share of the losses that more likely belong to the higher component."""
    sure: float
    """Smallest loss whose posterior is at least ``SURE``; infinite if there is none."""


NONE: Final = Split(0.0, math.inf)


def split_losses(loss: Tensor) -> Split:
    """Divide losses by the posterior of the higher of two normal components.

    It is computed from a histogram of 512 bins, so it depends neither on the order of the losses
    nor on the number of threads.

    Parameters
    ----------
    loss : Float[P]
        Binary cross-entropy of positives, in nats, >= 0.

    Returns
    -------
    Split
        With share 0 if there are fewer than 10 different losses, or a single normal fits as well
        (by the Bayesian information criterion).
    """
    # minus the logit of a positive; a loss of 0 has none
    value = loss.double().clamp(min=1e-6).expm1().log().cpu()
    if len(value) == 0 or len(torch.unique(value)) < 10:
        return NONE
    low, high = float(value.min()), float(value.max())
    width = (high - low) / BINS
    place = ((value - low) / width).long().clamp(max=BINS - 1)
    count = torch.bincount(place, minlength=BINS).double()
    center = low + width * (torch.arange(BINS, dtype=torch.float64) + 0.5)
    posterior, lower_mean, gain = _fit(count, center)
    if gain <= 0:
        return NONE
    posterior = posterior.masked_fill(center < lower_mean, 0.0).cummax(0).values
    likely, sure = (torch.nonzero(posterior >= level)[:, 0] for level in (0.5, SURE))
    share = float(count[likely[0] :].sum() / count.sum()) if len(likely) else 0.0
    return Split(share, math.log1p(math.exp(float(center[sure[0]]))) if len(sure) else math.inf)


def _fit(count: Tensor, center: Tensor) -> tuple[Tensor, float, float]:
    """Return the posterior of the higher component in each bin, the lower mean, and the gain.

    The gain is that in the Bayesian information criterion over a single normal.
    """
    total = count.sum()
    mean = (count * center).sum() / total
    deviation = ((count * (center - mean) ** 2).sum() / total).sqrt()
    single = (count * _log_density(center, mean, deviation)).sum()
    means = torch.stack([mean - deviation, mean + deviation])
    deviations, shares = deviation.repeat(2), torch.full((2,), 0.5, dtype=torch.float64)
    narrowest, before = center[1] - center[0], torch.tensor(-torch.inf)
    for _ in range(STEPS):
        joint = shares.log() + _log_density(center[:, None], means, deviations)
        evidence = joint.logsumexp(1)
        likelihood = (count * evidence).sum()
        posterior = (joint - evidence[:, None]).exp()
        if likelihood - before < TOLERANCE * total:
            break
        before = likelihood
        weight = (count[:, None] * posterior).clamp(min=1e-12)
        mass = weight.sum(0)
        shares, means = mass / total, (weight * center[:, None]).sum(0) / mass
        spread = (weight * (center[:, None] - means) ** 2).sum(0) / mass
        deviations = spread.sqrt().clamp(min=narrowest)
    higher = int(means.argmax())
    gain = 2 * float(likelihood - single) - 3 * math.log(float(total))
    return posterior[:, higher], float(means[1 - higher]), gain


def _log_density(value: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    return -(((value - mean) / deviation) ** 2) / 2 - deviation.log() - math.log(2 * math.pi) / 2
