"""One optimization step, three ways: as written, compiled for a CPU, captured for a GPU.

The way is chosen by the number of the step alone, so that a training gives the same bytes whenever
it is repeated. Nothing in a step waits for the device.
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
"""Eager steps on a CPU before ``compile="auto"`` compiles. Compiling takes 4 to 20 seconds, which
is what so many steps of a small model would gain: at worst it doubles the overhead, and a short
training never pays it."""
WARM_UP: Final = {"cpu": 1, "cuda": 3}
"""Eager steps that are needed first: they make Adam's state, and a GPU's library handles."""


class Stepper:
    """Takes the steps of one training.

    Parameters
    ----------
    program
        What a step computes.
    plan
        Batch size, optimizer, and whether to compile.
    device
        The device of the models and the data.
    capture
        Records a function without arguments as a graph of the device and returns what replays it;
        None where the device has no graphs.
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
        """How the last full batch was stepped."""
        self.remark: str | None = None
        """Why steps are eager where something faster was asked for."""
        self.capture = capture or (cuda_graph if device.type == "cuda" else None)
        self._fast: Callable[[Batch], Taken] | None = None
        self._eager_steps = self._eager_for()
        self._side: Any = None

    def __call__(self, batch: Batch) -> Taken:
        """Fit one mini-batch."""
        self.steps += 1
        full = len(batch.label) == self.plan.batch_size
        if full and self._eager_steps is not None and self.steps > self._eager_steps:
            return self._faster(batch)
        if full:
            self.engine = "eager"
        with self._beside():
            return self.eager(batch)

    def state(self) -> dict[str, Tensor]:
        """Return all that further steps depend on, by name; views, not copies."""
        result = {"counter.iteration": self.iteration, "counter.epoch": self.epoch}
        for name, network in self._networks().items():
            result |= add_prefix(f"{name}.", network.state_dict())
        return result | self.optimizer.state()

    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Take back what :meth:`state` returned, after ``steps`` steps; before the first step."""
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
        """Fit one mini-batch as the program is written."""
        self.iteration += 1
        taken = self.program.forward(batch, self.iteration, self.epoch)
        self.optimizer.step(taken.objective)
        return taken._replace(objective=taken.objective.detach())

    def _eager_for(self) -> int | None:
        """Return the number of the last eager step; None = all are."""
        wanted = self.plan.compile
        if wanted == "off" or self.plan.optimizer != "adam":
            if wanted == "on":
                self.remark = (
                    f"the optimizer {self.plan.optimizer} cannot be compiled; every step is eager."
                )
            return None
        if wanted == "auto" and self.capture is None:
            return PAYS_AFTER
        return WARM_UP["cpu" if self.capture is None else "cuda"]

    def _faster(self, batch: Batch) -> Taken:
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
                # the translator warns of its own parts
                warnings.simplefilter("ignore")
                taken = made(batch)
        except Exception as error:
            # nothing of the step was done yet: what fails is to translate it
            self._eager_steps = None
            self.remark = f"every step is eager: {first_line(error)}."
            return self.eager(batch)
        self._fast, self.engine = made, engine  # type: ignore[assignment]
        return taken

    @contextlib.contextmanager
    def _beside(self) -> Iterator[None]:
        """Run the block on a stream of its own where a graph will be captured later."""
        if self.device.type != "cuda" or self._eager_steps is None:
            yield
            return
        main = torch.cuda.current_stream(self.device)
        self._side = self._side or torch.cuda.Stream(self.device)
        self._side.wait_stream(main)
        with torch.cuda.stream(self._side):
            yield
        main.wait_stream(self._side)
