"""Exact top-k selection, and metrics of ranked lists."""

from __future__ import annotations

import torch
from torch import Tensor


def find_top_k(score: Tensor, k: int) -> Tensor:
    """Return Long[U, min(k, I)], the columns of the highest scores of each row, best first.

    ``score`` is Float[U, I] without NaN; ties are broken by column, the smaller first.
    """
    items = score.shape[1]
    k = min(k, items)
    # topk does not promise an order among ties: one value more shows whether the last is tied
    value, column = torch.topk(score, min(k + 1, items), dim=1)
    if k < items:
        tied = value[:, k - 1] == value[:, k] if k else value[:, 0] != value[:, 0]
        value, column = value[:, :k], column[:, :k]
        column[tied] = _select_tied(score[tied], value[tied, -1:], k)
    column = column.sort(dim=1).values
    order = score.gather(1, column).argsort(dim=1, descending=True, stable=True)
    return column.gather(1, order)


def _select_tied(score: Tensor, lowest: Tensor, k: int) -> Tensor:
    """Return Long[U, k], all columns above ``lowest`` (Float[U, 1]) and the first equal ones."""
    above, equal = score > lowest, score == lowest
    missing = k - above.sum(dim=1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(dim=1) <= missing))
    return chosen.nonzero()[:, 1].view(len(score), k)


def recall_and_ndcg(hit: Tensor, relevant: Tensor, k: int) -> tuple[Tensor, Tensor]:
    r"""Return Float64[U] and Float64[U], Recall@k and NDCG@k of each user.

    Recall is the share of a user's relevant items that are in the list. NDCG discounts a hit at
    rank r by 1 / log2(r + 1) and divides by the value of the best list of k items. Source: Järvelin
    and Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques" (TOIS 2002).

    Parameters
    ----------
    hit : Bool[U, K]
        Whether the item at each rank is relevant; K is at most ``k``, less if there are few items.
    relevant : Int[U]
        Number of relevant items. A user without any has NaN.
    k : int
        Length of the list.
    """
    hit, relevant = hit[:, :k].double(), relevant.double()
    discount = 1 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))
    best = torch.cat([discount.new_zeros(1), discount.cumsum(0)]).to(hit.device)
    ideal = best[relevant.clamp(max=k).long()]
    gain = hit @ discount[: hit.shape[1]].to(hit.device)
    return hit.sum(dim=1) / relevant, gain / ideal
