"""Each strategy against a plain loop written from its formula."""

import math
import random

import pytest
import torch

from dartcli import catalog
from dartcli.denoising import (
    CleanSample,
    Context,
    Observed,
    Strategy,
    TrainingTable,
    bce,
    denoised_loss,
    observe,
)

ROUNDS = 200


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def made(name: str, context: Context | None = None, **options: object) -> Strategy:
    kind = catalog.load("strategies", name)
    strategy: Strategy = kind(kind.Options(**options), context or Context())
    return strategy


def batches() -> list[tuple[list[float], list[int], list[int]]]:
    chance = random.Random(0)
    found = []
    for _ in range(ROUNDS):
        size = chance.randrange(1, 30)
        logits = [chance.gauss(0, 2) for _ in range(size)]
        labels = [chance.randrange(2) for _ in range(size)]
        found.append((logits, labels, chance.sample(range(1000), size)))
    return found


BATCHES = batches()


def seen(logits: list[float], labels: list[int], rows: list[int], **when: int) -> Observed:
    return observe(
        torch.tensor(logits),
        torch.tensor(labels, dtype=torch.float32),
        row=torch.tensor(rows),
        iteration=torch.tensor(when.get("iteration", 100)),
        epoch=torch.tensor(when.get("epoch", 2)),
    )


@pytest.mark.parametrize(
    ("name", "beta", "belief"),
    [
        ("bootstrap-hard", 0.8, lambda p: float(p > 0.5)),
        ("bootstrap-soft", 0.95, lambda p: p),
    ],
)
def test_bootstrap_mixes_the_record_with_what_the_model_believes(
    name: str, beta: float, belief: object
) -> None:
    for logits, labels, rows in BATCHES:
        decision = made(name).decide(seen(logits, labels, rows))
        expected = [
            beta * y + (1 - beta) * belief(sigmoid(x))  # type: ignore[operator]
            for x, y in zip(logits, labels, strict=True)
        ]
        assert decision.label.tolist() == pytest.approx(expected, abs=1e-6)
        assert decision.weight.tolist() == [1.0] * len(labels)


@pytest.mark.parametrize("name", ["lcd", "lcd-re"])
def test_lcd_weighs_record_and_model_by_the_scaled_loss(name: str) -> None:
    for logits, labels, rows in BATCHES:
        p = [sigmoid(x) for x in logits]
        loss = [-math.log(q if y else 1 - q) for q, y in zip(p, labels, strict=True)]
        low, high = min(loss), max(loss)
        if 0 < high - low < 1e-2:
            continue  # the scaled loss is then a quotient of rounding errors
        scaled = [(value - low) / (high - low + 1e-8) for value in loss]
        expected = [
            w * y + (1 - w) * q if name == "lcd" else w * q + (1 - w) * y
            for w, q, y in zip(scaled, p, labels, strict=True)
        ]
        decision = made(name).decide(seen(logits, labels, rows))
        assert decision.label.tolist() == pytest.approx(expected, abs=1e-3)
        assert decision.weight.tolist() == [1.0] * len(labels)


@pytest.mark.parametrize("name", ["lcd", "lcd-re"])
def test_the_first_epoch_of_lcd_is_plain(name: str) -> None:
    logits, labels, rows = BATCHES[7]
    decision = made(name).decide(seen(logits, labels, rows, epoch=1))
    assert decision.label.tolist() == labels


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_adt_ce_r_weighs_by_confidence_and_divides_by_all_rows(double: bool, alpha: float) -> None:
    for logits, labels, rows in BATCHES:
        strategy = made("adt-ce-r", alpha=alpha, double_sigmoid=double)
        decision = strategy.decide(seen(logits, labels, rows))
        p = [sigmoid(sigmoid(x)) if double else sigmoid(x) for x in logits]
        expected = [(q if y else 1 - q) ** alpha for q, y in zip(p, labels, strict=True)]
        assert decision.weight.tolist() == pytest.approx(expected, rel=1e-4)
        loss = denoised_loss(torch.tensor(logits), decision).item()
        plain = [
            w * -math.log(sigmoid(x) if y else 1 - sigmoid(x))
            for w, x, y in zip(expected, logits, labels, strict=True)
        ]
        assert loss == pytest.approx(sum(plain) / len(plain), rel=1e-4)


@pytest.mark.parametrize("tau", [0.0, 0.1, 0.5, 1.0])
def test_adt_ce_t_drops_the_largest_of_loss_times_label(tau: float) -> None:
    for logits, labels, rows in BATCHES:
        shown = seen(logits, labels, rows)
        decision = made("adt-ce-t", tau_m=tau, t_m=1).decide(shown)
        score = [loss * y for loss, y in zip(shown.loss.tolist(), labels, strict=True)]
        order = sorted(range(len(rows)), key=lambda j: (-score[j], rows[j]))
        dropped = set(order[: int(tau * len(rows))])
        assert decision.weight.tolist() == [float(j not in dropped) for j in range(len(rows))]
        assert decision.label.tolist() == labels


def test_adt_ce_t_follows_the_schedule_from_iteration_zero() -> None:
    logits, labels, rows = [1.0] * 100, [1] * 100, list(range(100))
    strategy = made("adt-ce-t", tau_m=0.2, t_m=10)
    for iteration in (1, 5, 10, 99):
        decision = strategy.decide(seen(logits, labels, rows, iteration=iteration))
        dropped = int((decision.weight == 0).sum())
        assert dropped == math.floor(min(iteration / 10 * 0.2, 0.2) * 100)


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.5])
def test_f_correction_adds_the_clicks_of_those_who_do_not_like(rho: float) -> None:
    logits = [x / 4 for x in range(-40, 41)]
    linked = made("f-correction", rho=rho).link(torch.tensor(logits, dtype=torch.float64))
    expected = [sigmoid(x) + rho * (1 - sigmoid(x)) for x in logits]
    assert torch.sigmoid(linked).tolist() == pytest.approx(expected, rel=1e-6)


def test_s_model_starts_with_the_noise_it_is_told_and_learns_it() -> None:
    strategy = made("s-model", keep=0.9)
    logits = torch.linspace(-5, 5, 41)
    expected = [0.9 * sigmoid(x) + 0.1 * (1 - sigmoid(x)) for x in logits.tolist()]
    assert torch.sigmoid(strategy.link(logits)).tolist() == pytest.approx(expected, rel=1e-5)
    assert [name for name, _ in strategy.named_parameters()] == ["noise"]
    strategy.link(logits).sum().backward()
    assert all(parameter.grad is not None for parameter in strategy.parameters())


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (0.5, 0.5), (0.5, -0.25), (0.0, 0.0)])
def test_popularity_weighs_positives_by_counts_with_mean_one(a: float, b: float) -> None:
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
    decision = made("popularity", Context(1, table), a=a, b=b).decide(observed)

    def count(ids: list[int], value: int) -> int:
        return max(sum(1 for i, y in zip(ids, label, strict=True) if y and i == value), 1)

    raw = [count(item, i) ** a * count(user, u) ** b for u, i in zip(user, item, strict=True)]
    mean = sum(w for w, y in zip(raw, label, strict=True) if y) / sum(label)
    expected = [w / mean if y else 1.0 for w, y in zip(raw, label, strict=True)]
    assert decision.weight.tolist() == pytest.approx(expected, rel=1e-5)
    positives = [w for w, y in zip(decision.weight.tolist(), label, strict=True) if y]
    assert sum(positives) / len(positives) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("basis", ["batch", "positives"])
def test_mentornet_keeps_what_lies_below_a_running_percentile(basis: str) -> None:
    strategy = made("mentornet", percentile=0.7, decay=0.5, burn_in=0, basis=basis)
    threshold: float | None = None
    for logits, labels, rows in BATCHES[:60]:
        shown = seen(logits, labels, rows)
        loss = shown.loss.tolist()
        ranked = [j for j in range(len(rows)) if basis == "batch" or labels[j] == 1]
        decision = strategy.decide(shown)
        if ranked:
            ordered = sorted(loss[j] for j in ranked)
            current = ordered[math.ceil(0.7 * len(ordered)) - 1]
            threshold = current if threshold is None else 0.5 * threshold + 0.5 * current
        for j in range(len(rows)):
            if threshold is not None and abs(loss[j] - threshold) < 1e-6:
                continue  # on the edge rounding decides
            hard = j in ranked and threshold is not None and loss[j] > threshold
            assert float(decision.weight[j]) == float(not hard)


def test_mentornet_is_plain_while_it_burns_in() -> None:
    logits, labels, rows = BATCHES[3]
    strategy = made("mentornet", burn_in=2)
    decision = strategy.decide(seen(logits, labels, rows, epoch=2))
    assert decision.weight.tolist() == [1.0] * len(rows)


@pytest.mark.parametrize("basis", ["batch", "positives"])
def test_co_teaching_leaves_out_what_the_other_network_finds_hardest(basis: str) -> None:
    strategy = made("co-teaching", t_m=200, basis=basis)
    for number, (logits, labels, rows) in enumerate(BATCHES, start=1):
        others = [-logit + 0.1 * row for logit, row in zip(logits, rows, strict=True)]
        views = [seen(x, labels, rows, iteration=number) for x in (logits, others)]
        rate = min(number / 200 * 0.2, 0.2)
        for decision, judge in zip(strategy.exchange(views), reversed(views), strict=True):
            ranked = [i for i, y in enumerate(labels) if y or basis == "batch"]
            worst = sorted(ranked, key=lambda i: (-float(judge.loss[i]), rows[i]))
            out = set(worst[: math.floor(rate * len(ranked))])
            assert decision.weight.tolist() == [float(i not in out) for i in range(len(labels))]
            assert decision.label.tolist() == labels


class Linear(torch.nn.Module):
    """A logistic regression on two dense columns."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight.clone())

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        return fields.double() @ self.weight


def influence_case() -> tuple[Strategy, Linear, torch.Tensor, torch.Tensor, CleanSample]:
    generator = torch.Generator().manual_seed(5)
    fields = torch.randint(-4, 5, (60, 3), generator=generator)
    label = (torch.rand(60, generator=generator) < 0.5).double()
    clean = CleanSample(
        torch.randint(-4, 5, (20, 3), generator=generator),
        (torch.rand(20, generator=generator) < 0.5).double(),
    )
    user = torch.zeros(60, dtype=torch.int64)
    table = TrainingTable(user, user, label.float(), 1, 1, 60)
    strategy = made(
        "influence", Context(10, table, clean), tolerance=1e-12, iterations=100, burn_in=1,
        every=2, tau_m=0.2, clean_rows=20,
    )  # fmt: skip
    weight = torch.randn(3, generator=generator, dtype=torch.float64)
    return strategy, Linear(weight), fields, label, clean


def test_influence_is_equation_1_with_the_hessian_written_out() -> None:
    strategy, model, fields, label, clean = influence_case()
    x, probability = fields.double(), torch.sigmoid(model(fields)).detach()
    gradients = (probability - label).unsqueeze(1) * x
    hessian = (x.T * (probability * (1 - probability))) @ x / len(x) + 0.01 * torch.eye(
        3, dtype=torch.float64
    )
    clean_x = clean.fields.double()
    error = torch.sigmoid(model(clean.fields)).detach() - clean.label
    clean_gradient = (error.unsqueeze(1) * clean_x).mean(0)
    expected = -(gradients @ torch.linalg.solve(hessian, clean_gradient))
    found = strategy.influence(model, fields, label)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_influence_foretells_what_leaving_a_row_out_does_to_the_clean_loss() -> None:
    strategy, model, fields, label, clean = influence_case()

    def refitted(left_out: int | None) -> float:
        kept = [row for row in range(60) if row != left_out]
        weight = model.weight.detach().clone().requires_grad_()
        solver = torch.optim.LBFGS([weight], max_iter=200, tolerance_grad=1e-14)

        def objective() -> torch.Tensor:
            solver.zero_grad()
            logit = fields[kept].double() @ weight
            # the damping of Eq. 1's Hessian is a ridge of the fitted objective
            loss = bce(logit, label[kept]).sum() / 60 + 0.005 * (weight**2).sum()
            loss.backward()
            return loss

        solver.step(objective)
        if left_out is None:
            model.weight.data.copy_(weight.detach())
        return float(bce(clean.fields.double() @ weight.detach(), clean.label).mean())

    whole = refitted(None)
    found = strategy.influence(model, fields, label)
    # leaving a row out takes 1/60 of weight away from it
    changes = torch.tensor([refitted(row) - whole for row in range(20)], dtype=torch.float64)
    correlation = torch.corrcoef(torch.stack([changes, -found[:20] / 60]))[0, 1]
    assert float(correlation) > 0.99


def test_influence_relabels_the_most_harmful_positives_and_looks_when_it_should() -> None:
    strategy, model, fields, label, _ = influence_case()
    rows = list(range(60))
    for epoch, looked in ((1, False), (2, True)):
        strategy.study(epoch, model, fields, label)
        assert bool(strategy.relabeled.any()) == looked
    harm = strategy.influence(model, fields, label)
    positives = [row for row in rows if label[row] == 1]
    worst = sorted(positives, key=lambda row: -float(harm[row]))
    expected = {row for row in worst[: int(0.2 * len(positives))] if harm[row] > 0}
    assert expected
    decision = strategy.decide(seen([0.0] * 60, label.int().tolist(), rows))
    changed = (decision.label != label.float()).nonzero().flatten().tolist()
    assert set(changed) == expected
    assert decision.weight.tolist() == [1.0] * 60
    before = strategy.relabeled.clone()
    model.weight.data.mul_(-1)
    strategy.study(3, model, fields, label)
    assert torch.equal(before, strategy.relabeled)
    strategy.study(4, model, fields, label)
    assert not torch.equal(before, strategy.relabeled)
