"""Strategies against plain loops written from their formulas."""

import math
import random

import polars as pl
import pytest
import torch

from dartcli import catalog
from dartcli.data.columns import LABEL, NOISY, USER
from dartcli.denoising import (
    Context,
    Evidence,
    Observed,
    Strategy,
    TrainingTable,
    denoised_loss,
    observe,
)
from dartcli.errors import TrainingError


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def make_strategy(name: str, context: Context | None = None, **options: object) -> Strategy:
    kind = catalog.load("strategies", name)
    strategy: Strategy = kind(kind.Options(**options), context or Context())
    return strategy


def draw_batches() -> list[tuple[list[float], list[int], list[int]]]:
    chance = random.Random(0)
    found = []
    for _ in range(100):
        size = chance.randrange(1, 30)
        logits = [chance.gauss(0, 2) for _ in range(size)]
        labels = [chance.randrange(2) for _ in range(size)]
        found.append((logits, labels, chance.sample(range(1000), size)))
    return found


BATCHES = draw_batches()


def show(logits: list[float], labels: list[int], rows: list[int], **when: int) -> Observed:
    return observe(
        torch.tensor(logits),
        torch.tensor(labels, dtype=torch.float32),
        row=torch.tensor(rows),
        iteration=torch.tensor(when.get("iteration", 100)),
        epoch=torch.tensor(when.get("epoch", 2)),
    )


@pytest.mark.parametrize(
    ("name", "beta", "predict"),
    [
        ("bootstrap-hard", 0.8, lambda p: float(p > 0.5)),
        ("bootstrap-soft", 0.95, lambda p: p),
    ],
)
def test_bootstrap_mixes_record_and_prediction(name: str, beta: float, predict: object) -> None:
    strategy = make_strategy(name)
    for logits, labels, rows in BATCHES:
        decision = strategy.decide(show(logits, labels, rows))
        expected = [
            beta * y + (1 - beta) * predict(sigmoid(x))  # type: ignore[operator]
            for x, y in zip(logits, labels, strict=True)
        ]
        assert decision.label.tolist() == pytest.approx(expected, abs=1e-6)
        assert decision.weight.tolist() == [1.0] * len(labels)


@pytest.mark.parametrize("name", ["lcd", "lcd-re"])
def test_lcd_weights_record_and_model_by_the_scaled_loss(name: str) -> None:
    for logits, labels, rows in BATCHES:
        p = [sigmoid(x) for x in logits]
        loss = [-math.log(q if y else 1 - q) for q, y in zip(p, labels, strict=True)]
        low, high = min(loss), max(loss)
        if 0 < high - low < 1e-2:
            continue  # the scaled loss is a quotient of rounding errors
        scaled = [(value - low) / (high - low + 1e-8) for value in loss]
        expected = [
            w * y + (1 - w) * q if name == "lcd" else w * q + (1 - w) * y
            for w, q, y in zip(scaled, p, labels, strict=True)
        ]
        decision = make_strategy(name).decide(show(logits, labels, rows))
        assert decision.label.tolist() == pytest.approx(expected, abs=1e-3)
        assert decision.weight.tolist() == [1.0] * len(labels)


@pytest.mark.parametrize("name", ["lcd", "lcd-re"])
def test_the_first_epoch_of_lcd_is_plain_training(name: str) -> None:
    logits, labels, rows = BATCHES[7]
    decision = make_strategy(name).decide(show(logits, labels, rows, epoch=1))
    assert decision.label.tolist() == labels


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_adt_ce_r_weights_by_confidence_and_divides_by_all_rows(double: bool, alpha: float) -> None:
    strategy = make_strategy("adt-ce-r", alpha=alpha, double_sigmoid=double)
    for logits, labels, rows in BATCHES:
        decision = strategy.decide(show(logits, labels, rows))
        p = [sigmoid(sigmoid(x)) if double else sigmoid(x) for x in logits]
        expected = [(q if y else 1 - q) ** alpha for q, y in zip(p, labels, strict=True)]
        assert decision.weight.tolist() == pytest.approx(expected, rel=1e-4)
        loss = denoised_loss(torch.tensor(logits), decision).item()
        plain = [
            w * -math.log(sigmoid(x) if y else 1 - sigmoid(x))
            for w, x, y in zip(expected, logits, labels, strict=True)
        ]
        assert loss == pytest.approx(sum(plain) / len(plain), rel=1e-4)


def test_adt_ce_r_never_drops_a_row_from_the_divisor() -> None:
    shown = show([20.0, 0.0, 0.0, 0.0], [0, 1, 0, 1], [0, 1, 2, 3])
    assert shown.probability[0] == 1.0
    assert bool((make_strategy("adt-ce-r").decide(shown).weight > 0).all())


@pytest.mark.parametrize("tau", [0.0, 0.1, 0.5, 1.0])
def test_adt_ce_t_discards_the_highest_loss_times_label(tau: float) -> None:
    strategy = make_strategy("adt-ce-t", tau_m=tau, t_m=1)
    for logits, labels, rows in BATCHES:
        shown = show(logits, labels, rows)
        decision = strategy.decide(shown)
        score = [loss * y for loss, y in zip(shown.loss.tolist(), labels, strict=True)]
        order = sorted(range(len(rows)), key=lambda j: (-score[j], rows[j]))
        dropped = set(order[: int(tau * len(rows))])
        assert decision.weight.tolist() == [float(j not in dropped) for j in range(len(rows))]
        assert decision.label.tolist() == labels


def test_the_rate_of_adt_ce_t_rises_from_iteration_zero() -> None:
    logits, labels, rows = [1.0] * 100, [1] * 100, list(range(100))
    strategy = make_strategy("adt-ce-t", tau_m=0.2, t_m=10)
    for iteration in (1, 5, 10, 99):
        decision = strategy.decide(show(logits, labels, rows, iteration=iteration))
        dropped = int((decision.weight == 0).sum())
        assert dropped == math.floor(min(iteration / 10 * 0.2, 0.2) * 100)


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.5])
def test_f_correction_adds_the_interactions_of_users_who_do_not_like(rho: float) -> None:
    logits = [x / 4 for x in range(-40, 41)]
    linked = make_strategy("f-correction", rho=rho).link(torch.tensor(logits, dtype=torch.float64))
    expected = [sigmoid(x) + rho * (1 - sigmoid(x)) for x in logits]
    assert torch.sigmoid(linked).tolist() == pytest.approx(expected, rel=1e-6)


def test_s_model_starts_with_the_given_noise_and_learns() -> None:
    strategy = make_strategy("s-model", keep=0.9)
    logits = torch.linspace(-5, 5, 41)
    expected = [0.9 * sigmoid(x) + 0.1 * (1 - sigmoid(x)) for x in logits.tolist()]
    assert torch.sigmoid(strategy.link(logits)).tolist() == pytest.approx(expected, rel=1e-5)
    assert [name for name, _ in strategy.named_parameters()] == ["noise"]
    strategy.link(logits).sum().backward()
    assert all(parameter.grad is not None for parameter in strategy.parameters())


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (0.5, 0.5), (0.5, -0.25), (0.0, 0.0)])
def test_popularity_weights_positives_by_counts_with_mean_one(a: float, b: float) -> None:
    chance = random.Random(3)
    user = [chance.randrange(5) for _ in range(60)]
    item = [chance.randrange(7) for _ in range(60)]
    label = [float(chance.randrange(2)) for _ in range(60)]
    table = TrainingTable(
        torch.tensor(user), torch.tensor(item), torch.tensor(label), users=5, items=7, rows=60
    )
    observed = Observed(
        loss=torch.zeros(60),
        label=table.label,
        probability=torch.full((60,), 0.5),
        row=torch.arange(60),
        iteration=torch.tensor(1),
        epoch=torch.tensor(1),
        user=table.user,
        item=table.item,
    )
    decision = make_strategy("popularity", Context(1, table), a=a, b=b).decide(observed)

    def count(ids: list[int], value: int) -> int:
        return max(sum(1 for i, y in zip(ids, label, strict=True) if y and i == value), 1)

    raw = [count(item, i) ** a * count(user, u) ** b for u, i in zip(user, item, strict=True)]
    mean = sum(w for w, y in zip(raw, label, strict=True) if y) / sum(label)
    expected = [w / mean if y else 1.0 for w, y in zip(raw, label, strict=True)]
    assert decision.weight.tolist() == pytest.approx(expected, rel=1e-5)
    positives = [w for w, y in zip(decision.weight.tolist(), label, strict=True) if y]
    assert sum(positives) / len(positives) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("basis", ["batch", "positives"])
def test_mentornet_keeps_rows_below_a_running_percentile(basis: str) -> None:
    strategy = make_strategy("mentornet", percentile=0.7, decay=0.5, burn_in=0, basis=basis)
    threshold: float | None = None
    for logits, labels, rows in BATCHES[:60]:
        shown = show(logits, labels, rows)
        loss = shown.loss.tolist()
        ranked = [j for j in range(len(rows)) if basis == "batch" or labels[j] == 1]
        decision = strategy.decide(shown)
        if ranked:
            ordered = sorted(loss[j] for j in ranked)
            current = ordered[math.ceil(0.7 * len(ordered)) - 1]
            threshold = current if threshold is None else 0.5 * threshold + 0.5 * current
        for j in range(len(rows)):
            if threshold is not None and abs(loss[j] - threshold) < 1e-6:
                continue  # rounding decides
            hard = j in ranked and threshold is not None and loss[j] > threshold
            assert float(decision.weight[j]) == float(not hard)


def test_mentornet_discards_nothing_during_burn_in() -> None:
    logits, labels, rows = BATCHES[3]
    strategy = make_strategy("mentornet", burn_in=2)
    decision = strategy.decide(show(logits, labels, rows, epoch=2))
    assert decision.weight.tolist() == [1.0] * len(rows)


@pytest.mark.parametrize("basis", ["batch", "positives"])
def test_co_teaching_discards_the_highest_losses_of_the_other_network(basis: str) -> None:
    strategy = make_strategy("co-teaching", t_m=50, basis=basis)
    for number, (logits, labels, rows) in enumerate(BATCHES, start=1):
        others = [-logit + 0.1 * row for logit, row in zip(logits, rows, strict=True)]
        views = [show(x, labels, rows, iteration=number) for x in (logits, others)]
        rate = min(number / 50 * 0.2, 0.2)
        for decision, judge in zip(strategy.exchange(views), reversed(views), strict=True):
            ranked = [i for i, y in enumerate(labels) if y or basis == "batch"]
            worst = sorted(ranked, key=lambda i: (-float(judge.loss[i]), rows[i]))
            out = set(worst[: math.floor(rate * len(ranked))])
            assert decision.weight.tolist() == [float(i not in out) for i in range(len(labels))]
            assert decision.label.tolist() == labels


def test_clean_strategies_drop_or_relabel_the_false_positives() -> None:
    recorded = pl.DataFrame({USER: [0, 1, 2], LABEL: [1, 1, 0], NOISY: [True, False, None]})
    clean = catalog.load("strategies", "clean").prepare(recorded)
    relabeled = catalog.load("strategies", "clean-relabel").prepare(recorded)
    assert clean.rows() == [(1, 1, False), (2, 0, None)]
    assert relabeled.rows() == [(0, 0, True), (1, 1, False), (2, 0, None)]


@pytest.mark.parametrize("name", ["clean", "clean-relabel"])
def test_clean_strategies_refuse_positives_without_ground_truth(name: str) -> None:
    recorded = pl.DataFrame({LABEL: [1, 1, 1, 0], NOISY: [True, None, None, None]})
    with pytest.raises(TrainingError, match=r"\b2 positives\b"):
        catalog.load("strategies", name).prepare(recorded)


@pytest.mark.parametrize("treatment", ["label", "weight"])
def test_trusted_labels_tend_to_whether_and_weights_to_which(treatment: str) -> None:
    recorded, sampled = 60, 40
    rows, zeros = torch.arange(recorded + sampled), torch.zeros(recorded + sampled).long()
    label = (rows < recorded).float()
    table = TrainingTable(zeros, zeros, label, users=1, items=1, rows=len(rows))
    strategy = make_strategy("trusted", Context(1, table), treatment=treatment)
    p = torch.rand(recorded, generator=torch.Generator().manual_seed(0))
    p[:2] = torch.tensor([0.0, 1.0])  # trusted rows
    one, nothing = torch.ones(1), torch.empty(1, 0)
    positive = zeros[:recorded]
    evidence = Evidence(rows[:recorded], positive, positive, p.logit(), one, one, nothing, nothing)
    assert strategy.begin_stage(2, evidence, p, {})
    # with one user and one item, the model is a single logit
    wanted = float((1 - p).sum())
    best = {
        "label": math.log(wanted / (recorded + sampled - wanted)),
        "weight": math.log(wanted / sampled),
    }
    logit = torch.full((len(rows),), best[treatment], requires_grad=True)
    observed = observe(
        logit.detach(), label, row=rows, iteration=torch.tensor(1), epoch=torch.tensor(1)
    )
    decision = strategy.decide(observed)
    denoised_loss(logit, decision).backward()
    assert logit.grad is not None
    assert float(logit.grad.sum()) == pytest.approx(0, abs=1e-7)
    assert float(logit.grad.abs().sum()) > 0.1
    ones = torch.ones_like(label)
    expected = {
        "label": (ones, torch.cat([1 - p, label[recorded:]])),
        "weight": (torch.cat([1 - p, ones[recorded:]]), label),
    }
    for found, value in zip(decision, expected[treatment], strict=True):
        assert torch.equal(found, value)
