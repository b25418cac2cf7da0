"""What happened to every row of an epoch, summed up per iteration.

A step only hands over three tensors that it has anyway; everything else is computed from them once
an epoch, so that recording costs a step nothing.
"""

from __future__ import annotations

import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from dartcli.data.batches import (
    FALSE_POSITIVE,
    NEGATIVE,
    TRUE_POSITIVE,
    UNKNOWN_POSITIVE,
    Epoch,
)
from dartcli.denoising import Decision, highest, rank_keys, top


class Trace:
    """The record of one epoch of ``rows`` rows in batches of ``size``."""

    def __init__(self, rows: int, size: int) -> None:
        self.rows, self.size = rows, size
        self.iterations = -(-rows // size)
        self.steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def record(self, loss: Tensor, decision: Decision, objective: Tensor) -> None:
        """Keep what the next step saw, decided and optimised: references, no copies."""
        self.steps.append((loss, decision.weight, decision.label, objective.detach()))

    def summary(self, epoch: Epoch, item_counts: Tensor) -> dict[str, Tensor]:
        """Return one number an iteration for each measure, on the CPU.

        Counts are Int64, losses Float64 (mean binary cross-entropy against the recorded label,
        NaN where an iteration has no row of that kind). A positive is *handled* when its weight is
        zero (discarded) or its target is below one half (relabelled), and a *hit* when it is a
        known false positive. ``hit_by_popularity`` counts the hits had the same number of
        positives been taken by rarity of the item instead.
        """
        losses, weights, labels, objectives = zip(*self.steps, strict=True)
        loss, weight, label = torch.cat(losses), torch.cat(weights), torch.cat(labels)
        self.steps.clear()
        kind = epoch.in_order(epoch.table.kind)
        positive = kind != NEGATIVE
        false_positive = kind == FALSE_POSITIVE
        discarded = positive & (weight == 0)
        relabelled = positive & (weight > 0) & (label < 0.5)
        handled = discarded | relabelled
        counts = {
            "rows": torch.ones_like(positive),
            "positives": positive,
            "false_positives": false_positive,
            "unknown_positives": kind == UNKNOWN_POSITIVE,
            "handled": handled,
            "discarded": discarded,
            "relabelled": relabelled,
            "hit": handled & false_positive,
        }
        result = {name: self._grid(mask).sum(1) for name, mask in counts.items()}
        hits = torch.zeros_like(result["hit"])
        if bool(handled.any()):
            hits = self._hits_by_popularity(epoch, item_counts, positive, result["handled"])
        result["hit_by_popularity"] = hits
        result["objective"] = torch.stack(objectives).to(torch.float64)
        for name, of_kind in (
            ("loss_true_positive", kind == TRUE_POSITIVE),
            ("loss_false_positive", false_positive),
            ("loss_positive", positive),
            ("loss_negative", ~positive),
        ):
            result[name] = self._mean(loss, of_kind)
        return {name: values.cpu() for name, values in result.items()}

    def _grid(self, values: Tensor, fill: int = 0) -> Tensor:
        """Return ``values`` as [iterations, size], the last row filled up."""
        missing = self.iterations * self.size - self.rows
        return F.pad(values, (0, missing), value=fill).view(self.iterations, self.size)

    def _mean(self, loss: Tensor, mask: Tensor) -> Tensor:
        total = self._grid(torch.where(mask, loss, 0.0)).sum(1, dtype=torch.float64)
        return total / self._grid(mask).sum(1)

    def _hits_by_popularity(
        self, epoch: Epoch, item_counts: Tensor, positive: Tensor, handled: Tensor
    ) -> Tensor:
        item = epoch.in_order(epoch.table.fields[:, 1])
        rarity = -item_counts[item].to(torch.float32)
        position = torch.arange(self.rows, device=item.device)
        eligible = self._grid(positive)
        keys = rank_keys(self._grid(rarity), self._grid(position), eligible)
        top_keys = top(keys, int(handled.max()))
        chosen = highest(top_keys, keys, handled) & eligible
        false_positive = epoch.in_order(epoch.table.kind) == FALSE_POSITIVE
        return (chosen & self._grid(false_positive)).sum(1)


def frame(summary: dict[str, Tensor], epoch: int, first_iteration: int) -> pl.DataFrame:
    """Return the summary as a table, one row an iteration; NaN (no such row) becomes null."""
    columns = {name: pl.Series(values.numpy()) for name, values in summary.items()}
    number = len(next(iter(summary.values())))
    iteration = pl.Series("iteration", range(first_iteration, first_iteration + number), pl.Int64)
    return (
        pl.DataFrame(columns)
        .with_columns(pl.selectors.float().fill_nan(None))
        .select(pl.lit(epoch, pl.Int32).alias("epoch"), iteration, pl.all())
    )
