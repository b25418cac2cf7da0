"""Top-k lists and their metrics, against plain loops."""

import math
import random

import pytest
import torch
from sklearn.metrics import ndcg_score

from dartcli import metrics


def sort_items(score: list[float]) -> list[int]:
    return sorted(range(len(score)), key=lambda item: (-score[item], item))


@pytest.mark.parametrize("case", range(100))
def test_lists_and_metrics_equal_plain_loops_with_ties(case: int) -> None:
    chance = random.Random(case)
    users, items, k = chance.randint(1, 8), chance.randint(1, 30), chance.randint(1, 12)
    levels = chance.choice([1, 2, 5, 1000])
    score = [[chance.randrange(levels) / 7 for _ in range(items)] for _ in range(users)]
    for row in score:
        for hidden in chance.sample(range(items), chance.randint(0, items - 1)):
            row[hidden] = -math.inf
    wanted = [set(chance.sample(range(items), chance.randint(1, items))) for _ in range(users)]

    found = metrics.find_top_k(torch.tensor(score), k)
    assert found.tolist() == [sort_items(row)[:k] for row in score]

    hit = torch.tensor([[item in wanted[user] for item in found[user].tolist()]
                        for user in range(users)])  # fmt: skip
    counts = torch.tensor([len(one) for one in wanted])
    recall, ndcg = metrics.recall_and_ndcg(hit, counts, k)
    for user, one in enumerate(wanted):
        listed = sort_items(score[user])[:k]
        assert recall[user].item() == pytest.approx(len(one & set(listed)) / len(one), abs=1e-12)
        gain = sum(1 / math.log2(rank + 2) for rank, item in enumerate(listed) if item in one)
        ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(one))))
        assert ndcg[user].item() == pytest.approx(gain / ideal, abs=1e-12)


def test_ndcg_is_that_of_scikit_learn() -> None:
    score = torch.rand(20, 50, generator=torch.Generator().manual_seed(1))
    wanted = torch.rand(20, 50, generator=torch.Generator().manual_seed(2)) < 0.1
    wanted[:, 0] = True
    hit = wanted.gather(1, metrics.find_top_k(score, 10))
    _, ndcg = metrics.recall_and_ndcg(hit, wanted.sum(dim=1), 10)
    expected = ndcg_score(wanted.numpy(), score.numpy(), k=10)
    assert float(ndcg.mean()) == pytest.approx(expected, abs=1e-12)


def test_a_user_without_relevant_items_has_no_metric() -> None:
    recall, ndcg = metrics.recall_and_ndcg(
        torch.zeros(1, 3, dtype=torch.bool), torch.tensor([0]), 3
    )
    assert recall.isnan().all()
    assert ndcg.isnan().all()
