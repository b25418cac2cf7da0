"""DART by relative loss and with parameters from the distribution of the loss, as plain loops."""

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from no_sync import NoSync

from dartcli import catalog
from dartcli.denoising import Context, Observed, TrainingTable, observe
from dartcli.denoising.mixture import split_losses
from dartcli.strategies.dart import Dart

USERS, ROWS = 7, 300
chance = random.Random(0)
USER = [chance.randrange(USERS) for _ in range(ROWS)]
LABEL = [int(chance.random() < 0.7) for _ in range(ROWS)]
TABLE = TrainingTable(
    user=torch.tensor(USER),
    item=torch.zeros(ROWS, dtype=torch.int64),
    label=torch.tensor(LABEL).float(),
    users=USERS,
    items=1,
    rows=ROWS,
)


def make(**options: Any) -> Dart:
    kind = catalog.load("strategies", "dart")
    found = kind(kind.Options(t_m=1, **options), Context(10, TABLE))
    assert isinstance(found, Dart)
    return found


def show(rows: list[int], logits: list[float]) -> Observed:
    return observe(
        torch.tensor(logits),
        torch.tensor([LABEL[row] for row in rows]).float(),
        row=torch.tensor(rows),
        iteration=torch.tensor(5),
        epoch=torch.tensor(1),
        user=torch.tensor([USER[row] for row in rows]),
        item=torch.zeros(len(rows), dtype=torch.int64),
    )


@pytest.mark.parametrize("basis", ["positives", "batch"])
def test_relative_loss_is_the_loss_minus_the_users_mean(basis: str) -> None:
    strategy = make(tau_m=0.3, r=0.5, rank_by="relative-loss", basis=basis)
    latest: dict[int, float] = {}
    for _ in range(40):
        rows = chance.sample(range(ROWS), 50)
        logits = [chance.gauss(USER[row] - 3, 1) for row in rows]
        observed = show(rows, logits)
        with NoSync():
            decision = strategy.decide(observed)
        losses = observed.loss.tolist()
        latest |= {row: loss for row, loss in zip(rows, losses, strict=True) if LABEL[row]}
        relative = {}
        for row, loss in zip(rows, losses, strict=True):
            mine = [latest[other] for other in latest if USER[other] == USER[row]]
            relative[row] = loss - (sum(mine) / len(mine) if mine else 0)
        pool = [row for row in rows if LABEL[row] or basis == "batch"]
        ranked = sorted(pool, key=lambda row: -relative[row])
        identified = ranked[: math.floor(0.3 * len(pool))]
        relabeled = {row for row in identified[: len(identified) // 2] if LABEL[row]}
        discarded = {row for row in identified if LABEL[row]} - relabeled
        assert {row for row, w in zip(rows, decision.weight, strict=True) if w == 0} == discarded
        label = {row for row, y in zip(rows, decision.label, strict=True) if LABEL[row] and y == 0}
        assert label == relabeled


def test_auto_flags_the_higher_component_and_relabels_what_is_sure() -> None:
    random_ = np.random.default_rng(0)
    high = random_.random(ROWS) < 0.3
    logits = np.where(high, random_.normal(-2, 0.7, ROWS), random_.normal(2, 0.7, ROWS))
    rows = list(range(ROWS))
    observed = show(rows, logits.tolist())
    strategy = make(r="auto", tau_m="auto")
    # nothing is known in the first epoch
    first = strategy.decide(observed)
    assert first.weight.tolist() == [1.0] * ROWS
    assert torch.equal(first.label, observed.label)
    strategy.study(2, torch.nn.Identity(), torch.zeros(ROWS, 2), TABLE.label)
    with NoSync():
        second = strategy.decide(observed)
    positive = np.array(LABEL) == 1
    losses = observed.loss.numpy()
    found = split_losses(observed.loss[torch.tensor(positive)])
    count = math.floor(float(found.share) * positive.sum())
    assert abs(count - (high & positive).sum()) <= 2
    flagged = set(sorted(np.flatnonzero(positive), key=lambda row: -losses[row])[:count])
    relabeled = {row for row in flagged if losses[row] >= found.sure}
    assert set(np.flatnonzero(second.weight.numpy() == 0)) == flagged - relabeled
    assert set(np.flatnonzero(second.label.numpy() < np.array(LABEL))) == relabeled
    assert relabeled


def test_auto_of_one_parameter_leaves_the_other() -> None:
    rows = list(range(ROWS))
    observed = show(rows, [chance.gauss(0, 2) for _ in rows])
    rate = make(r="auto", tau_m=0.2)
    rate.study(2, torch.nn.Identity(), torch.zeros(ROWS, 2), TABLE.label)
    decision = rate.decide(observed)
    assert int((decision.weight == 0).sum()) == math.floor(0.2 * sum(LABEL))
    share = make(r=0.25, tau_m="auto")
    share.tau_m.fill_(0.4)
    decision = share.decide(observed)
    count = math.floor(0.4 * sum(LABEL))
    assert int((decision.label < observed.label).sum()) == count // 4
    assert int((decision.weight == 0).sum()) == count - count // 4


def test_what_auto_learned_is_saved() -> None:
    rows = list(range(ROWS))
    observed = show(rows, [chance.gauss(0, 2) * (1 + row % 3) for row in rows])
    one, other = make(r="auto", tau_m="auto"), make(r="auto", tau_m="auto")
    one.decide(observed)
    one.study(2, torch.nn.Identity(), torch.zeros(ROWS, 2), TABLE.label)
    other.load_state_dict(one.state_dict())
    for left, right in zip(one.decide(observed), other.decide(observed), strict=True):
        assert torch.equal(left, right)
