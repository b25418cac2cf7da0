"""Measures of a scored table: pure functions of tensors, exact in float64."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def auc(score: Tensor, label: Tensor) -> float:
    """Return the exact area under the ROC curve: P(score of a positive > score of a negative).

    ``score`` is Float[N] in any range (logits need no sigmoid), ``label`` Float[N] or Bool[N],
    positive above 0.5. Ties count one half. Counts are 64-bit integers, so the result is exact up
    to one rounding. NaN where there is only one class, or no row; NaN where a score is NaN.
    """
    if score.numel() == 0 or bool(score.isnan().any()):
        return float("nan")
    ordered, order = torch.sort(score)
    positive = (label > 0.5)[order].to(torch.int64)
    starts = torch.ones_like(positive)
    starts[1:] = (ordered[1:] != ordered[:-1]).to(torch.int64)
    group = starts.cumsum(0) - 1
    groups = int(group[-1]) + 1
    positives = torch.zeros(groups, dtype=torch.int64, device=score.device)
    positives.index_add_(0, group, positive)
    negatives = torch.zeros_like(positives).index_add_(0, group, 1 - positive)
    below = negatives.cumsum(0) - negatives
    total_positive, total_negative = int(positives.sum()), int(negatives.sum())
    if total_positive == 0 or total_negative == 0:
        return float("nan")
    # twice the count of won pairs stays an integer: a tie is worth one
    won_twice = int((positives * (2 * below + negatives)).sum())
    return won_twice / (2 * total_positive * total_negative)


def log_loss(logit: Tensor, label: Tensor) -> float:
    """Return the mean binary cross-entropy of Float[N] logits, in nats; NaN for no rows."""
    if logit.numel() == 0:
        return float("nan")
    return float(F.binary_cross_entropy_with_logits(logit.double(), label.double()))
