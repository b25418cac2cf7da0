"""Eq. 3 to 7 and Algorithm 1 against plain loops written from the thesis."""

import math
import random
import struct
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import dartcli
from dartcli import catalog, settings
from dartcli.denoising import (
    Context,
    Decision,
    Observed,
    Strategy,
    TrainingTable,
    bce,
    denoised_loss,
    highest,
    observe,
    rank_keys,
    schedule,
    share,
    top,
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
    relabeled = identified[: math.floor(r * len(identified))]
    result = dict.fromkeys(rows, "keep")
    for row in identified:
        if row in positive:
            result[row] = "relabel" if row in relabeled else "discard"
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
        settings.validate(kind.Options, {"r": 0.5}, "strategy")


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
    chosen = highest(top(keys, 1), keys, torch.tensor(1))
    assert chosen.tolist() == [False, True]


def test_highest_takes_exactly_the_count_along_the_last_dimension() -> None:
    keys = torch.tensor([[3, 1, 2], [5, 6, 4]])
    falling = top(keys, 3)
    for first in range(4):
        for second in range(4):
            chosen = highest(falling, keys, torch.tensor([first, second]))
            assert chosen.sum(1).tolist() == [first, second]
    assert highest(top(keys, 2), keys, torch.tensor([1, 2])).tolist() == [
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
    assert settings.iterations(settings.check_duration(duration), per_epoch) == expected


def test_epochs_need_the_length_of_an_epoch() -> None:
    kind = catalog.load("strategies", "dart")
    with pytest.raises(UsageError, match=r"'3ep' counts epochs.*iterations_per_epoch"):
        kind(kind.Options(t_m="3ep"), Context())
    made = kind(kind.Options(t_m="3ep"), Context(iterations_per_epoch=10))
    assert made.t_m == 30


# A second reference, by counting instead of sorting: a row is among the k highest where fewer than
# k rows beat it. All of Algorithm 1 is in it, from the iteration to the loss that is optimized.


def beaten_by(row: int, pool: list[int], losses: list[float], rows: list[int]) -> int:
    """How many of ``pool`` stand above ``row``: a higher loss, or the same and a smaller number."""
    return sum(
        losses[other] > losses[row] or (losses[other] == losses[row] and rows[other] < rows[row])
        for other in pool
    )


def flagged_data(
    losses: list[float], labels: list[int], rows: list[int], tau: float, r: float, basis: str
) -> list[int | None]:
    """For each position the label to train on (Eq. 4 to 7), None where the row is discarded."""
    positives = [position for position, label in enumerate(labels) if label == 1]
    pool = positives if basis == "positives" else list(range(len(labels)))
    identified = math.floor(tau * len(pool))
    relabeled = math.floor(r * identified)
    result: list[int | None] = list(labels)
    for position in positives:
        above = beaten_by(position, pool, losses, rows)
        if above < relabeled:
            result[position] = 0
        elif above < identified:
            result[position] = None
    return result


def found_data(decision: Decision) -> list[int | None]:
    assert set(decision.weight.tolist()) <= {0.0, 1.0}
    assert set(decision.label.tolist()) <= {0.0, 1.0}
    return [
        int(label) if weight else None
        for weight, label in zip(decision.weight.tolist(), decision.label.tolist(), strict=True)
    ]


@pytest.mark.parametrize("basis", ["positives", "batch"])
@pytest.mark.parametrize(
    ("name", "fixed_r"), [("dart", None), ("dart-disc", 0.0), ("dart-rel", 1.0)]
)
def test_a_whole_iteration_is_algorithm_1(name: str, fixed_r: float | None, basis: str) -> None:
    chance = random.Random(f"{name} {basis}")
    kind = catalog.load("strategies", name)
    seen: Counter[int | None] = Counter()
    for number in range(400):
        size = chance.randrange(1, 25)
        logits = torch.tensor([chance.gauss(0, 3) for _ in range(size)])
        if chance.random() < 0.5:
            logits = logits.round()  # ties
        labels = [int(chance.random() < chance.choice([0.1, 0.5, 1.0])) for _ in range(size)]
        rows = chance.sample(range(2**31 - 50, 2**31), size)
        t_i, t_m = chance.randrange(6), chance.randrange(1, 12)
        tau_m, iteration = chance.choice([0.02, 0.3, 0.75, 1.0]), chance.randrange(1, 20)
        r = chance.choice([0.0, 0.1, 0.5, 2 / 3, 1.0]) if fixed_r is None else fixed_r
        chosen = {"r": r} if fixed_r is None else {}
        strategy = kind(
            kind.Options(tau_m=tau_m, t_i=t_i, t_m=t_m, basis=basis, **chosen), Context()
        )
        logits.requires_grad_()
        watched = observe(
            logits,
            torch.tensor(labels, dtype=torch.float32),
            row=torch.tensor(rows, dtype=torch.int32),
            iteration=torch.tensor(iteration, dtype=torch.int32),
            epoch=torch.tensor(1),
        )
        tau = max(min((iteration - t_i) / t_m * tau_m, tau_m), 0.0)
        expected = flagged_data(watched.loss.tolist(), labels, rows, tau, r, basis)
        decision = strategy.decide(watched)
        assert found_data(decision) == expected, (labels, rows, tau, r)
        seen.update(
            new if new is None else new - old
            for new, old in zip(expected, labels, strict=True)
            if new != old
        )

        if number % 4:
            continue
        # the last line of Algorithm 1: mean BCE (Eq. 2) over what is left
        loss = denoised_loss(logits, decision)
        loss.backward()
        left = [(x, y) for x, y in zip(logits.tolist(), expected, strict=True) if y is not None]
        mean = sum(plain_bce(x, y) for x, y in left) / max(len(left), 1)
        assert float(loss.detach()) == pytest.approx(mean, rel=1e-5, abs=1e-5)
        slopes = [
            0.0 if y is None else (1 / (1 + math.exp(-x)) - y) / len(left)
            for x, y in zip(logits.tolist(), expected, strict=True)
        ]
        assert logits.grad is not None
        assert logits.grad.tolist() == pytest.approx(slopes, rel=1e-4, abs=1e-7)
    assert (seen[None] > 100) == (name != "dart-rel")
    assert (seen[-1] > 100) == (name != "dart-disc")


def test_only_positives_count_towards_the_share_of_basis_positives() -> None:
    # 4 positives and 4 negatives whose losses are higher: tau 0.5 is 2 positives, or 4 rows
    losses, labels, rows = (
        [1.0, 2.0, 3.0, 4.0, 9.0, 9.0, 3.5, 0.0],
        [1] * 4 + [0] * 4,
        list(range(8)),
    )
    of_positives = dart(r=0.5, tau_m=0.5, t_m=1).decide(observed(losses, labels, rows, 1))
    assert found_data(of_positives) == [1, 1, None, 0, 0, 0, 0, 0]
    # the batch's four highest: two negatives (they use up the relabeled half), 4.0 and 3.5
    of_batch = dart(r=0.5, tau_m=0.5, t_m=1, basis="batch").decide(
        observed(losses, labels, rows, 1)
    )
    assert found_data(of_batch) == [1, 1, 1, None, 0, 0, 0, 0]


def test_a_single_positive_is_flagged_only_at_a_full_rate() -> None:
    for tau, r, expected in [(0.99, 1.0, 1), (1.0, 1.0, 0), (1.0, 0.99, None), (1.0, 0.0, None)]:
        decision = dart(r=r, tau_m=tau, t_m=1).decide(observed([0.3], [1], [7], 1))
        assert found_data(decision) == [expected]


def test_nothing_is_flagged_until_t_i_and_everything_due_t_m_later() -> None:
    strategy = dart(r=0.0, tau_m=0.5, t_i=10, t_m=4)
    losses, labels, rows = [float(i) for i in range(8)], [1] * 8, list(range(8))
    flagged = [
        found_data(strategy.decide(observed(losses, labels, rows, iteration))).count(None)
        for iteration in range(8, 18)
    ]
    assert flagged == [0, 0, 0, 1, 2, 3, 4, 4, 4, 4]


durations = st.integers(0, 40_000)
rates = st.floats(0, 1)


@given(iteration=st.integers(1, 10**6), t_i=durations, t_m=st.integers(1, 40_000), tau_m=rates)
def test_the_schedule_keeps_its_three_promises(
    iteration: int, t_i: int, t_m: int, tau_m: float
) -> None:
    found = float(schedule(torch.tensor(iteration), t_i, t_m, tau_m))
    assert found == tau_reference(iteration, t_i, t_m, tau_m)
    assert 0 <= found <= tau_m
    assert found >= float(schedule(torch.tensor(iteration - 1), t_i, t_m, tau_m))
    if iteration <= t_i:
        assert found == 0
    if iteration >= t_i + t_m:
        assert found == tau_m


class CudaDivision(TorchDispatchMode):
    """Divides by a Python number as PyTorch's GPU kernel does: times the reciprocal.

    Source: aten/src/ATen/native/cuda/BinaryDivTrueKernel.cu, ``iter.is_cpu_scalar(2)``.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func.overloadpacket is torch.ops.aten.div and not isinstance(args[1], torch.Tensor):
            return args[0] * (1.0 / args[1])
        return func(*args, **(kwargs or {}))


def test_the_schedule_is_the_same_on_a_gpu() -> None:
    for t_m in (49, 237):
        for iteration in range(1, t_m + 1):
            with CudaDivision():
                found = schedule(torch.tensor(iteration), 0, t_m, 0.02)
            assert float(found) == tau_reference(iteration, 0, t_m, 0.02)


finite_bits = st.floats(width=32, allow_nan=False)


@given(st.lists(st.tuples(finite_bits, st.integers(0, 2**31 - 1)), unique_by=lambda pair: pair[1]))
def test_keys_sort_as_python_sorts_floats_then_rows(pairs: list[tuple[float, int]]) -> None:
    keys = rank_keys(
        torch.tensor([score for score, _ in pairs], dtype=torch.float32),
        torch.tensor([row for _, row in pairs], dtype=torch.int64),
        torch.ones(len(pairs), dtype=torch.bool),
    )
    by_key = [pairs[i][1] for i in torch.argsort(keys, descending=True).tolist()]
    assert by_key == [row for _, row in sorted(pairs, key=lambda pair: (-pair[0], pair[1]))]


def test_keys_of_neighboring_floats_differ_in_the_right_direction() -> None:
    bits = [0, 1, 2, 0x007FFFFF, 0x00800000, 0x3F800000, 0x3F800001, 0x7F7FFFFF, 0x7F800000]
    upward = [struct.unpack("f", struct.pack("I", pattern))[0] for pattern in bits]
    scores = torch.tensor([*(-value for value in reversed(upward[1:])), *upward])
    # falling row numbers would order equal scores; they must not disturb unequal ones
    for rows in (torch.arange(len(scores)), torch.arange(len(scores)).flip(0)):
        keys = rank_keys(scores, rows, torch.ones_like(scores, dtype=torch.bool))
        assert bool((keys[1:] > keys[:-1]).all())


@pytest.mark.parametrize("row", [0, 1, 2**31 - 2, 2**31 - 1])
@pytest.mark.parametrize("score", [-math.inf, -3.4e38, -1e-45, 0.0, math.inf])
def test_every_eligible_row_is_above_every_row_that_is_not(row: int, score: float) -> None:
    keys = rank_keys(
        torch.tensor([score, math.inf]), torch.tensor([row, 5]), torch.tensor([True, False])
    )
    assert keys[0] > keys[1]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=20), st.data())
def test_highest_is_the_top_of_the_sorted_keys(keys: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(keys)))
    tensor = torch.tensor(keys, dtype=torch.int64)
    most = data.draw(st.integers(count, len(keys)))
    chosen = highest(top(tensor, most), tensor, torch.tensor(count))
    assert chosen.dtype == torch.bool
    expected = set(sorted(keys, reverse=True)[:count])
    assert chosen.tolist() == [key in expected for key in keys]


@pytest.mark.parametrize("seed", range(20))
def test_the_loss_and_its_gradient_are_those_of_the_formula(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logit = 4 * torch.randn(30, generator=generator, dtype=torch.float64)
    weight = torch.rand(30, generator=generator, dtype=torch.float64)
    weight[torch.rand(30, generator=generator) < 0.4] = 0.0
    label = torch.rand(30, generator=generator, dtype=torch.float64)
    first, second = logit.clone().requires_grad_(), logit.clone().requires_grad_()
    found = denoised_loss(first, Decision(weight, label))
    p = second.sigmoid()
    losses = -(label * p.log() + (1 - label) * (1 - p).log())
    kept = sum(w > 0 for w in weight.tolist())
    assert 0 < kept < 30
    expected = (weight * losses).sum() / kept
    found.backward()
    expected.backward()
    assert found.shape == ()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(first.grad, second.grad)


def test_an_empty_batch_has_a_gradient_too() -> None:
    logit = torch.empty(0, requires_grad=True)
    denoised_loss(logit, Decision(torch.empty(0), torch.empty(0))).backward()
    assert logit.grad is not None
    assert logit.grad.shape == (0,)


def test_what_is_observed_is_loss_and_probability_without_a_gradient() -> None:
    logit = torch.tensor([0.0, -2.0, 5.0], requires_grad=True)
    seen = observe(
        logit * 1,
        torch.tensor([1.0, 1.0, 0.0]),
        row=torch.arange(3),
        iteration=torch.tensor(1),
        epoch=torch.tensor(1),
    )
    assert not seen.loss.requires_grad
    assert not seen.probability.requires_grad
    pairs = zip(logit.tolist(), [1, 1, 0], strict=True)
    assert seen.loss.tolist() == pytest.approx([plain_bce(x, y) for x, y in pairs], rel=1e-6)
    expected = [1 / (1 + math.exp(-x)) for x in logit.tolist()]
    assert seen.probability.tolist() == pytest.approx(expected, rel=1e-6)


def test_a_strategy_without_a_link_of_its_own_trains_the_logit_as_it_is() -> None:
    logit = torch.tensor([-1e30, 0.0, 3.0])
    assert torch.equal(dart().link(logit), logit)


def test_a_strategy_that_decides_nothing_says_so() -> None:
    with pytest.raises(NotImplementedError, match=r"^$"):
        Strategy(settings.Options(), Context()).decide(observed([1.0], [1], [0], 1))


@pytest.mark.parametrize("basis", ["positives", "batch"])
def test_the_loss_for_other_loops_takes_the_same_decisions(basis: str) -> None:
    generator = torch.Generator().manual_seed(3)
    logit = torch.randn(50, generator=generator, requires_grad=True)
    label = torch.randint(0, 2, (50,), generator=generator)
    denoise = dartcli.strategy("dart", r=0.4, tau_m=0.5, t_i=2, t_m=10, basis=basis)
    for iteration in (1, 2, 5, 12, 100):
        losses = bce(logit.detach(), label.float()).tolist()
        tau = tau_reference(iteration, 2, 10, 0.5)
        expected = flagged_data(losses, label.tolist(), list(range(50)), tau, 0.4, basis)
        decision = denoise.decide(logit, label, iteration=iteration)
        assert found_data(decision) == expected
        assert torch.equal(
            denoise(logit, label, iteration=iteration), denoised_loss(logit, decision)
        )


@pytest.mark.parametrize("duration", ["3ep", "0.5ep"])
@pytest.mark.parametrize("option", ["t_i", "t_m"])
def test_every_duration_of_dart_may_count_epochs(option: str, duration: str) -> None:
    options = {"t_i": 7, "t_m": 7, option: duration}
    kind = catalog.load("strategies", "dart")
    with pytest.raises(UsageError, match="iterations_per_epoch"):
        kind(kind.Options(**options), Context())
    made = kind(kind.Options(**options), Context(iterations_per_epoch=80))
    assert getattr(made, option) == {"3ep": 240, "0.5ep": 40}[duration]


@pytest.mark.parametrize("duration", [0, "0", "0ep"])
def test_a_rise_in_no_time_is_refused(duration: int | str) -> None:
    kind = catalog.load("strategies", "dart")
    with pytest.raises(UsageError, match=r"strategy\.t_m is .*use 1 for an immediate start"):
        kind(kind.Options(t_m=duration), Context(iterations_per_epoch=80))


@pytest.mark.parametrize(
    "options", [{"r": -0.1}, {"r": 1.1}, {"tau_m": -0.1}, {"tau_m": 1.1}, {"basis": "users"}]
)
def test_hyper_parameters_out_of_range_are_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(UsageError, match=rf"^strategy\.{name} is .*: input should be "):
        settings.validate(catalog.load("strategies", "dart").Options, options, "strategy")


def test_statistics_of_the_table_count_positives_only() -> None:
    chance = random.Random(2)
    users = [chance.randrange(6) for _ in range(40)]
    items = [chance.randrange(4) for _ in range(40)]
    labels = [chance.randrange(2) for _ in range(40)]
    table = TrainingTable(
        user=torch.tensor(users),
        item=torch.tensor(items),
        label=torch.tensor(labels, dtype=torch.float32),
        users=8,
        items=5,
        rows=40,
    )
    of_users = Counter(user for user, label in zip(users, labels, strict=True) if label)
    of_items = Counter(item for item, label in zip(items, labels, strict=True) if label)
    assert table.user_counts.tolist() == [of_users[user] for user in range(8)]
    assert table.item_counts.tolist() == [of_items[item] for item in range(5)]
