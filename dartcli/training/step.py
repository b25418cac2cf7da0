"""One optimization step: eager, compiled for a CPU, or captured for a GPU.

Which of them is used depends on the number of the step alone, so repeating a training gives the
same bytes. Nothing in a step waits for the device.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from dartcli.data.tensors import Batch
from dartcli.errors import first_line
from dartcli.settings import Training
from dartcli.training.acceleration import Captured, Compiled, cuda_graph
from dartcli.training.optimizer import Optimizer
from dartcli.training.program import Engine, Program, Taken, add_prefix, strip_prefix

PAYS_AFTER: Final = 20_000
"""Eager steps on a CPU before ``compile="auto"`` compiles.

Compiling takes 4 to 20 seconds, which is what this many steps of a small model gain: at worst it
doubles the overhead, and a short training never compiles."""
WARM_UP: Final = {"cpu": 1, "cuda": 3}
"""Eager steps needed first: they create Adam's state, and a GPU's library handles."""


class Stepper:
    """Takes the steps of a training.

    Parameters
    ----------
    program
        The computation of a step.
    plan
        Batch size, optimizer, and whether to compile.
    device
        The device of the models and the data.
    capture
        Records a function without arguments as a graph of the device and returns what replays it;
        None if the device has no graphs.
    """

    def __init__(
        self,
        program: Program,
        plan: Training,
        device: torch.device,
        *,
        capture: Callable[[Callable[[], None]], Callable[[], None]] | None = None,
    ) -> None:
        self.program, self.plan, self.device = program, plan, device
        self.optimizer = Optimizer(program, plan, device)
        self.iteration = torch.zeros((), dtype=torch.int64, device=device)
        self.epoch = torch.zeros((), dtype=torch.int64, device=device)
        self.steps = 0
        self.engine: Engine = "eager"
        """How the last full batch was processed."""
        self.remark: str | None = None
        """Why steps are eager although something faster was requested."""
        self.capture = capture or (cuda_graph if device.type == "cuda" else None)
        self._fast: Callable[[Batch], Taken] | None = None
        self._eager_steps = self._count_eager_steps()
        self._side: Any = None

    def __call__(self, batch: Batch) -> Taken:
        """Fit one batch."""
        self.steps += 1
        full = len(batch.label) == self.plan.batch_size
        if full and self._eager_steps is not None and self.steps > self._eager_steps:
            return self._accelerate(batch)
        if full:
            self.engine = "eager"
        with self._side_stream():
            return self.eager(batch)

    def state(self) -> dict[str, Tensor]:
        """Return everything that further steps depend on, by name; views, not copies."""
        result = {"counter.iteration": self.iteration, "counter.epoch": self.epoch}
        for name, network in self._networks().items():
            result |= add_prefix(f"{name}.", network.state_dict())
        return result | self.optimizer.state()

    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Restore what :meth:`state` returned after ``steps`` steps; call before the first step."""
        self.steps = steps
        self.iteration.copy_(state["counter.iteration"])
        self.epoch.copy_(state["counter.epoch"])
        for name, network in self._networks().items():
            network.load_state_dict(strip_prefix(state, f"{name}."))
        self.optimizer.restore(state)

    def _networks(self) -> dict[str, nn.Module]:
        models = {f"model.{number}": model for number, model in enumerate(self.program.models)}
        return {**models, "strategy": self.program.strategy}

    def eager(self, batch: Batch) -> Taken:
        """Fit one batch without compiling or capturing."""
        self.iteration += 1
        taken = self.program.forward(batch, self.iteration, self.epoch)
        self.optimizer.step(taken.objective)
        return taken._replace(objective=taken.objective.detach())

    def _count_eager_steps(self) -> int | None:
        """Return the number of the last eager step; None if all steps are eager."""
        wanted = self.plan.compile
        if wanted == "off" or self.plan.optimizer != "adam":
            if wanted == "on":
                self.remark = f"optimizer {self.plan.optimizer} cannot be compiled; steps are eager"
            return None
        if wanted == "auto" and self.capture is None:
            return PAYS_AFTER
        return WARM_UP["cpu" if self.capture is None else "cuda"]

    def _accelerate(self, batch: Batch) -> Taken:
        if self._fast is not None:
            return self._fast(batch)
        made: Captured | Compiled
        try:
            if self.capture is not None:
                made, engine = Captured(self.eager, batch, self.capture), "cuda graph"
            else:
                made, engine = (
                    Compiled(self.program, self.optimizer, self.iteration, self.epoch),
                    "compiled",
                )
            with warnings.catch_warnings():
                # the compiler warns about its own internals
                warnings.simplefilter("ignore")
                taken = made(batch)
        except Exception as error:
            # the step has changed nothing yet: compiling or capturing failed
            self._eager_steps = None
            self.remark = f"steps are eager: {first_line(error)}"
            return self.eager(batch)
        self._fast, self.engine = made, engine  # type: ignore[assignment]
        return taken

    @contextlib.contextmanager
    def _side_stream(self) -> Iterator[None]:
        """Run the block on a separate stream if a graph will be captured later."""
        if self.device.type != "cuda" or self._eager_steps is None:
            yield
            return
        main = torch.cuda.current_stream(self.device)
        self._side = self._side or torch.cuda.Stream(self.device)
        self._side.wait_stream(main)
        with torch.cuda.stream(self._side):
            yield
        main.wait_stream(self._side)
