"""Influence against Eq. 1 with the Hessian written out, and against refitting."""

import torch

from dartcli import catalog
from dartcli.denoising import CleanSample, Context, Strategy, TrainingTable, bce, observe


class Linear(torch.nn.Module):
    """A logistic regression on dense columns."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight.clone())

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        return fields.double() @ self.weight


def make_case() -> tuple[Strategy, Linear, torch.Tensor, torch.Tensor, CleanSample]:
    generator = torch.Generator().manual_seed(5)
    fields = torch.randint(-4, 5, (60, 3), generator=generator)
    label = (torch.rand(60, generator=generator) < 0.5).double()
    clean = CleanSample(
        torch.randint(-4, 5, (20, 3), generator=generator),
        (torch.rand(20, generator=generator) < 0.5).double(),
    )
    user = torch.zeros(60, dtype=torch.int64)
    table = TrainingTable(user, user, label.float(), 1, 1, 60)
    kind = catalog.load("strategies", "influence")
    solver = {"tolerance": 1e-12, "iterations": 100}
    options = kind.Options(burn_in=1, every=2, tau_m=0.2, clean_rows=20, **solver)
    strategy: Strategy = kind(options, Context(10, table, clean))
    weight = torch.randn(3, generator=generator, dtype=torch.float64)
    return strategy, Linear(weight), fields, label, clean


def test_influence_is_equation_1_with_an_explicit_hessian() -> None:
    strategy, model, fields, label, clean = make_case()
    x, probability = fields.double(), torch.sigmoid(model(fields)).detach()
    gradients = (probability - label).unsqueeze(1) * x
    hessian = (x.T * (probability * (1 - probability))) @ x / len(x) + 0.01 * torch.eye(
        3, dtype=torch.float64
    )
    clean_x = clean.fields.double()
    error = torch.sigmoid(model(clean.fields)).detach() - clean.label
    clean_gradient = (error.unsqueeze(1) * clean_x).mean(0)
    expected = -(gradients @ torch.linalg.solve(hessian, clean_gradient))
    found = strategy.compute_influence(model, fields, label)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_influence_predicts_how_leaving_out_a_row_changes_the_clean_loss() -> None:
    strategy, model, fields, label, clean = make_case()

    def refitted(left_out: int | None) -> float:
        kept = [row for row in range(60) if row != left_out]
        weight = model.weight.detach().clone().requires_grad_()
        solver = torch.optim.LBFGS([weight], max_iter=200, tolerance_grad=1e-14)

        def objective() -> torch.Tensor:
            solver.zero_grad()
            logit = fields[kept].double() @ weight
            # the damping of Eq. 1 is the Hessian of this ridge penalty
            loss = bce(logit, label[kept]).sum() / 60 + 0.005 * (weight**2).sum()
            loss.backward()
            return loss

        solver.step(objective)
        if left_out is None:
            model.weight.data.copy_(weight.detach())
        return float(bce(clean.fields.double() @ weight.detach(), clean.label).mean())

    whole = refitted(None)
    found = strategy.compute_influence(model, fields, label)
    # leaving out a row reduces its weight by 1/60
    changes = torch.tensor([refitted(row) - whole for row in range(20)], dtype=torch.float64)
    correlation = torch.corrcoef(torch.stack([changes, -found[:20] / 60]))[0, 1]
    assert float(correlation) > 0.99


def test_the_most_harmful_positives_are_relabeled_on_schedule() -> None:
    strategy, model, fields, label, _ = make_case()
    rows = list(range(60))
    for epoch, looked in ((1, False), (2, True)):
        strategy.study(epoch, model, fields, label)
        assert bool(strategy.relabeled.any()) == looked
    harm = strategy.compute_influence(model, fields, label)
    positives = [row for row in rows if label[row] == 1]
    worst = sorted(positives, key=lambda row: -float(harm[row]))
    expected = {row for row in worst[: int(0.2 * len(positives))] if harm[row] > 0}
    assert expected
    now = torch.tensor(2)
    observed = observe(
        torch.zeros(60), label.float(), row=torch.arange(60), iteration=now, epoch=now
    )
    decision = strategy.decide(observed)
    changed = (decision.label != label.float()).nonzero().flatten().tolist()
    assert set(changed) == expected
    assert decision.weight.tolist() == [1.0] * 60
    before = strategy.relabeled.clone()
    model.weight.data.mul_(-1)
    strategy.study(3, model, fields, label)
    assert torch.equal(before, strategy.relabeled)
    strategy.study(4, model, fields, label)
    assert not torch.equal(before, strategy.relabeled)
