"""CrossDenoise against a plain loop over dictionaries, as the authors' program keeps them."""

import random

import pytest
import torch

from dartcli import catalog
from dartcli.denoising import Context, TrainingTable, observe

USERS, ITEMS, RECORDED, ROWS = 6, 5, 40, 60


def rank_linearly(means: dict[int, float], lower: float, upper: float) -> dict[int, float]:
    ordered = sorted(means, key=lambda code: means[code])
    step = (lower - upper) / (len(ordered) - 1)
    return {code: upper + step * place for place, code in enumerate(ordered)}


def test_weights_follow_the_published_rule() -> None:
    chance = random.Random(0)
    user = [chance.randrange(USERS) for _ in range(ROWS)]
    item = [chance.randrange(ITEMS) for _ in range(ROWS)]
    fields = torch.tensor([user[:RECORDED], item[:RECORDED]]).T
    label = torch.ones(RECORDED)
    table = TrainingTable(fields[:, 0], fields[:, 1], label, USERS, ITEMS, ROWS)
    kind = catalog.load("strategies", "crossdenoise")
    strategy = kind(kind.Options(lower=0.4, upper=1.6), Context(3, table))
    weight = dict.fromkeys(range(ROWS), 1.0)
    for epoch in range(1, 6):
        strategy.study(epoch, torch.nn.Identity(), fields, label)
        order = chance.sample(range(ROWS), ROWS)
        loss: dict[int, float] = {}
        for start in range(0, ROWS, 20):
            rows = order[start : start + 20]
            observed = observe(
                torch.tensor([chance.gauss(0, 2) for _ in rows]),
                torch.tensor([float(row < RECORDED) for row in rows]),
                row=torch.tensor(rows),
                iteration=torch.tensor(epoch),
                epoch=torch.tensor(epoch),
                user=torch.tensor([user[row] for row in rows]),
                item=torch.tensor([item[row] for row in rows]),
            )
            decision = strategy.decide(observed)
            assert torch.equal(decision.label, observed.label)
            expected = [1.0 if epoch < 3 else weight[row] for row in rows]
            assert decision.weight.tolist() == pytest.approx(expected, rel=1e-5)
            loss |= dict(zip(rows, observed.loss.tolist(), strict=True))
        reputation = []
        for codes in (user, item):
            groups = {code: [loss[r] for r in loss if codes[r] == code] for code in set(codes)}
            means = {code: sum(values) / len(values) for code, values in groups.items()}
            reputation.append(rank_linearly(means, 0.4, 1.6))
        for row in range(RECORDED):
            at_least = sum(other >= loss[row] for other in loss.values())
            weight[row] = (at_least - 0.5) / ROWS
            weight[row] *= reputation[0][user[row]] * reputation[1][item[row]]
