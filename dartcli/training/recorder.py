"""Record what a strategy did with every row of an epoch, and sum it up per iteration.

A step hands over three tensors that it has anyway. Everything else is computed from them once per
epoch, so recording costs a step almost nothing.
"""

from __future__ import annotations

from typing import Final

import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from dartcli.data.tensors import FALSE_POSITIVE, NEGATIVE, TRUE_POSITIVE, UNKNOWN_POSITIVE, Epoch
from dartcli.denoising import Decision

NO_ROW: Final = -1
"""Kind of the padding of the last, smaller batch."""
BLOCK: Final = 1 << 17
"""Rows summed up at once."""


class Recorder:
    """The record of one epoch of ``rows`` rows in batches of ``size``."""

    def __init__(self, rows: int, size: int, device: torch.device | None = None) -> None:
        # a batch larger than the epoch only holds the epoch
        self.rows, self.size = rows, min(size, rows)
        self.iterations = -(-rows // self.size)
        self.done = 0
        # one allocation for all steps: a tensor per step would fragment the heap
        self.columns = torch.zeros(3, self.iterations * self.size, device=device)
        self.objective = torch.zeros(self.iterations, device=device)

    def record(self, loss: Tensor, decision: Decision, objective: Tensor) -> None:
        """Copy the loss, the decision, and the objective of the next step."""
        start = self.done * self.size
        place = self.columns[:, start : start + len(loss)]
        torch.stack((loss, decision.weight, decision.label), out=place)
        self.objective[self.done] = objective.detach()
        self.done += 1

    def state(self) -> dict[str, Tensor]:
        """Return the columns recorded so far."""
        return {
            "columns": self.columns[:, : self.done * self.size],
            "objective": self.objective[: self.done],
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        self.done = len(state["objective"])
        self.columns[:, : self.done * self.size] = state["columns"]
        self.objective[: self.done] = state["objective"]

    def summary(self, epoch: Epoch, item_counts: Tensor) -> dict[str, Tensor]:
        """Return one number per iteration for each column, on the CPU.

        Counts are Int64. Losses are Float64: mean binary cross-entropy against the recorded label,
        NaN if an iteration has no row of that kind. A positive is *flagged* if its weight is zero
        (discarded) or its target is below one half (relabeled). ``flagged_false_positives`` counts
        the known false positives among them, ``rarest_false_positives`` those among as many
        positives with the rarest items.
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
        result["objective"] = self.objective.to(torch.float64)
        return {name: values.cpu() for name, values in result.items()}

    def _block(self, first: int, stop: int, epoch: Epoch, rarity: Tensor) -> dict[str, Tensor]:
        """Return the columns of the iterations from ``first`` (from 0) up to ``stop``."""
        rows = slice(first * self.size, min(stop * self.size, self.rows))
        columns = self.columns[:, first * self.size : stop * self.size]
        loss, weight, label = columns.view(3, stop - first, self.size)
        # padding is of no kind
        kind = self._grid(epoch.in_order(epoch.table.kind, rows), stop - first, fill=NO_ROW)
        false_positive = kind == FALSE_POSITIVE
        negative = kind == NEGATIVE
        positive = kind > NEGATIVE
        discarded = positive & (weight == 0)
        relabeled = positive & (weight > 0) & (label < 0.5)
        flagged = discarded | relabeled
        counts = {
            "rows": kind != NO_ROW,
            "positives": positive,
            "false_positives": false_positive,
            "unknown_positives": kind == UNKNOWN_POSITIVE,
            "flagged": flagged,
            "discarded": discarded,
            "relabeled": relabeled,
            "flagged_false_positives": flagged & false_positive,
        }
        result = {name: mask.count_nonzero(1) for name, mask in counts.items()}
        most = int(result["flagged"].max())
        result["rarest_false_positives"] = torch.zeros_like(result["flagged_false_positives"])
        if most:
            item = epoch.in_order(epoch.table.fields[:, 1], rows)
            keys = self._grid(rarity.index_select(0, item), stop - first)
            position = torch.arange(self.size, device=item.device)
            keys = (keys - position).masked_fill(~positive, torch.iinfo(torch.int64).min)
            rarest = keys.topk(most).indices
            taken = position[:most] < result["flagged"].unsqueeze(1)
            chosen = false_positive.gather(1, rarest) & taken
            result["rarest_false_positives"] = chosen.count_nonzero(1)
        zero = loss.new_zeros(())
        for name, of_kind in (
            ("loss_true_positive", kind == TRUE_POSITIVE),
            ("loss_false_positive", false_positive),
            ("loss_positive", positive),
            ("loss_negative", negative),
        ):
            total = torch.where(of_kind, loss, zero).sum(1, dtype=torch.float64)
            result[name] = total / of_kind.count_nonzero(1)
        return result

    def _grid(self, values: Tensor, iterations: int, fill: int = 0) -> Tensor:
        """Return ``values`` as [iterations, size], the last row padded with ``fill``."""
        missing = iterations * self.size - len(values)
        if missing:
            values = F.pad(values, (0, missing), value=fill)
        return values.view(iterations, self.size)


def summary_table(summary: dict[str, Tensor], epoch: int, first_iteration: int) -> pl.DataFrame:
    """Return the summary as a table, one row per iteration; NaN (no such row) becomes null."""
    columns = {name: pl.Series(values.numpy()) for name, values in summary.items()}
    number = len(next(iter(summary.values())))
    iteration = pl.Series("iteration", range(first_iteration, first_iteration + number), pl.Int64)
    return (
        pl.DataFrame(columns)
        .with_columns(pl.selectors.float().fill_nan(None))
        .select(pl.lit(epoch, pl.Int32).alias("epoch"), iteration, pl.all())
    )
