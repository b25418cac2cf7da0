"""The computation of one step: predict, observe, decide, and the objective."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from dartcli.data.tensors import Batch
from dartcli.denoising import (
    Decision,
    Observed,
    Strategy,
    denoised_loss,
    objective_gradient,
    observe,
)

State = dict[str, Tensor]
"""Tensors by name."""
Engine = Literal["eager", "cuda graph"]


class Taken(NamedTuple):
    """The results of a step."""

    loss: Tensor
    """Float[B], loss of each row of the first network against its recorded label."""
    decision: Decision
    """Decision for the first network."""
    objective: Tensor
    """Float[], the optimized loss, without gradient."""


@dataclass(frozen=True)
class Program:
    """The computation of a step (Algorithm 1 of the thesis)."""

    models: Sequence[nn.Module]
    """Networks, on one device."""
    strategy: Strategy
    """Strategy, on the same device."""

    def fit(self, batch: Batch, iteration: Tensor, epoch: Tensor) -> Taken:
        """Compute a step and add its gradients to those of the parameters."""
        outputs = [model(batch.fields) for model in self.models]
        own_link = type(self.strategy).link is not Strategy.link
        logits = [self.strategy.link(output) for output in outputs] if own_link else outputs
        observed = observe_batch(batch, logits, iteration, epoch)
        with torch.no_grad():
            decisions = self.strategy.exchange(observed)
        if own_link:
            losses = [denoised_loss(*pair) for pair in zip(logits, decisions, strict=True)]
            torch.autograd.backward(losses)
        else:
            with torch.no_grad():
                pairs = list(map(objective_gradient, observed, logits, decisions))
            losses = [objective for objective, _ in pairs]
            # the slope of the product by the logit is the gradient: passing gradients to backward
            # instead imports a computer algebra system, for a second
            products = [
                torch.dot(logit, gradient)
                for logit, (_, gradient) in zip(logits, pairs, strict=True)
            ]
            torch.autograd.backward(products)
        objective = losses[0].detach()
        for loss in losses[1:]:
            objective = objective + loss.detach()
        return Taken(observed[0].loss, decisions[0], objective)


def observe_batch(
    batch: Batch, logits: Iterable[Tensor], iteration: Tensor, epoch: Tensor
) -> list[Observed]:
    """Return what a strategy sees of a batch through the logits of each network."""
    user, item = batch.fields.unbind(1)[:2]
    counters = {"iteration": iteration, "epoch": epoch}
    return [
        observe(logit, batch.label, row=batch.row, **counters, user=user, item=item)
        for logit in logits
    ]


def add_prefix(prefix: str, tensors: Mapping[Any, Tensor]) -> State:
    """Return the tensors with ``prefix`` before their names."""
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> State:
    """Return the tensors whose names start with ``prefix``, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
