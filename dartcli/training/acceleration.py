"""Compiled steps on a CPU, and CUDA graphs."""

from __future__ import annotations

import os
import shutil
import types
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from dartcli.data.tensors import Batch
from dartcli.denoising import Decision
from dartcli.training.optimizer import Optimizer
from dartcli.training.program import Program, Taken

P = ParamSpec("P")
R = TypeVar("R")


class Compiled:
    """The program and its gradients compiled into one C++ function, with PyTorch's fused Adam.

    Compiled for one thread, so results do not depend on the number of cores. Dropout draws the
    same numbers as the eager step.
    """

    def __init__(
        self, program: Program, optimizer: Optimizer, iteration: Tensor, epoch: Tensor
    ) -> None:
        import torch._dynamo.config

        if not any(shutil.which(name) for name in (os.environ.get("CXX"), *COMPILERS) if name):
            raise OSError(f"no C++ compiler found ({', '.join(COMPILERS)}, or CXX)")
        # the gradients are part of the program
        torch._dynamo.config.trace_autograd_ops = True
        self.iteration, self.epoch = iteration, epoch
        self.parameters: list[Tensor] = [*optimizer.parameters]
        group = optimizer.adam.param_groups[0]
        self.rates: Any = {
            "lr": group["lr"],
            "beta1": group["betas"][0],
            "beta2": group["betas"][1],
            "weight_decay": group["weight_decay"],
            "eps": group["eps"],
            "amsgrad": False,
            "maximize": False,
        }
        states = [optimizer.adam.state[parameter] for parameter in self.parameters]
        self.counts = [state["step"] for state in states]
        self.means = [state["exp_avg"] for state in states]
        self.squares = [state["exp_avg_sq"] for state in states]
        parameters = self.parameters

        def gradients(
            fields: Tensor, label: Tensor, row: Tensor, iteration: Tensor, epoch: Tensor
        ) -> tuple[Taken, tuple[Tensor, ...]]:
            taken = program.forward(Batch(fields, label, row), iteration, epoch)
            found = torch.autograd.grad(taken.objective, parameters)
            return taken._replace(objective=taken.objective.detach()), found

        self.gradients = torch.compile(
            _with_own_code(gradients),
            fullgraph=True,
            dynamic=False,
            options={
                "cpp.threads": 1,
                "fallback_random": True,
                # they would be kept in a shared temporary folder
                "cpp_cache_precompile_headers": False,
            },
        )

    def __call__(self, batch: Batch) -> Taken:
        """Fit one batch."""
        iteration = self.iteration + 1
        taken, gradients = self.gradients(
            batch.fields, batch.label, batch.row, iteration, self.epoch
        )
        # nothing changes before this line: if compiling fails, the step is taken eagerly
        self.iteration.copy_(iteration)
        with torch.no_grad():
            torch._foreach_add_(self.counts, 1)
            torch._fused_adam_(
                self.parameters,
                gradients,
                self.means,
                self.squares,
                [],
                self.counts,
                **self.rates,
            )
        return taken


COMPILERS: Final = ("g++", "clang++", "c++", "cl")


class Captured:
    """A step captured once as a device graph and then replayed with a single launch."""

    def __init__(
        self,
        step: Callable[[Batch], Taken],
        batch: Batch,
        capture: Callable[[Callable[[], None]], Callable[[], None]],
    ) -> None:
        self.batch = Batch(batch.fields.clone(), batch.label.clone(), batch.row.clone())

        def recorded() -> None:
            self.taken = step(self.batch)

        self.replay = capture(recorded)

    def __call__(self, batch: Batch) -> Taken:
        """Fit one batch of the same size as the first."""
        self.batch.fields.copy_(batch.fields)
        self.batch.label.copy_(batch.label)
        self.batch.row.copy_(batch.row)
        self.replay()
        loss, decision, objective = self.taken
        # the next replay writes into the same memory
        kept = Decision(decision.weight.clone(), decision.label.clone())
        return Taken(loss.clone(), kept, objective.clone())


def cuda_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Capture ``step`` as a CUDA graph and return the function that replays it.

    Raises
    ------
    RuntimeError
        If the step waits for the device, or does something else that a graph cannot capture.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


def _with_own_code(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function`` with a code object of its own.

    PyTorch caches compiled code per code object, and the cache of a shared one would fill up over
    several trainings in a process.
    """
    own = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        closure=function.__closure__,
    )
    return cast("Callable[P, R]", own)
