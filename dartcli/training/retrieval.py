"""Rank all items for blocks of users: exact, with ties by item, and in bounded memory.

A model whose logit is one number per side plus an inner product (it has ``split_logit``) is
searched by that product in K + 1 dimensions; the few best items are then scored by the model
itself, so both ways give the same lists. Every other model scores each pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from dartcli import metrics
from dartcli.data.manifest import Prepared
from dartcli.data.tensors import Interactions

BLOCK: Final = 1 << 23
"""Scores held at once."""
TILE: Final = 1 << 15
"""Items of one user that a model scores at once."""
SPARE: Final = 12
"""Items beyond k that the model itself scores after a search by inner product."""


class Ranked(NamedTuple):
    """The best items of B users."""

    user: Tensor
    """Long[B]."""
    item: Tensor
    """Long[B, K], best first."""
    score: Tensor
    """Float[B, K]; minus infinity where a user has fewer than K items left."""


class UserItems:
    """The items of each user, such as those to leave out of the lists.

    Parameters
    ----------
    user, item : Long[N]
        Pairs in any order.
    users : int
        Number of users.
    """

    def __init__(self, user: Tensor, item: Tensor, users: int) -> None:
        self.item = item[torch.argsort(user, stable=True)]
        self.count = torch.bincount(user, minlength=users)
        self.start = self.count.cumsum(0) - self.count

    def positions(self, user: Tensor) -> tuple[Tensor, Tensor]:
        """Return Long[M] and Long[M]: index into ``user`` and item, for all items of Long[B]."""
        count = self.count[user]
        row = torch.repeat_interleave(torch.arange(len(user), device=user.device), count)
        before = count.cumsum(0) - count
        offset = torch.arange(len(row), device=user.device) - before[row]
        return row, self.item[self.start[user][row] + offset]


class PairFields:
    """The fields of user-item pairs that no table contains.

    A further field whose value is the same in all positives of an item (or else of a user) has that
    value; where there is none, and for every other field, it has its most frequent one.

    Parameters
    ----------
    positives : Long[N, F]
        Fields of the training positives.
    sizes : sequence of int
        Number of codes of each field.
    """

    def __init__(self, positives: Tensor, sizes: Sequence[int]) -> None:
        self.of_side: list[dict[int, Tensor]] = [{}, {}]
        """Column -> value of each user (first), or of each item (second)."""
        self.constant: dict[int, int] = {}
        """Column -> value in every pair."""
        for column in range(2, len(sizes)):
            value = positives[:, column]
            usual = int(torch.bincount(value, minlength=1).argmax()) if len(value) else 0
            for side in (1, 0):
                code, empty = positives[:, side], value.new_full((sizes[side],), usual)
                low = empty.scatter_reduce(0, code, value, "amin", include_self=False)
                high = empty.scatter_reduce(0, code, value, "amax", include_self=False)
                if torch.equal(low, high):
                    self.of_side[side][column] = low
                    break
            else:
                self.constant[column] = usual
        self.columns = len(sizes)

    def sides(self) -> tuple[list[int], list[int]]:
        """Return the columns that depend on the user or on nothing, and those of the item."""
        return [0, *self.of_side[0], *self.constant], [1, *self.of_side[1]]

    def values(self, user: Tensor, item: Tensor) -> Tensor:
        """Return Long[N, F], the fields of the pairs Long[N] and Long[N]."""
        fields = user.new_empty(len(user), self.columns)
        fields[:, 0], fields[:, 1] = user, item
        for code, known in zip((user, item), self.of_side, strict=True):
            for column, table in known.items():
                fields[:, column] = table[code]
        for column, value in self.constant.items():
            fields[:, column] = value
        return fields


class ItemScorer:
    """Scores of all candidates for a user; a subclass implements :meth:`score`."""

    def __init__(self, candidates: Tensor) -> None:
        self.candidates = candidates
        """Long[C], distinct codes, ascending."""

    @property
    def pairs_at_most(self) -> int:
        """Pairs that can be scored in seconds."""
        return 1 << 28

    def score(self, user: Tensor) -> Tensor:
        """Return Float[B, C], the scores of the candidates for Long[B] users."""
        raise NotImplementedError

    def rank(self, user: Tensor, k: int, hidden: UserItems | None = None) -> Iterator[Ranked]:
        """Yield the ``min(k, C)`` best candidates of Long[U] users, in blocks.

        ``hidden`` holds the items of each user to leave out. Ties are broken by item code.
        """
        if len(user) == 0:
            return
        for block in user.split(max(BLOCK // max(len(self.candidates), 1), 1)):
            # not around the loop: the caller's code runs between two blocks
            with torch.no_grad():
                column, score = self._rank_block(block, k, hidden)
            yield Ranked(block, self.candidates[column], score)

    def _rank_block(self, user: Tensor, k: int, hidden: UserItems | None) -> tuple[Tensor, Tensor]:
        score = self._hide(self.score(user), user, hidden)
        column = metrics.find_top_k(score, k)
        return column, score.gather(1, column)

    def _hide(self, score: Tensor, user: Tensor, hidden: UserItems | None) -> Tensor:
        if hidden is None:
            return score
        row, item = hidden.positions(user)
        column = torch.searchsorted(self.candidates, item).clamp(max=len(self.candidates) - 1)
        present = self.candidates[column] == item
        score[row[present], column[present]] = -torch.inf
        return score


class ModelScorer(ItemScorer):
    """Scores of a model, which is put into evaluation mode.

    Parameters
    ----------
    model
        The model, on the device of ``candidates``.
    pairs
        The fields of a pair.
    candidates : Long[C]
        Distinct item codes, ascending; at least one.
    by_product
        Search by inner product if the model allows; otherwise score every pair.
    """

    def __init__(
        self, model: nn.Module, pairs: PairFields, candidates: Tensor, *, by_product: bool = True
    ) -> None:
        super().__init__(candidates)
        self.model, self.pairs = model.eval(), pairs
        self.split = getattr(model, "split_logit", None) if by_product else None
        if self.split is not None:
            with torch.no_grad():
                vector, own = self.split(
                    pairs.values(torch.zeros_like(candidates), candidates), pairs.sides()[1]
                )
            self.items = torch.cat([vector, own[:, None]], dim=1).T.contiguous()
            self.longest, self.highest = vector.norm(dim=1).max(), own.abs().max()

    @property
    def pairs_at_most(self) -> int:
        """Pairs that can be scored in seconds."""
        return 1 << 23 if self.split is None else super().pairs_at_most

    def score(self, user: Tensor) -> Tensor:
        """Return Float[B, C] logits, each user scored alone, in tiles of the same size."""
        # so the logit of a pair does not depend on the other users in the block
        parts = [
            [self.model(self.pairs.values(one.expand(len(tile)), tile)) for one in user]
            for tile in self.candidates.split(TILE)
        ]
        return torch.cat([torch.stack(of_tile) for of_tile in parts], dim=1)

    def _rank_block(self, user: Tensor, k: int, hidden: UserItems | None) -> tuple[Tensor, Tensor]:
        items = len(self.candidates)
        if self.split is None or k + SPARE >= items:
            return super()._rank_block(user, k, hidden)
        vector, own = self.split(
            self.pairs.values(user, torch.zeros_like(user)), self.pairs.sides()[0]
        )
        product = torch.cat([vector, torch.ones_like(own)[:, None]], dim=1) @ self.items
        product = self._hide(product, user, hidden)
        value, found = torch.topk(product, k + SPARE, dim=1)
        found = found.sort(dim=1).values
        pairs = self.pairs.values(
            user.repeat_interleave(k + SPARE), self.candidates[found].flatten()
        )
        exact = self.model(pairs).view(found.shape)
        exact = exact.masked_fill(product.gather(1, found).isinf(), -torch.inf)
        place = metrics.find_top_k(exact, k)
        column, score = found.gather(1, place), exact.gather(1, place)
        # an item that was not scored could belong to the list only by rounding
        scale = own.abs() + self.highest + (vector.norm(dim=1) + self.longest).square()
        error = 2 * torch.finfo(own.dtype).eps * (len(self.items) + 16) * scale
        unsure = ~(score[:, -1] > value[:, -1] + own + error) & value[:, -1].isfinite()
        if unsure.any():
            column[unsure], score[unsure] = super()._rank_block(user[unsure], k, hidden)
        return column, score


def compute_top_k(
    scorer: ItemScorer,
    train: Interactions,
    test: Interactions,
    sizes: tuple[int, int],
    k: int,
    *,
    pairs_at_most: int | None = None,
) -> dict[str, float]:
    """Return Recall@k and NDCG@k, the means over users with a relevant item.

    Every candidate is ranked but the training positives of the user. Relevant are the positives of
    ``test`` that are not known to be false; users and items without a code of their own, and
    training positives, are left out. NaN if no user has a relevant item.

    Parameters
    ----------
    scorer
        Ranks the items.
    train, test
        The training split, and the one that is measured.
    sizes
        Number of users, and of items, that have a code of their own.
    k
        Length of the lists.
    pairs_at_most
        If users times candidates exceeds it, evenly spaced users are measured. None = no limit.
    """
    users, items = sizes
    positive = train.fields[train.label > 0]
    wanted = test.fields[test.clean_label > 0]
    wanted = wanted[(wanted[:, 0] < users) & (wanted[:, 1] < items)]
    known = torch.unique(positive[:, 0] * items + positive[:, 1])
    codes = torch.unique(wanted[:, 0] * items + wanted[:, 1])
    codes = codes[~torch.isin(codes, known, assume_unique=True)]
    user, relevant = torch.unique_consecutive(codes // items, return_counts=True)
    most = None if pairs_at_most is None else max(pairs_at_most // len(scorer.candidates), 1)
    if most is not None and len(user) > most:
        chosen = torch.arange(most, device=user.device) * len(user) // most
        user, relevant = user[chosen], relevant[chosen]
    hidden = UserItems(positive[:, 0], positive[:, 1], max(users, 1))
    found = []
    for ranked in scorer.rank(user, k, hidden):
        pair = ranked.user[:, None] * items + ranked.item
        place = torch.searchsorted(codes, pair).clamp(max=len(codes) - 1)
        found.append((codes[place] == pair) & ranked.score.isfinite())
    if not found:
        return {f"recall_at_{k}": float("nan"), f"ndcg_at_{k}": float("nan")}
    recall, ndcg = metrics.recall_and_ndcg(torch.cat(found), relevant, k)
    return {f"recall_at_{k}": float(recall.mean()), f"ndcg_at_{k}": float(ndcg.mean())}


def measure_lists(
    model: nn.Module,
    train: Interactions,
    test: Interactions,
    prepared: Prepared,
    k: int,
    *,
    limited: bool = False,
) -> dict[str, float]:
    """Return Recall@k and NDCG@k of a model over all known items; see :func:`compute_top_k`.

    ``limited`` measures only as many users as takes seconds.
    """
    pairs = PairFields(train.fields[train.label > 0], prepared.field_sizes)
    scorer = ModelScorer(model, pairs, torch.arange(prepared.items, device=train.label.device))
    most = scorer.pairs_at_most if limited else None
    sizes = prepared.users, prepared.items
    return compute_top_k(scorer, train, test, sizes, k, pairs_at_most=most)
