"""Capture of a training step as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch

from dartcli.data.tensors import Batch
from dartcli.denoising import Decision
from dartcli.training.program import Taken


class CapturedStep:
    """A step captured once as a device graph and then replayed with a single launch.

    Parameters
    ----------
    step
        The step to capture.
    batch
        A batch of the shape that every further batch has.
    capture
        Records a function and returns what replays it, as :func:`capture_cuda_graph` does.
    """

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


def capture_cuda_graph(step: Callable[[], None]) -> Callable[[], None]:
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
