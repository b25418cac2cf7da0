"""Record what a strategy did with every row of an epoch, and sum it up per iteration.

A step hands over three tensors that it has anyway. Everything else is computed from them once per
epoch, so recording costs a step almost nothing.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from dartcli.data.tensors import FALSE_POSITIVE, NEGATIVE, TRUE_POSITIVE, UNKNOWN_POSITIVE, Epoch
from dartcli.denoising import Decision

KINDS: Final = 4
"""Kinds of rows, numbered in :mod:`dartcli.data.tensors`."""
DISCARDED: Final = 1
RELABELED: Final = 2
TREATMENTS: Final = 3
"""What a strategy did with a positive; 0 = trained on as recorded."""
BLOCK: Final = 1 << 17
"""Rows summed up at once."""


class Recorder:
    """The record of an epoch, or of a window of it: ``rows`` rows in batches of ``size``."""

    def __init__(self, rows: int, size: int, device: torch.device | None = None) -> None:
        # a batch larger than the epoch only holds the epoch
        self.rows, self.size = rows, min(size, rows)
        self.iterations = -(-rows // self.size)
        self.done = 0
        # one allocation for all steps: a tensor per step would fragment the heap
        self.columns = torch.zeros(self.iterations, 3, self.size, device=device)
        self.objective = torch.zeros(self.iterations, device=device)
        # views made once, because making one takes as long as copying a batch
        self._places = list(zip(self.columns.unbind(), self.objective.unbind(), strict=True))

    def restart(self, rows: int) -> None:
        """Start the record of another ``rows`` rows, at most as many as the first."""
        self.rows, self.iterations = rows, -(-rows // self.size)
        self.done = 0

    def record(self, loss: Tensor, decision: Decision, objective: Tensor) -> None:
        """Copy the loss, the decision, and the objective of the next step."""
        columns, total = self._places[self.done]
        if len(loss) < self.size:
            columns = columns[:, : len(loss)]
        torch.stack((loss, decision.weight, decision.label), out=columns)
        total.copy_(objective)
        self.done += 1

    def state(self) -> dict[str, Tensor]:
        """Return the columns recorded so far."""
        return {
            "columns": self.columns[: self.done],
            "objective": self.objective[: self.done],
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        self.done = len(state["objective"])
        self.columns[: self.done] = state["columns"]
        self.objective[: self.done] = state["objective"]

    def summary(self, epoch: Epoch, item_counts: Tensor) -> dict[str, Tensor]:
        """Return one number per iteration for each column, on the CPU.

        Counts are Int64. Losses are Float64: mean binary cross-entropy against the recorded label,
        NaN if an iteration has no row of that kind. A positive is *flagged* if its weight is zero
        (discarded) or its target is below one half (relabeled). ``flagged_false_positives`` counts
        the known false positives among them, ``rarest_false_positives`` those among as many
        positives with the rarest items; ``flagged_unknown_positives`` and
        ``rarest_unknown_positives`` count positives without ground truth in the same way.
        """
        # minus the position in the batch below: the rarest item first, then the earliest row
        rarity = -item_counts.to(torch.int64) * self.size
        # in blocks, which bounds memory and stays in the processor's cache
        length = max(BLOCK // self.size, 1)
        blocks = [
            self._block(first, min(first + length, self.iterations), epoch, rarity)
            for first in range(0, self.iterations, length)
        ]
        result = {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
        result["objective"] = self.objective[: self.iterations].to(torch.float64)
        return {name: values.cpu() for name, values in result.items()}

    def _block(self, first: int, stop: int, epoch: Epoch, rarity: Tensor) -> dict[str, Tensor]:
        """Return the columns of the iterations from ``first`` (from 0) up to ``stop``."""
        rows = slice(first * self.size, min(stop * self.size, self.rows))
        number, iterations = rows.stop - rows.start, stop - first
        loss, weight, label = self.columns[first:stop].unbind(1)
        kind = epoch.in_order(epoch.table.kind, rows)
        # one number per row says which iteration, kind, and treatment it counts for
        treatment = (label < 0.5).to(torch.int64).mul_(RELABELED)
        treatment.masked_fill_(weight == 0, DISCARDED)
        iteration = torch.arange(iterations, device=kind.device).unsqueeze(1) * (KINDS * TREATMENTS)
        cell = treatment.add_(iteration).view(-1)[:number].add_(kind, alpha=TREATMENTS)
        shape = (iterations, KINDS, TREATMENTS)
        count = torch.bincount(cell, minlength=shape[0] * shape[1] * shape[2]).view(shape)
        total = loss.new_zeros(count.numel(), dtype=torch.float64)
        total.index_add_(0, cell, loss.reshape(-1)[:number].to(torch.float64))
        total = total.view(shape).sum(2)
        of_kind, flagged = count.sum(2), count[..., DISCARDED] + count[..., RELABELED]
        result = {
            "rows": of_kind.sum(1),
            "positives": of_kind[:, TRUE_POSITIVE:].sum(1),
            "false_positives": of_kind[:, FALSE_POSITIVE],
            "unknown_positives": of_kind[:, UNKNOWN_POSITIVE],
            "flagged": flagged[:, TRUE_POSITIVE:].sum(1),
            "discarded": count[:, TRUE_POSITIVE:, DISCARDED].sum(1),
            "relabeled": count[:, TRUE_POSITIVE:, RELABELED].sum(1),
            "flagged_false_positives": flagged[:, FALSE_POSITIVE],
            "flagged_unknown_positives": flagged[:, UNKNOWN_POSITIVE],
        }
        result["rarest_false_positives"], result["rarest_unknown_positives"] = self._count_rarest(
            kind, epoch.in_order(epoch.table.fields[:, 1], rows), rarity, result["flagged"]
        )
        for name, kinds in (
            ("loss_true_positive", slice(TRUE_POSITIVE, TRUE_POSITIVE + 1)),
            ("loss_false_positive", slice(FALSE_POSITIVE, FALSE_POSITIVE + 1)),
            ("loss_positive", slice(TRUE_POSITIVE, None)),
            ("loss_negative", slice(NEGATIVE, NEGATIVE + 1)),
        ):
            result[name] = total[:, kinds].sum(1) / of_kind[:, kinds].sum(1)
        return result

    def _count_rarest(
        self, kind: Tensor, item: Tensor, rarity: Tensor, flagged: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Count false and unknown positives among the ``flagged`` ones with the rarest items."""
        most = int(flagged.max())
        if not most:
            return torch.zeros_like(flagged), torch.zeros_like(flagged)
        keys = self._grid(rarity.index_select(0, item), len(flagged))
        kinds = self._grid(kind, len(flagged), fill=NEGATIVE)
        position = torch.arange(self.size, device=item.device)
        keys = (keys - position).masked_fill_(kinds == NEGATIVE, torch.iinfo(torch.int64).min)
        rarest = keys.topk(most).indices
        taken = position[:most] < flagged.unsqueeze(1)
        found = kinds.gather(1, rarest).masked_fill_(~taken, NEGATIVE)
        false, unknown = (found == one for one in (FALSE_POSITIVE, UNKNOWN_POSITIVE))
        return false.count_nonzero(1), unknown.count_nonzero(1)

    def _grid(self, values: Tensor, iterations: int, fill: int = 0) -> Tensor:
        """Return ``values`` as [iterations, size], the last row padded with ``fill``."""
        missing = iterations * self.size - len(values)
        if missing:
            values = F.pad(values, (0, missing), value=fill)
        return values.view(iterations, self.size)


def summary_table(summary: dict[str, Tensor], epoch: int, first_iteration: int) -> pl.DataFrame:
    """Return the summary as a table, one row per iteration; NaN (no such row) becomes null."""
    number = len(next(iter(summary.values())))
    columns = {
        "epoch": np.full(number, epoch, dtype=np.int32),
        "iteration": np.arange(first_iteration, first_iteration + number, dtype=np.int64),
        **{name: values.numpy() for name, values in summary.items()},
    }
    return pl.DataFrame(columns, nan_to_null=True)
