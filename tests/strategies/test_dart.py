"""DART against Algorithm 1 (Eq. 3 to 7), written as plain loops from the thesis."""

import math
import random
from collections import Counter
from typing import Any

import pytest
import torch

import dartcli
from dartcli import catalog, settings
from dartcli.denoising import Context, Decision, Observed, Strategy, bce, denoised_loss, observe
from dartcli.errors import UsageError

Labels = list[int | None]
"""For each row the label to train on, or None if the row is discarded."""


def run_algorithm_1(
    losses: list[float], labels: list[int], rows: list[int], tau: float, r: float, basis: str
) -> Labels:
    positions = range(len(labels))
    pool = [i for i in positions if basis == "batch" or labels[i] == 1]
    ranked = sorted(pool, key=lambda i: (-losses[i], rows[i]))
    identified = ranked[: math.floor(tau * len(pool))]
    relabeled = set(identified[: math.floor(r * len(identified))])
    result: Labels = list(labels)
    for i in identified:
        if labels[i] == 1:
            result[i] = 0 if i in relabeled else None
    return result


def read_labels(decision: Decision) -> Labels:
    assert set(decision.weight.tolist()) <= {0.0, 1.0}
    assert set(decision.label.tolist()) <= {0.0, 1.0}
    return [
        int(label) if weight else None
        for weight, label in zip(decision.weight.tolist(), decision.label.tolist(), strict=True)
    ]


def make_dart(name: str = "dart", **options: Any) -> Strategy:
    kind = catalog.load("strategies", name)
    strategy: Strategy = kind(kind.Options(**options), Context())
    return strategy


def decide(
    strategy: Strategy, losses: list[float], labels: list[int], rows: list[int], iteration: int = 1
) -> Labels:
    loss = torch.tensor(losses, dtype=torch.float32)
    observed = Observed(
        loss=loss,
        label=torch.tensor(labels, dtype=torch.float32),
        probability=torch.exp(-loss),
        row=torch.tensor(rows, dtype=torch.int64),
        iteration=torch.tensor(iteration),
        epoch=torch.tensor(1),
    )
    return read_labels(strategy.decide(observed))


@pytest.mark.parametrize("basis", ["positives", "batch"])
@pytest.mark.parametrize(
    ("name", "fixed_r"), [("dart", None), ("dart-disc", 0.0), ("dart-rel", 1.0)]
)
def test_random_iterations_follow_algorithm_1(name: str, fixed_r: float | None, basis: str) -> None:
    chance = random.Random(f"{name} {basis}")
    seen: Counter[int | None] = Counter()
    for number in range(500):
        size = chance.choice([1, 2, 3, 7, 20, 64])
        logits = torch.tensor([chance.gauss(0, 3) for _ in range(size)])
        if chance.random() < 0.5:
            logits = logits.round()  # ties
        share = chance.choice([0.0, 0.3, 0.5, 1.0])
        labels = [int(chance.random() < share) for _ in range(size)]
        rows = chance.sample(range(2**31 - 640, 2**31), size)
        t_i, t_m = chance.randrange(6), chance.randrange(1, 12)
        tau_m, iteration = chance.choice([0.0, 0.02, 0.3, 0.75, 1.0]), chance.randrange(1, 20)
        r = chance.choice([0.0, 0.1, 0.5, 2 / 3, 1.0]) if fixed_r is None else fixed_r
        strategy = make_dart(name, r=r, tau_m=tau_m, t_i=t_i, t_m=t_m, basis=basis)
        logits.requires_grad_()
        observed = observe(
            logits,
            torch.tensor(labels, dtype=torch.float32),
            row=torch.tensor(rows, dtype=chance.choice([torch.int32, torch.int64])),
            iteration=torch.tensor(iteration, dtype=torch.int32),
            epoch=torch.tensor(1),
        )
        tau = max(min((iteration - t_i) / t_m * tau_m, tau_m), 0.0)
        expected = run_algorithm_1(observed.loss.tolist(), labels, rows, tau, r, basis)
        decision = strategy.decide(observed)
        assert read_labels(decision) == expected, (labels, rows, tau, r)
        seen.update(new for new, old in zip(expected, labels, strict=True) if new != old)
        if number % 5 == 0:
            check_loss_and_gradient(logits, decision, expected)
    assert (seen[None] > 100) == (name != "dart-rel")
    assert (seen[0] > 100) == (name != "dart-disc")


def check_loss_and_gradient(logits: torch.Tensor, decision: Decision, expected: Labels) -> None:
    """The last line of Algorithm 1: mean cross-entropy (Eq. 2) over the rows that are left."""
    loss = denoised_loss(logits, decision)
    loss.backward()
    p = [1 / (1 + math.exp(-x)) for x in logits.tolist()]
    pairs = list(zip(p, expected, strict=True))
    terms = [-math.log(q if y else 1 - q) for q, y in pairs if y is not None]
    count = max(len(terms), 1)
    assert float(loss.detach()) == pytest.approx(sum(terms) / count, rel=1e-5, abs=1e-5)
    slopes = [0.0 if y is None else (q - y) / count for q, y in pairs]
    assert logits.grad is not None
    assert logits.grad.tolist() == pytest.approx(slopes, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("basis", ["positives", "batch"])
def test_the_order_of_the_batch_does_not_matter(basis: str) -> None:
    chance = random.Random(1)
    losses = [chance.randrange(5) / 4 for _ in range(200)]
    labels = [chance.randrange(2) for _ in range(200)]
    rows = chance.sample(range(2**31 - 1), 200)
    strategy = make_dart(r=0.4, tau_m=0.3, t_m=1, basis=basis)
    first = decide(strategy, losses, labels, rows)
    order = chance.sample(range(200), 200)
    shuffled = [[values[i] for i in order] for values in (losses, labels, rows)]
    assert decide(strategy, *shuffled) == [first[i] for i in order]
    assert first == run_algorithm_1(losses, labels, rows, 0.3, 0.4, basis)


def test_the_share_is_of_the_positives_or_of_the_batch() -> None:
    # 4 positives, and 4 negatives with higher losses: tau 0.5 is 2 positives, or 4 rows
    losses, labels = [1.0, 2.0, 3.0, 4.0, 9.0, 9.0, 3.5, 0.0], [1] * 4 + [0] * 4
    options = {"r": 0.5, "tau_m": 0.5, "t_m": 1}
    found = decide(make_dart(**options), losses, labels, list(range(8)))
    assert found == [1, 1, None, 0, 0, 0, 0, 0]
    # the highest four of the batch: two negatives, which use up the relabeled half, 4.0 and 3.5
    found = decide(make_dart(**options, basis="batch"), losses, labels, list(range(8)))
    assert found == [1, 1, 1, None, 0, 0, 0, 0]


def test_a_single_positive_is_flagged_only_at_rate_one() -> None:
    for tau, r, expected in [(0.99, 1.0, 1), (1.0, 1.0, 0), (1.0, 0.99, None), (1.0, 0.0, None)]:
        assert decide(make_dart(r=r, tau_m=tau, t_m=1), [0.3], [1], [7]) == [expected]


def test_flagging_starts_after_t_i_and_is_complete_t_m_later() -> None:
    strategy = make_dart(r=0.0, tau_m=0.5, t_i=10, t_m=4)
    losses, labels, rows = [float(i) for i in range(8)], [1] * 8, list(range(8))
    flagged = [
        decide(strategy, losses, labels, rows, iteration).count(None) for iteration in range(8, 18)
    ]
    assert flagged == [0, 0, 0, 1, 2, 3, 4, 4, 4, 4]


@pytest.mark.parametrize("basis", ["positives", "batch"])
def test_the_loss_for_other_loops_takes_the_same_decisions(basis: str) -> None:
    generator = torch.Generator().manual_seed(3)
    logit = torch.randn(50, generator=generator, requires_grad=True)
    label = torch.randint(0, 2, (50,), generator=generator)
    losses = bce(logit.detach(), label.float()).tolist()
    denoise = dartcli.strategy("dart", r=0.4, tau_m=0.5, t_i=2, t_m=10, basis=basis)
    for iteration in (1, 2, 5, 12, 100):
        tau = max(min((iteration - 2) / 10 * 0.5, 0.5), 0.0)
        expected = run_algorithm_1(losses, label.tolist(), list(range(50)), tau, 0.4, basis)
        decision = denoise.decide(logit, label, iteration=iteration)
        assert read_labels(decision) == expected
        loss = denoise(logit, label, iteration=iteration)
        assert torch.equal(loss, denoised_loss(logit, decision))


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("dart", "r", -0.1),
        ("dart", "r", 1.1),
        ("dart", "tau_m", -0.1),
        ("dart", "tau_m", 1.1),
        ("dart", "basis", "users"),
        ("dart-disc", "r", 0.5),
        ("dart-rel", "r", 0.5),
    ],
)
def test_options_out_of_range_are_refused(name: str, option: str, value: object) -> None:
    kind = catalog.load("strategies", name)
    with pytest.raises(UsageError) as caught:
        settings.validate(kind.Options, {option: value}, "strategy")
    assert f"strategy.{option}" in str(caught.value)
    assert str(value) in str(caught.value)
