"""Metrics of scored rows: pure functions of tensors, computed in integers or float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def auc(score: Tensor, label: Tensor) -> float:
    """Return the exact area under the ROC curve.

    It is the probability that a positive has a higher score than a negative; ties count one half.
    Counts are 64-bit integers, so the result is exact up to one rounding.

    Parameters
    ----------
    score : Float[N] or Int[N]
        Of any range: logits or probabilities.
    label : Float[N], Int[N] or Bool[N]
        Positive if greater than 0.5.

    Returns
    -------
    float
        NaN if there are no rows, only one class, or a NaN score.
    """
    if score.numel() == 0 or bool(score.isnan().any()):
        return float("nan")
    is_positive = label > 0.5
    positives, negatives = _sort(score[is_positive]), _sort(score[~is_positive])
    if len(positives) == 0 or len(negatives) == 0:
        return float("nan")
    # twice the number of won pairs, a tie counting one, is an integer
    below = torch.searchsorted(negatives, positives)
    below_or_tied = torch.searchsorted(negatives, positives, right=True)
    won_twice = int(below.sum()) + int(below_or_tied.sum())
    return won_twice / (2 * len(positives) * len(negatives))


def _sort(values: Tensor) -> Tensor:
    """Return the values in ascending order; none is NaN."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy()))  # several times as fast as torch.sort
    return torch.sort(values).values


def auc_by_group(score: Tensor, label: Tensor, group: Tensor, groups: int) -> Tensor:
    """Return Float64[groups], the exact AUC within each group.

    Parameters
    ----------
    score, label
        As for :func:`auc`.
    group : Long[N]
        Group of each row, 0 to ``groups`` - 1.
    groups : int
        Number of groups.

    Returns
    -------
    Float64[groups]
        NaN for a group that is empty or has only one class or a NaN score.
    """
    order = torch.argsort(score, stable=True)
    order = order[torch.argsort(group[order], stable=True)]
    score, group = score[order], group[order]
    positive = (label > 0.5)[order].to(torch.int64)
    zeros = torch.zeros(groups, dtype=torch.int64, device=score.device)
    positives = zeros.index_add(0, group, positive)
    negatives = zeros.index_add(0, group, 1 - positive)
    differs = (score[1:] != score[:-1]) | (group[1:] != group[:-1])
    tie = F.pad(differs.to(torch.int64), (1, 0)).cumsum(0)[: len(score)]
    # a pair within the group that a positive wins counts two, and a tie one
    passed = F.pad(1 - positive, (1, 0)).cumsum(0)
    below, below_or_tied = (passed[torch.searchsorted(tie, tie, right=r)] for r in (False, True))
    won = below + below_or_tied - 2 * passed[torch.searchsorted(group, group)]
    won_twice = zeros.index_add(0, group, positive * won)
    result = won_twice.double() / (2 * positives * negatives).double()
    undefined = zeros.index_add(0, group, score.isnan().to(torch.int64)) > 0
    return result.masked_fill(undefined, float("nan"))


def grouped_auc(score: Tensor, label: Tensor, group: Tensor, groups: int) -> float:
    """Return the mean AUC within groups (such as users), weighted by their rows.

    Groups without an AUC are left out, as in Zhu et al., "Optimized Cost per Click in Taobao
    Display Advertising" (KDD 2017); NaN if no group has one. Parameters as for
    :func:`auc_by_group`.
    """
    values = auc_by_group(score, label, group, groups)
    rows = torch.bincount(group, minlength=groups).double()
    known = ~values.isnan()
    return float((values[known] * rows[known]).sum() / rows[known].sum())


def calibration_error(logit: Tensor, label: Tensor, bins: int = 15) -> float:
    r"""Return the expected calibration error, 0 to 1.

    It is the mean over rows of \|mean probability - share of positives\| in the row's bin; bins
    divide the range 0 to 1 equally. Source: Guo et al., "On Calibration of Modern Neural Networks"
    (ICML 2017).

    Parameters
    ----------
    logit : Float[N]
        Predictions before the sigmoid.
    label : Float[N], Int[N] or Bool[N]
        0 or 1.
    bins : int
        Number of bins.

    Returns
    -------
    float
        NaN if there are no rows.
    """
    if logit.numel() == 0:
        return float("nan")
    probability = logit.double().sigmoid()
    place = (probability * bins).long().clamp(max=bins - 1)
    zeros = torch.zeros(bins, dtype=torch.float64, device=logit.device)
    gap = zeros.index_add(0, place, probability - label.double())
    return float(gap.abs().sum() / logit.numel())


def precision_at(score: Tensor, label: Tensor, shares: Sequence[float]) -> list[float]:
    """Return the share of positives among the highest scores, for each share of the rows.

    Rows with equal scores count their mean. The number of rows need not be whole.

    Parameters
    ----------
    score : Float[N]
        Of any range, without NaN.
    label : Float[N], Int[N] or Bool[N]
        Positive if greater than 0.5.
    shares
        From above 0 to 1.

    Returns
    -------
    list of float
        NaN if there are no rows.
    """
    if score.numel() == 0:
        return [float("nan")] * len(shares)
    order = torch.argsort(score, descending=True, stable=True)
    ranked = score[order].cpu().numpy()
    hits = np.append(0, (label > 0.5)[order].cumsum(0).cpu().numpy())
    ends = np.append(0, np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) + 1)
    taken = np.asarray(shares) * len(ranked)
    found: list[float] = (np.interp(taken, ends, hits[ends]) / taken).tolist()
    return found


def log_loss(logit: Tensor, label: Tensor) -> float:
    """Return the mean binary cross-entropy in nats, computed in float64.

    ``logit`` is Float[N] before the sigmoid and ``label`` [N], 0 to 1. NaN if there are no rows.
    """
    if logit.numel() == 0:
        return float("nan")
    return float(F.binary_cross_entropy_with_logits(logit.double(), label.double()))


def equal_groups(counts: Tensor, groups: int) -> Tensor:
    """Return Long[E], the group of each entity if groups share ``counts`` equally.

    ``counts`` is Int[E], such as the positives of each user. Entities are ordered by count, ties by
    position, and group 0 holds the least active. The total of a group differs from an equal share
    by at most the largest count.
    """
    order = torch.argsort(counts, stable=True)
    ordered = counts[order]
    middle = ordered.cumsum(0).double() - ordered.double() / 2
    total = max(int(counts.sum()), 1)
    result = torch.empty_like(order)
    result[order] = (middle * groups / total).long().clamp(max=groups - 1)
    return result
