"""Eq. 3 to 7 and Algorithm 1 against plain loops written from the thesis."""

import math
import random

import pytest
import torch

from dartcli import catalog, settings
from dartcli.denoising import (
    Context,
    Decision,
    Observed,
    Strategy,
    bce,
    denoised_loss,
    highest,
    rank_keys,
    schedule,
    share,
)
from dartcli.errors import UsageError


def tau_reference(iteration: int, t_i: float, t_m: float, tau_m: float) -> float:
    """Eq. 3."""
    return max(min((iteration - t_i) / t_m * tau_m, tau_m), 0.0)


def ranked(rows: list[tuple[float, int]]) -> list[int]:
    """Row numbers by falling loss; among equal losses the smaller row first."""
    return [row for _, row in sorted(rows, key=lambda pair: (-pair[0], pair[1]))]


def algorithm_1(
    losses: list[float], labels: list[int], rows: list[int], tau: float, r: float, basis: str
) -> dict[int, str]:
    """Row -> keep, discard or relabel, for one mini-batch."""
    everything = list(zip(losses, rows, strict=True))
    positive = {row for row, label in zip(rows, labels, strict=True) if label == 1}
    pool = everything if basis == "batch" else [pair for pair in everything if pair[1] in positive]
    identified = ranked(pool)[: math.floor(tau * len(pool))]
    relabelled = identified[: math.floor(r * len(identified))]
    result = dict.fromkeys(rows, "keep")
    for row in identified:
        if row in positive:
            result[row] = "relabel" if row in relabelled else "discard"
    return result


def outcome(decision: Decision, labels: list[int], rows: list[int]) -> dict[int, str]:
    result = {}
    for position, row in enumerate(rows):
        weight, label = float(decision.weight[position]), float(decision.label[position])
        assert weight in (0.0, 1.0)
        if weight == 0:
            assert label == labels[position]
            result[row] = "discard"
        elif label != labels[position]:
            assert label == 0.0
            result[row] = "relabel"
        else:
            result[row] = "keep"
    return result


def observed(losses: list[float], labels: list[int], rows: list[int], iteration: int) -> Observed:
    loss = torch.tensor(losses, dtype=torch.float32)
    return Observed(
        loss=loss,
        label=torch.tensor(labels, dtype=torch.float32),
        probability=torch.exp(-loss),
        row=torch.tensor(rows, dtype=torch.int64),
        iteration=torch.tensor(iteration),
        epoch=torch.tensor(1),
    )


def dart(**options: object) -> Strategy:
    kind = catalog.load("strategies", "dart")
    made: Strategy = kind(kind.Options(**options), Context())
    return made


BATCHES = 3000


@pytest.mark.parametrize("basis", ["positives", "batch"])
def test_dart_does_what_algorithm_1_says_on_thousands_of_random_batches(basis: str) -> None:
    chance = random.Random(5)
    seen = set()
    for _ in range(BATCHES):
        size = chance.choice([1, 2, 3, 7, 20, 64])
        distinct = chance.choice([1, 2, 5, 1000])  # few distinct losses: many ties
        losses = [chance.randrange(distinct) / 8 for _ in range(size)]
        share_of_positives = chance.choice([0.0, 0.3, 0.5, 1.0])
        labels = [int(chance.random() < share_of_positives) for _ in range(size)]
        rows = chance.sample(range(10 * size), size)
        tau = chance.choice([0.0, 1.0, chance.random(), chance.randrange(20) / 20])
        r = chance.choice([0.0, 1.0, 0.5, 0.25, chance.random()])
        expected = algorithm_1(losses, labels, rows, tau, r, basis)
        strategy = dart(r=r, tau_m=tau, t_i=0, t_m=1, basis=basis)
        found = outcome(strategy.decide(observed(losses, labels, rows, 9)), labels, rows)
        assert found == expected, (losses, labels, rows, tau, r)
        seen |= set(expected.values())
    assert seen == {"keep", "discard", "relabel"}


@pytest.mark.parametrize(("name", "r"), [("dart-disc", 0.0), ("dart-rel", 1.0)])
def test_the_variants_are_dart_with_r_zero_and_one(name: str, r: float) -> None:
    kind = catalog.load("strategies", name)
    losses, labels, rows = [3.0, 1.0, 2.0, 9.0], [1, 1, 1, 0], [4, 2, 7, 1]
    strategy = kind(kind.Options(tau_m=0.7, t_m=1), Context())
    found = outcome(strategy.decide(observed(losses, labels, rows, 5)), labels, rows)
    assert found == algorithm_1(losses, labels, rows, 0.7, r, "positives")
    with pytest.raises(UsageError, match=r"strategy\.r is 0\.5"):
        settings.parsed(kind.Options, {"r": 0.5}, "strategy")


def test_an_empty_batch_is_decided_and_costs_nothing() -> None:
    decision = dart(tau_m=1, t_m=1).decide(observed([], [], [], 1))
    assert decision.weight.shape == decision.label.shape == (0,)
    assert float(denoised_loss(torch.empty(0), decision)) == 0.0


@pytest.mark.parametrize("basis", ["positives", "batch"])
def test_the_order_of_the_batch_does_not_matter(basis: str) -> None:
    chance = random.Random(1)
    size = 200
    losses = [chance.randrange(5) / 4 for _ in range(size)]
    labels = [chance.randrange(2) for _ in range(size)]
    rows = chance.sample(range(2**31 - 1), size)
    strategy = dart(r=0.4, tau_m=0.3, t_m=1, basis=basis)
    first = outcome(strategy.decide(observed(losses, labels, rows, 2)), labels, rows)
    order = chance.sample(range(size), size)
    shuffled = [[values[i] for i in order] for values in (losses, labels, rows)]
    second = outcome(strategy.decide(observed(*shuffled, 2)), shuffled[1], shuffled[2])
    assert first == second


@pytest.mark.parametrize("t_i", [0, 1, 2.5, 1000])
@pytest.mark.parametrize("t_m", [1, 3, 5000])
@pytest.mark.parametrize("tau_m", [0.0, 0.02, 0.3, 1.0])
def test_the_schedule_is_eq_3_to_the_last_bit(t_i: float, t_m: float, tau_m: float) -> None:
    for iteration in [*range(1, 12), 999, 1000, 1001, 1003, 2500, 5999, 6000, 6001, 10**9]:
        found = schedule(torch.tensor(iteration), t_i, t_m, tau_m)
        assert found.dtype == torch.float64
        assert float(found) == tau_reference(iteration, t_i, t_m, tau_m)


def test_share_rounds_down_as_python_does() -> None:
    for count in range(200):
        for percent in range(101):
            rate = percent / 100
            assert int(share(rate, torch.tensor(count))) == math.floor(rate * count)


def test_keys_order_every_kind_of_float_and_settle_ties_by_row() -> None:
    scores = [0.0, -0.0, 1e-45, -1e-45, 3.5, -3.5, math.inf, -math.inf, 3.5, 0.0]
    rows = [5, 4, 0, 1, 2**31 - 1, 7, 8, 9, 0, 6]
    keys = rank_keys(torch.tensor(scores), torch.tensor(rows), torch.ones(10, dtype=torch.bool))
    by_key = [rows[i] for i in torch.argsort(keys, descending=True).tolist()]
    floats = torch.tensor(scores).tolist()
    # rows are told apart by (score, row): the row 0 occurs twice with different scores
    expected = sorted(range(10), key=lambda i: (-floats[i], rows[i]))
    assert by_key == [rows[i] for i in expected]
    assert len(set(keys.tolist())) == 10


def test_rows_that_are_not_eligible_come_last() -> None:
    keys = rank_keys(torch.tensor([9.0, -1e38]), torch.tensor([0, 1]), torch.tensor([False, True]))
    chosen = highest(torch.sort(keys).values, keys, torch.tensor(1))
    assert chosen.tolist() == [False, True]


def test_highest_takes_exactly_the_count_along_the_last_dimension() -> None:
    keys = torch.tensor([[3, 1, 2], [5, 6, 4]])
    ascending = torch.sort(keys, dim=1).values
    for first in range(4):
        for second in range(4):
            chosen = highest(ascending, keys, torch.tensor([first, second]))
            assert chosen.sum(1).tolist() == [first, second]
    assert highest(ascending, keys, torch.tensor([1, 2])).tolist() == [
        [True, False, False],
        [True, True, False],
    ]


def plain_bce(logit: float, label: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -(label * math.log(p) + (1 - label) * math.log(1 - p))


def test_the_loss_is_the_weighted_sum_over_the_rows_that_are_kept() -> None:
    logits = torch.tensor([0.5, -1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([1.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    label = torch.tensor([1.0, 1.0, 0.3, 0.0], dtype=torch.float64)
    loss = denoised_loss(logits, Decision(weight, label))
    expected = sum(
        w * plain_bce(x, y)
        for x, y, w in zip(logits.tolist(), label.tolist(), weight.tolist(), strict=True)
    )
    assert loss.item() == pytest.approx(expected / 3, rel=1e-12)
    loss.backward()
    gradient = [
        w * (1 / (1 + math.exp(-x)) - y) / 3
        for x, y, w in zip(logits.tolist(), label.tolist(), weight.tolist(), strict=True)
    ]
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx(gradient, rel=1e-12)


def test_a_batch_that_is_discarded_whole_has_no_loss_and_no_gradient() -> None:
    logits = torch.randn(5, requires_grad=True)
    loss = denoised_loss(logits, Decision(torch.zeros(5), torch.ones(5)))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert logits.grad.tolist() == [0.0] * 5


def test_huge_logits_give_finite_losses() -> None:
    logits = torch.tensor([1e30, -1e30, 80.0, -80.0])
    right = bce(logits, torch.tensor([1.0, 0.0, 1.0, 0.0]))
    assert right.tolist() == pytest.approx([0.0, 0.0, math.exp(-80), math.exp(-80)], abs=1e-34)
    assert bce(logits, torch.tensor([0.0, 1.0, 0.0, 1.0])).isfinite().all()


@pytest.mark.parametrize(
    ("duration", "per_epoch", "expected"),
    [(5000, None, 5000), ("5000", None, 5000), ("3ep", 79, 237), ("0.5ep", 79, 39.5), (0, 79, 0)],
)
def test_durations_count_iterations_or_epochs(
    duration: int | str, per_epoch: int | None, expected: float
) -> None:
    assert settings.iterations(settings.checked_duration(duration), per_epoch) == expected


def test_epochs_need_the_length_of_an_epoch() -> None:
    kind = catalog.load("strategies", "dart")
    with pytest.raises(UsageError, match=r"'3ep' counts epochs.*iterations_per_epoch"):
        kind(kind.Options(t_m="3ep"), Context())
    made = kind(kind.Options(t_m="3ep"), Context(iterations_per_epoch=10))
    assert made.t_m == 30
