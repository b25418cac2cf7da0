"""The computation of one step: predict, observe, decide, and the objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from dartcli.data.tensors import Batch
from dartcli.denoising import Decision, Strategy, denoised_loss, observe

State = dict[str, Tensor]
"""Tensors by name."""
Engine = Literal["eager", "compiled", "cuda graph"]


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

    def forward(self, batch: Batch, iteration: Tensor, epoch: Tensor) -> Taken:
        """Return losses, decision, and objective; the objective carries the gradient."""
        logits = [self.strategy.link(model(batch.fields)) for model in self.models]
        observed = [
            observe(
                logit,
                batch.label,
                row=batch.row,
                iteration=iteration,
                epoch=epoch,
                user=batch.fields[:, 0],
                item=batch.fields[:, 1],
            )
            for logit in logits
        ]
        with torch.no_grad():
            decisions = self.strategy.exchange(observed)
        loss = denoised_loss(logits[0], decisions[0])
        for logit, decision in zip(logits[1:], decisions[1:], strict=True):
            loss = loss + denoised_loss(logit, decision)
        return Taken(observed[0].loss, decisions[0], loss)


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
