"""Check what a training loop of one's own hands to a strategy, and gather it from all processes."""

from __future__ import annotations

import logging
import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch import distributed as dist

from dartcli.denoising.ramp import RampStrategy
from dartcli.denoising.ranking import Basis, mask_ranked
from dartcli.denoising.strategy import Strategy, TrainingTable
from dartcli.errors import UsageError

logger = logging.getLogger(__name__)

Inputs = Literal["logits", "probabilities"]


def to_column(name: str, values: Tensor, rows: int | None = None) -> Tensor:
    """Return [N], from [N] or [N, 1].

    Raises
    ------
    UsageError
        If the shape is another, or N is not ``rows``.
    """
    column = values.squeeze(1) if values.dim() == 2 and values.shape[1] == 1 else values
    if column.dim() != 1 or rows not in (None, len(column)):
        expected = "[N] or [N, 1]" if rows is None else f"[{rows}] or [{rows}, 1], as the logits"
        raise UsageError(f"{name} have the shape {tuple(values.shape)}. Expected {expected}.")
    return column


def is_watched(values: Tensor, *, first: bool) -> bool:
    """Return whether values may be read: on a CPU always, on a GPU for the ``first`` batch only.

    Reading waits for the device, which a compiled step or a graph capture does not allow.
    """
    if torch.compiler.is_compiling():
        return False
    if values.device.type == "cpu":
        return True
    return first and not (values.is_cuda and torch.cuda.is_current_stream_capturing())


def check_values(
    outputs: Tensor,
    labels: Tensor,
    iteration: Tensor,
    ids: dict[str, Tensor | None],
    *,
    inputs: Inputs,
    table: TrainingTable | None,
) -> None:
    """Raise UsageError if a value is not in its range."""
    if int(iteration) < 1:
        raise UsageError(f"iteration is {int(iteration)}, but iterations count from 1.")
    if labels.numel() and not bool(((labels >= 0) & (labels <= 1)).all()):
        low, high = (float(value) for value in labels.aminmax())
        raise UsageError(f"labels are {low:g} to {high:g}. They must be 0 to 1.")
    if inputs == "probabilities" and not bool(((outputs >= 0) & (outputs <= 1)).all()):
        low, high = (float(value) for value in outputs.aminmax())
        raise UsageError(
            f'probabilities are {low:g} to {high:g}. Pass `inputs="logits"` if they come before '
            "the sigmoid."
        )
    limits = {} if table is None else {"row": table.rows, "user": table.users, "item": table.items}
    for name, values in ids.items():
        if values is None or not values.numel():
            continue
        low, high = (int(value) for value in values.aminmax())
        limit = limits.get(name, 1 << 31)
        if low < 0 or high >= limit:
            raise UsageError(
                f"{name} ids are {low} to {high}, but must be 0 to {limit - 1}"
                f"{' as in the table' if name in limits else ''}."
            )


class Notices:
    """Say once what may be a mistake, but need not be one."""

    def __init__(self) -> None:
        self.said: set[str] = set()

    def look(
        self, rule: Strategy, outputs: Tensor, labels: Tensor, inputs: Inputs, *, is_alone: bool
    ) -> None:
        """Log a warning if the outputs look like probabilities, or a batch is too small.

        ``is_alone`` says that the batches of other processes are not ranked with this one.
        """
        # a fresh model may give zeros, but hardly values that are all above 0
        if inputs == "logits" and len(outputs) >= 8 and bool(((outputs > 0) & (outputs < 1)).all()):
            self._say(
                "probabilities",
                "all logits are between 0 and 1. If they are probabilities, pass "
                '`inputs="probabilities"`.',
            )
        if isinstance(rule, RampStrategy) and is_alone:
            self._look_at_size(rule.most, rule, labels)
        if is_alone and _count_processes() > 1:
            self._say(
                "processes",
                "each process ranks its own part of the batch. To rank the whole, pass `group=`.",
            )

    def _look_at_size(self, tau: float, rule: RampStrategy, labels: Tensor) -> None:
        basis: Basis = getattr(rule.options, "basis", "positives")
        ranked = int(mask_ranked(labels, basis).sum())
        if 0 < tau * ranked < 1:
            kind = "positives" if basis == "positives" else "rows"
            self._say(
                "size",
                f"nothing is flagged in a batch of {ranked} {kind}: tau_m {tau:g} needs at least "
                f"{math.ceil(1 / tau)}. Use larger batches or a larger tau_m.",
            )

    def _say(self, topic: str, message: str) -> None:
        if topic not in self.said:
            self.said.add(topic)
            logger.warning(message)


def _count_processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(values: Tensor, group: Any) -> tuple[Tensor, slice]:
    """Return the rows of all processes, in their order, and where those of this one are.

    Processes may have different numbers of rows. The result has no gradient.
    """
    own = torch.tensor(len(values), device=values.device)
    sizes = [torch.zeros_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(sizes, own, group=group)
    counts = [int(size) for size in sizes]
    padded = values.detach().new_zeros(max(counts))
    padded[: len(values)] = values.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded, group=group)
    rank = dist.get_rank(group)
    start = sum(counts[:rank])
    whole = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
    return whole, slice(start, start + counts[rank])
