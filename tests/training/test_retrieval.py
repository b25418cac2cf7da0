"""Lists of the best items, against scoring and sorting every pair."""

import math

import pytest
import torch
from torch import nn

from dartcli import catalog
from dartcli.data.tensors import Interactions
from dartcli.training import retrieval
from dartcli.training.retrieval import ModelScorer, PairFields, UserItems, compute_top_k

USERS, ITEMS = 30, 80
SIZES = (USERS, ITEMS, 4, 3, 3)


def draw_positives(sizes: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    columns = [torch.randint(0, size, (400,), generator=generator) for size in sizes[:2]]
    if len(sizes) > 2:
        # a field of the item, one of the user, and one of the pair, which is mostly 1
        columns += [columns[1] % sizes[2], columns[0] % sizes[3]]
        columns += [torch.where(torch.arange(400) % 5 > 0, 1, 2)]
    return torch.stack(columns, dim=1)


def build(name: str) -> nn.Module:
    kind = catalog.load("models", name)
    torch.manual_seed(0)
    options = {} if name == "neumf" else {"first_order_std": 0.3}
    model: nn.Module = kind(SIZES, kind.Options(**options))
    return model.eval()


@pytest.mark.parametrize("name", catalog.files("models"))
def test_lists_are_those_of_scoring_every_pair(name: str) -> None:
    model, positives = build(name), draw_positives(SIZES)
    hidden = UserItems(positives[:, 0], positives[:, 1], USERS)
    seen = set(map(tuple, positives[:, :2].tolist()))
    users = torch.tensor([7, 3, 29, 0])
    scorer = ModelScorer(model, PairFields(positives, SIZES), torch.arange(ITEMS))
    (ranked,) = scorer.rank(users, 10, hidden)
    items = torch.arange(ITEMS)
    for place, user in enumerate(users.tolist()):
        fields = torch.stack(
            [torch.full_like(items, user), items, items % 4, torch.full_like(items, user % 3),
             torch.ones_like(items)], dim=1,
        )  # fmt: skip
        with torch.no_grad():
            score = model(fields).tolist()
        allowed = [item for item in range(ITEMS) if (user, item) not in seen]
        expected = sorted(allowed, key=lambda item: (-score[item], item))[:10]
        assert ranked.item[place].tolist() == expected
        torch.testing.assert_close(ranked.score[place], torch.tensor(score)[expected])


@pytest.mark.parametrize("name", ["fm", "lr"])
def test_the_search_by_inner_product_gives_the_same_lists(name: str) -> None:
    model, pairs = build(name), PairFields(draw_positives(SIZES), SIZES)
    users = torch.arange(USERS)
    found = [
        list(ModelScorer(model, pairs, torch.arange(ITEMS), by_product=by_product).rank(users, 20))
        for by_product in (True, False)
    ]
    for fast, slow in zip(*found, strict=True):
        assert torch.equal(fast.item, slow.item)
        torch.testing.assert_close(fast.score, slow.score)


def test_ties_are_broken_by_item_even_if_the_search_by_product_cannot_tell() -> None:
    model = build("fm")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    scorer = ModelScorer(model, PairFields(draw_positives(SIZES), SIZES), torch.arange(ITEMS))
    (ranked,) = scorer.rank(torch.arange(4), 5)
    assert ranked.item.tolist() == [[0, 1, 2, 3, 4]] * 4


def test_candidates_restrict_the_lists_and_hidden_items_leave_gaps() -> None:
    positives = draw_positives(SIZES)
    candidates = torch.tensor([5, 40, 77])
    hidden = UserItems(torch.tensor([2, 2]), torch.tensor([40, 6]), USERS)
    scorer = ModelScorer(build("fm"), PairFields(positives, SIZES), candidates)
    (ranked,) = scorer.rank(torch.tensor([2]), 20, hidden)
    assert sorted(ranked.item[0, :2].tolist()) == [5, 77]
    assert ranked.score[0].isfinite().tolist() == [True, True, False]


def test_lists_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pairs = build("deepfm"), PairFields(draw_positives(SIZES), SIZES)
    scorer, users = ModelScorer(model, pairs, torch.arange(ITEMS)), torch.arange(USERS)
    whole = torch.cat([ranked.score for ranked in scorer.rank(users, 9)])
    monkeypatch.setattr(retrieval, "BLOCK", 7 * ITEMS)
    parts = list(scorer.rank(users, 9))
    assert len(parts) == 5
    assert torch.equal(torch.cat([ranked.score for ranked in parts]), whole)


def make_table(pairs: list[tuple[int, int]], kind: list[int]) -> Interactions:
    fields = torch.tensor(pairs)
    label = (torch.tensor(kind) > 0).float()
    return Interactions(fields, label, torch.tensor(kind, dtype=torch.int8))


class ByItem(retrieval.ItemScorer):
    """The item with the highest code is the best."""

    def score(self, user: torch.Tensor) -> torch.Tensor:
        return self.candidates.float().expand(len(user), -1).clone()


def test_metrics_use_clean_labels_and_leave_training_positives_out() -> None:
    # 10 items; user 0 has 9 and 8 in training, so its list of two is 7, 6
    train = make_table([(0, 9), (0, 8), (0, 7), (1, 0)], [1, 2, 0, 1])
    # user 0: 7 is relevant, 6 is a false positive, 2 is relevant but not listed; 9 is a training
    # positive; user 1: 9 is relevant; user 2: nothing; user 3: an item without a code of its own
    test = make_table(
        [(0, 7), (0, 6), (0, 2), (0, 9), (1, 9), (1, 3), (2, 4), (3, 10)], [1, 2, 3, 1, 1, 0, 2, 1]
    )
    found = compute_top_k(ByItem(torch.arange(10)), train, test, (4, 10), 2)
    assert found["recall_at_2"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["ndcg_at_2"] == pytest.approx((1 / (1 + 1 / math.log2(3)) + 1) / 2)
    few = compute_top_k(ByItem(torch.arange(10)), train, test, (4, 10), 2, pairs_at_most=10)
    assert few["recall_at_2"] == pytest.approx(1 / 2)
    assert math.isnan(compute_top_k(ByItem(torch.arange(10)), train, test, (0, 10), 2)["ndcg_at_2"])
