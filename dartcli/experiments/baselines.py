"""Recommenders without gradients, for comparison in tables of top-k metrics.

They are counted from the recorded training positives: no clean label is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from dartcli.training.retrieval import ItemScorer

NEIGHBORS: Final = 100
"""Most similar items that vote for an item."""
ROWS: Final = 512
"""Items whose similarities are held at once."""


class Popularity(ItemScorer):
    """The number of training positives of an item."""

    def __init__(self, _user: Tensor, item: Tensor, _users: int, items: int) -> None:
        super().__init__(torch.arange(items))
        self.counts = torch.bincount(item, minlength=items)[:items].float()

    def score(self, user: Tensor) -> Tensor:
        """Return Float[B, C], the same for every user."""
        return self.counts.repeat(len(user), 1)


class ItemKnn(ItemScorer):
    """The sum of cosine similarities between an item and those of the user.

    Each item is compared with its 100 most similar ones; ties by item code. Source: Deshpande and
    Karypis, "Item-Based Top-N Recommendation Algorithms" (TOIS 2004).
    """

    def __init__(self, user: Tensor, item: Tensor, users: int, items: int) -> None:
        super().__init__(torch.arange(items))
        ones = np.ones(len(user))
        table = sparse.csr_array((ones, (user.numpy(), item.numpy())), shape=(users, items))
        table.data[:] = 1.0  # a pair counts once
        self.table = table
        length = np.sqrt(table.sum(axis=0))
        scaled = (table / np.maximum(length, 1)[None, :]).tocsc()
        self.similar = sparse.vstack(
            [
                _keep_highest(scaled[:, first : first + ROWS].T @ scaled, first)
                for first in range(0, items, ROWS)
            ],
            format="csr",
        ).T.tocsr()

    def score(self, user: Tensor) -> Tensor:
        """Return Float64[B, C]."""
        return torch.from_numpy((self.table[user.numpy()] @ self.similar).toarray())


def _keep_highest(similarity: Any, first: int) -> Any:
    """Return a sparse table with the highest entries of each row, the diagonal left out.

    Row r of ``similarity`` is item ``first + r``.
    """
    rows = []
    table = similarity.tocsr()
    table.sort_indices()
    for row in range(table.shape[0]):
        part = slice(table.indptr[row], table.indptr[row + 1])
        column, value = table.indices[part], table.data[part]
        column, value = column[column != first + row], value[column != first + row]
        best = np.argsort(-value, kind="stable")[:NEIGHBORS]
        rows.append((column[best], value[best]))
    columns, values = (np.concatenate(part) for part in zip(*rows, strict=True))
    ends = np.cumsum([0, *(len(column) for column, _ in rows)])
    return sparse.csr_array((values, columns, ends), shape=table.shape)


BASELINES: Final[Mapping[str, Callable[[Tensor, Tensor, int, int], ItemScorer]]] = {
    "popularity": Popularity,
    "itemknn": ItemKnn,
}
"""Name -> recommender made from Long[N] users and items of positives, and their numbers."""
