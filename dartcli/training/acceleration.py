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
    """The program and its gradients as one C++ function; Adam as the library has it.

    Compiled for one thread whatever the machine has, so the bytes depend on no number of cores;
    dropout draws what the eager step would draw.
    """

    def __init__(
        self, program: Program, optimizer: Optimizer, iteration: Tensor, epoch: Tensor
    ) -> None:
        import torch._dynamo.config

        if not any(shutil.which(name) for name in (os.environ.get("CXX"), *COMPILERS) if name):
            raise OSError(f"no C++ compiler was found ({', '.join(COMPILERS)}, or CXX)")
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
                # they would be kept in a folder for temporary files that other users know
                "cpp_cache_precompile_headers": False,
            },
        )

    def __call__(self, batch: Batch) -> Taken:
        """Fit one mini-batch."""
        iteration = self.iteration + 1
        taken, gradients = self.gradients(
            batch.fields, batch.label, batch.row, iteration, self.epoch
        )
        # nothing is changed before this: where translating fails, the step is taken eagerly
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
    """A step recorded once as a graph of the device, then replayed: one launch for all of it."""

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
        """Fit one mini-batch of the size of the first."""
        self.batch.fields.copy_(batch.fields)
        self.batch.label.copy_(batch.label)
        self.batch.row.copy_(batch.row)
        self.replay()
        loss, decision, objective = self.taken
        # the next replay writes into the same memory
        kept = Decision(decision.weight.clone(), decision.label.clone())
        return Taken(loss.clone(), kept, objective.clone())


def cuda_graph(step: Callable[[], None]) -> Callable[[], None]:
    """Record ``step`` as a CUDA graph and return what replays it.

    Raises
    ------
    RuntimeError
        If the step waits for the device, or does something else that a graph cannot hold.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


def _with_own_code(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function`` with a code object of its own.

    Compiled code is kept by code object; there, one training after the other in a process would
    fill it up.
    """
    own = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        closure=function.__closure__,
    )
    return cast("Callable[P, R]", own)
