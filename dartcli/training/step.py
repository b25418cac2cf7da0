"""One optimization step: eager, or captured as a CUDA graph.

Which of them is used depends on the number of the step alone, so repeating a training gives the
same bytes. Nothing in a step waits for the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from dartcli.data.tensors import Batch
from dartcli.errors import first_line
from dartcli.settings import Training
from dartcli.training.cuda_graph import CapturedStep, capture_cuda_graph
from dartcli.training.distributed import SharedProgram
from dartcli.training.optimizer import Optimizer
from dartcli.training.program import Engine, Program, Taken, add_prefix, strip_prefix

WARM_UP: Final = 3
"""Eager steps before a capture, in which a GPU's libraries create their handles."""


class Stepper:
    """Takes the steps of a training.

    Parameters
    ----------
    program
        The computation of a step.
    plan
        Batch size, optimizer, and whether to capture.
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
        self._one = torch.ones_like(self.iteration)
        self.steps = 0
        self.engine: Engine = "eager"
        """How the last full batch was processed."""
        self.remark: str | None = None
        """Why steps are eager although a graph was requested."""
        capture = capture or (capture_cuda_graph if device.type == "cuda" else None)
        # sparse gradients have no static shape, so such a step cannot be captured
        shared = isinstance(program, SharedProgram)
        wanted = plan.cuda_graph and plan.optimizer == "adam" and not shared
        self.capture = capture if wanted else None
        if capture is not None and plan.cuda_graph and not wanted:
            what = "several processes" if shared else f"optimizer {plan.optimizer}"
            self.remark = f"{what} cannot be captured; steps are eager"
        self._captured: CapturedStep | None = None
        self._side: Any = None

    def __call__(self, batch: Batch) -> Taken:
        """Fit one batch."""
        self.steps += 1
        full = len(batch.label) == self.plan.batch_size
        if full and self.capture is not None and self.steps > WARM_UP:
            return self._replay(batch)
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
        """Fit one batch without a graph."""
        self.iteration += self._one
        taken = self.program.fit(batch, self.iteration, self.epoch)
        self.optimizer.step()
        return taken

    def _replay(self, batch: Batch) -> Taken:
        """Fit one batch with the captured graph; capture it first if there is none."""
        assert self.capture is not None  # noqa: S101 - the caller has checked it
        if self._captured is None:
            try:
                self._captured = CapturedStep(self.eager, batch, self.capture)
            except Exception as error:
                # a capture computes nothing, so this step has not been taken yet
                self.capture = None
                self.optimizer.clear()
                self.remark = f"steps are eager: {first_line(error)}"
                return self.eager(batch)
            self.engine = "cuda graph"
        return self._captured(batch)

    @contextlib.contextmanager
    def _side_stream(self) -> Iterator[None]:
        """Run the block on a separate stream if a graph will be captured later."""
        if self.device.type != "cuda" or self.capture is None:
            yield
            return
        main = torch.cuda.current_stream(self.device)
        self._side = self._side or torch.cuda.Stream(self.device)
        self._side.wait_stream(main)
        with torch.cuda.stream(self._side):
            yield
        main.wait_stream(self._side)
