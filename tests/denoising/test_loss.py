"""The optimized loss, and what a strategy observes, against plain formulas."""

import math

import pytest
import torch

from dartcli.denoising import Decision, bce, denoised_loss, objective_gradient, observe


@pytest.mark.parametrize("seed", range(5))
def test_loss_and_gradient_are_the_weighted_sum_over_the_kept_rows(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logit = 4 * torch.randn(30, generator=generator, dtype=torch.float64)
    weight = torch.rand(30, generator=generator, dtype=torch.float64)
    weight[torch.rand(30, generator=generator) < 0.4] = 0.0
    label = torch.rand(30, generator=generator, dtype=torch.float64)
    logit.requires_grad_()
    loss = denoised_loss(logit, Decision(weight, label))
    loss.backward()
    assert loss.shape == ()

    rows = list(zip(weight.tolist(), label.tolist(), logit.tolist(), strict=True))
    kept = sum(w > 0 for w, _, _ in rows)
    assert 0 < kept < 30
    p = [1 / (1 + math.exp(-x)) for _, _, x in rows]
    terms = [
        -w * (y * math.log(q) + (1 - y) * math.log(1 - q))
        for (w, y, _), q in zip(rows, p, strict=True)
    ]
    assert loss.item() == pytest.approx(sum(terms) / kept, rel=1e-12)
    slopes = [w * (q - y) / kept for (w, y, _), q in zip(rows, p, strict=True)]
    assert logit.grad is not None
    assert logit.grad.tolist() == pytest.approx(slopes, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("size", [0, 5])
def test_without_kept_rows_loss_and_gradient_are_zero(size: int) -> None:
    logit = torch.randn(size, requires_grad=True)
    loss = denoised_loss(logit, Decision(torch.zeros(size), torch.ones(size)))
    loss.backward()
    assert loss.item() == 0.0
    assert logit.grad is not None
    assert logit.grad.tolist() == [0.0] * size


def test_huge_logits_give_finite_losses() -> None:
    logits = torch.tensor([1e30, -1e30, 80.0, -80.0])
    right = bce(logits, torch.tensor([1.0, 0.0, 1.0, 0.0]))
    assert right.tolist() == pytest.approx([0.0, 0.0, math.exp(-80), math.exp(-80)], abs=1e-34)
    assert bce(logits, torch.tensor([0.0, 1.0, 0.0, 1.0])).isfinite().all()


def test_loss_and_probability_are_observed_without_gradient() -> None:
    logit = torch.tensor([0.0, -2.0, 5.0], requires_grad=True)
    found = observe(
        logit * 1,
        torch.tensor([1.0, 1.0, 0.0]),
        row=torch.arange(3),
        iteration=torch.tensor(1),
        epoch=torch.tensor(1),
    )
    assert not found.loss.requires_grad
    assert not found.probability.requires_grad
    p = [1 / (1 + math.exp(-x)) for x in logit.tolist()]
    assert found.probability.tolist() == pytest.approx(p, rel=1e-6)
    losses = [-math.log(p[0]), -math.log(p[1]), -math.log(1 - p[2])]
    assert found.loss.tolist() == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("size", [0, 1, 40])
@pytest.mark.parametrize("changed", ["nothing", "weight", "label", "all discarded"])
def test_the_gradient_in_closed_form_is_that_of_autograd(size: int, changed: str) -> None:
    generator = torch.Generator().manual_seed(size)
    logit = 3 * torch.randn(size, generator=generator)
    label = torch.randint(0, 2, (size,), generator=generator).float()
    weight, target = torch.ones(size), label
    if changed != "nothing":
        weight = torch.rand(size, generator=generator) * (torch.arange(size) % 3 > 0)
    if changed == "label":
        target = torch.rand(size, generator=generator)
    if changed == "all discarded":
        weight = torch.zeros(size)
    logit.requires_grad_()
    expected = denoised_loss(logit, Decision(weight, target))
    (gradient,) = torch.autograd.grad(expected, logit)
    one = torch.tensor(1)
    observed = observe(logit, label, row=torch.arange(size), iteration=one, epoch=one)
    found = objective_gradient(observed, logit, Decision(weight, target))
    torch.testing.assert_close(found[0], expected.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1], gradient, rtol=1e-5, atol=1e-7)
