"""Differential teaching: a strategy flags rows with finished models, for a new model to learn from.

Source: thesis, section 6 ("k-th order differential teaching", serial or parallel), which names the
idea and leaves its details open. An identifying model is trained plainly, on all rows that no model
before it has flagged. Then the strategy decides about all training positives that are left as one
batch, as after the end of its schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

import torch
from torch import Tensor

from dartcli import settings
from dartcli.denoising.evidence import Evidence
from dartcli.denoising.loss import observe
from dartcli.denoising.strategy import Context, Decision, Observed, Strategy
from dartcli.errors import UsageError

DISCARDED: Final = 1
RELABELED: Final = 2
"""Treatments; 0 = trained on as recorded."""
LATE: Final = 2**31 - 1
"""Iteration and epoch at which a strategy identifies: after the end of any schedule."""


class DifferentialTeaching(Strategy):
    """Identify by ``order`` trainings, then train anew without what was flagged.

    ``serial``: each training starts from the initial weights of the seed, and learns from the rows
    that are left, with label 0 for those relabeled. If nothing more is flagged, the training before
    is the result. ``parallel``: the identifying trainings have initial weights and batches of their
    own, and learn from all rows. What most of them flag (or all, with ``vote="all"``) is discarded,
    or relabeled if more voted for that; the last training has the weights and batches of the seed.

    Parameters
    ----------
    options
        Mode, order, and vote.
    context
        As for any strategy; ``table`` must be given.
    rule
        Flags rows: weight 0 discards, a label below one half relabels.
    """

    options: settings.Teaching
    is_fixed: ClassVar[bool] = True
    identified: Tensor
    treatment: Tensor

    def __init__(self, options: settings.Teaching, context: Context, rule: Strategy) -> None:
        super().__init__(options, context)
        table = context.require_table("teaching")
        if rule.needs_study:
            raise UsageError(
                "`--teaching` needs a strategy that flags by the losses of a single batch, without "
                "`auto` and without estimates of earlier epochs."
            )
        self.rule = rule
        self.stages = options.order + 1
        empty = torch.zeros(options.order, table.rows, dtype=torch.int8)
        self.register_buffer("identified", empty)
        self.register_buffer("treatment", empty[0].clone())

    def choose_start(self, stage: int) -> int:
        """Return 0 for the seed's own start, or the number of a parallel identifier."""
        return stage if self.options.mode == "parallel" and stage < self.stages else 0

    def flagged_by(self, stage: int) -> Tensor | None:
        """Return Bool[rows], what the strategy flagged with the model of training ``stage``."""
        return self.identified[stage - 1] > 0

    def begin_stage(
        self,
        stage: int,
        found: Evidence,
        probability: Tensor | None,  # noqa: ARG002 - the strategy identifies, not the labels
        before: Mapping[str, Tensor],
    ) -> bool:
        """Flag rows with the model of the stage before; return whether to train again."""
        self.identified.copy_(before["identified"])
        serial = self.options.mode == "serial"
        flagged = self._flag(found, self.identified.sum(0) if serial else self.treatment)
        self.identified[stage - 2] = flagged
        if serial:
            # no row is flagged twice
            self.treatment.copy_(self.identified.sum(0))
            return bool(flagged.any())
        if stage == self.stages:
            self.treatment.copy_(count_votes(self.identified, self.options.vote))
        return True

    def _flag(self, found: Evidence, treated: Tensor) -> Tensor:
        """Return Int8[rows], the treatment of the positives that have none in ``treated``."""
        device = treated.device
        row = found.row.to(device)
        left = treated[row] == 0
        row = row[left]
        logit, user, item = (
            values.to(device)[left] for values in (found.logit, found.user, found.item)
        )
        late = torch.tensor(LATE, device=device)
        view = observe(
            logit, torch.ones_like(logit), row=row, iteration=late, epoch=late, user=user, item=item
        )
        with torch.no_grad():
            decision = self.rule.decide(view)
        chosen = torch.where(decision.label < 0.5, RELABELED, 0)
        chosen = chosen.masked_fill(decision.weight == 0, DISCARDED)
        result = torch.zeros_like(treated)
        result[row] = chosen.to(result.dtype)
        return result

    def decide(self, observed: Observed) -> Decision:
        """Return weight 0 for discarded rows, label 0 for relabeled ones, else the record."""
        treatment = self.treatment[observed.row]
        weight = (treatment != DISCARDED).to(observed.label.dtype)
        return Decision(weight, observed.label * (treatment != RELABELED))


def count_votes(identified: Tensor, vote: str) -> Tensor:
    """Return Int8[rows], the treatment that the votes Int8[voters, rows] agree on.

    A row is treated if a ``"majority"`` (more than half) or ``"all"`` of the voters flagged it. It
    is relabeled if more of them relabeled than discarded it.
    """
    voters = len(identified)
    discarded, relabeled = ((identified == one).sum(0) for one in (DISCARDED, RELABELED))
    needed = voters if vote == "all" else voters // 2 + 1
    chosen = torch.where(relabeled > discarded, RELABELED, DISCARDED)
    return torch.where(discarded + relabeled >= needed, chosen, 0).to(torch.int8)
