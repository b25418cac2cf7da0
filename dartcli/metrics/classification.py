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


def auc_by_group(score: Tensor, label: Tensor, group: Tensor, groups: int) -> Tensor:
    """Return Float64[groups], the exact AUC within each group; ties count one half.

    Parameters
    ----------
    score, label
        Float[N] and Float[N] or Bool[N], as for :func:`auc`.
    group
        Long[N], 0 to ``groups`` - 1.
    groups
        Number of groups; one with a single class, or with a score that is NaN, gets NaN.
    """
    order = torch.argsort(score, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    score, group = score[order], group[order]
    positive = (label > 0.5)[order].to(torch.int64)
    zeros = torch.zeros(groups, dtype=torch.int64, device=score.device)
    positives = zeros.index_add(0, group, positive)
    negatives = zeros.index_add(0, group, 1 - positive)
    starts = torch.ones_like(group)
    if len(group) > 1:
        tied = (score[1:] == score[:-1]) & (group[1:] == group[:-1])
        starts[1:] = (~tied).to(torch.int64)
    tie = starts.cumsum(0) - 1
    size = int(tie[-1]) + 1 if len(tie) else 0
    of_tie = torch.zeros(size, dtype=torch.int64, device=score.device)
    tie_positives = of_tie.index_add(0, tie, positive)
    tie_negatives = of_tie.index_add(0, tie, 1 - positive)
    tie_group = group[starts.bool()]
    before = negatives.cumsum(0) - negatives
    below = tie_negatives.cumsum(0) - tie_negatives - before[tie_group]
    won_twice = zeros.index_add(0, tie_group, tie_positives * (2 * below + tie_negatives))
    result = won_twice.double() / (2 * positives * negatives).double()
    broken = zeros.index_add(0, group, score.isnan().to(torch.int64)) > 0
    return result.masked_fill(broken, float("nan"))


def grouped_auc(score: Tensor, label: Tensor, group: Tensor, groups: int) -> float:
    """Return the mean of the AUC within each group (a user, say), weighted by its rows.

    Groups with a single class are left out, as in Zhu et al., "Optimized Cost per Click in Taobao
    Display Advertising" (KDD 2017). NaN where no group has both classes.
    """
    values = auc_by_group(score, label, group, groups)
    rows = torch.bincount(group, minlength=groups).double()
    known = ~values.isnan()
    return float((values[known] * rows[known]).sum() / rows[known].sum())


def calibration_error(logit: Tensor, label: Tensor, bins: int = 15) -> float:
    r"""Return the expected calibration error of Float[N] logits, 0 to 1; NaN for no rows.

    The mean over rows of \|mean probability - share of positives\| of the row's bin; bins are equal
    parts of the range 0 to 1 (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
    """
    if logit.numel() == 0:
        return float("nan")
    probability = logit.double().sigmoid()
    place = (probability * bins).long().clamp(max=bins - 1)
    zeros = torch.zeros(bins, dtype=torch.float64, device=logit.device)
    gap = zeros.index_add(0, place, probability - label.double())
    return float(gap.abs().sum() / logit.numel())


def equal_groups(counts: Tensor, groups: int) -> Tensor:
    """Return Long[E]: entities divided by activity into groups that share ``counts`` equally.

    ``counts`` is Int[E], the positives of each user (or item). Entities are ordered by count, ties
    by position; group 0 holds the least active. The sums of the groups differ from an equal share
    by less than the largest count among them.
    """
    order = torch.argsort(counts, stable=True)
    ordered = counts[order]
    middle = ordered.cumsum(0).double() - ordered.double() / 2
    total = max(int(counts.sum()), 1)
    result = torch.empty_like(order)
    result[order] = (middle * groups / total).long().clamp(max=groups - 1)
    return result


def log_loss(logit: Tensor, label: Tensor) -> float:
    """Return the mean binary cross-entropy of Float[N] logits, in nats; NaN for no rows."""
    if logit.numel() == 0:
        return float("nan")
    return float(F.binary_cross_entropy_with_logits(logit.double(), label.double()))
