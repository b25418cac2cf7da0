"""Adam, fused or sparse."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from dartcli.models._layers import JointTable
from dartcli.settings import Training
from dartcli.training.device import SMALL, ThreadChoice
from dartcli.training.program import Program, strip_prefix

BETA1: Final = 0.9
BETA2: Final = 0.999
EPS: Final = 1e-8
"""Adam's decay rates and the term in its denominator (Kingma and Ba, 2015)."""


class Optimizer:
    """Adam on every parameter, or, as ``sparse-adam``, only on the table rows in the batch.

    The L2 penalty is coupled (part of the gradient). ``sparse-adam`` neither decays nor updates the
    other rows: less memory traffic, but results differ from Adam.

    Adam is PyTorch's fused kernel, called directly: the bookkeeping of ``torch.optim.Adam`` takes
    several times as long as the kernel does for a small model. All parameters share the step count.
    """

    def __init__(self, program: Program, plan: Training, device: torch.device) -> None:
        networks = [*program.models, program.strategy]
        self.learning_rate, self.weight_decay = plan.learning_rate, plan.weight_decay or 0.0
        layers = [layer for network in networks for layer in network.modules()]
        self.joint = [layer for layer in layers if isinstance(layer, JointTable)]
        tables: list[Tensor] = [layer.table for layer in self.joint]
        known = {id(table) for table in tables}
        self.parameters: list[Tensor] = [
            parameter
            for network in networks
            for parameter in network.parameters()
            if id(parameter) not in known
        ]
        self.sparse = None
        if plan.optimizer == "sparse-adam":
            for layer in self.joint:
                layer.sparse_gradient = True
            if tables:
                self.sparse = torch.optim.SparseAdam(tables, lr=plan.learning_rate)
        else:
            for layer in self.joint:
                layer.table.grad, layer.accumulates = torch.zeros_like(layer.table), True
        dense = self.parameters if self.sparse else [*tables, *self.parameters]
        self.moments = [(one, torch.zeros_like(one), torch.zeros_like(one)) for one in dense]
        self.count = torch.zeros((), device=device)
        size, threads = sum(one.numel() for one in dense), torch.get_num_threads()
        large = device.type == "cpu" and size > SMALL and threads > 1
        self._threads = ThreadChoice(threads) if large else None
        self._one = torch.ones((), device=device)

    @torch.no_grad()
    def step(self) -> None:
        """Take one optimization step with the gradients of the parameters, and clear these."""
        # a part of the model that the batch does not use has no gradient
        used = [moments for moments in self.moments if moments[0].grad is not None]
        parameters, means, squares = map(list, zip(*used, strict=True))
        self.count += self._one  # a Python number would first become a tensor
        # each element is updated on its own, so threads do not change the result
        with self._threads.use() if self._threads else contextlib.nullcontext():
            torch._fused_adam_(
                parameters,
                [parameter.grad for parameter in parameters],
                means,
                squares,
                [],
                [self.count] * len(parameters),
                lr=self.learning_rate,
                beta1=BETA1,
                beta2=BETA2,
                weight_decay=self.weight_decay,
                eps=EPS,
                amsgrad=False,
                maximize=False,
            )
        if self.sparse is not None:
            for layer in self.joint:
                if layer.table.grad is not None:
                    layer.table.grad = self._decay(layer.table, layer.table.grad)
            self.sparse.step()
        self.clear()

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None
        for layer in self.joint:
            if layer.accumulates:
                layer.clear_gradient()
            else:
                layer.table.grad = None

    def state(self) -> dict[str, Tensor]:
        """Return moments and step counts of every parameter, by its number."""
        result = {"adam.count": self.count}
        for number, (_, mean, square) in enumerate(self.moments):
            result |= {f"adam.{number}.mean": mean, f"adam.{number}.square": square}
        if self.sparse is not None:
            for index, one in self.sparse.state_dict()["state"].items():
                for key, moment in one.items():
                    result[f"sparse.{index}.{key}"] = torch.as_tensor(moment)
        return result

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        self.count.copy_(state["adam.count"])
        for number, (_, mean, square) in enumerate(self.moments):
            mean.copy_(state[f"adam.{number}.mean"])
            square.copy_(state[f"adam.{number}.square"])
        if self.sparse is not None:
            found: dict[int, dict[str, Any]] = {}
            for place, moment in strip_prefix(state, "sparse.").items():
                index, key = place.split(".")
                # sparse Adam counts with a number of Python
                found.setdefault(int(index), {})[key] = int(moment) if key == "step" else moment
            self.sparse.load_state_dict({**self.sparse.state_dict(), "state": found})

    def _decay(self, table: Tensor, gradient: Tensor) -> Tensor:
        gradient = gradient.coalesce()
        rows = gradient.indices()[0]
        values = gradient.values() + self.weight_decay * table.detach()[rows]
        result: Tensor = torch.sparse_coo_tensor(
            gradient.indices(), values, gradient.shape, is_coalesced=True, check_invariants=False
        )
        return result
