"""Equal trainings within a process are trained once: an arm's first stage is often that of another.

Strategies whose decisions are fixed train equally if the decisions on all rows, the data, the
settings, and the start are equal. Plain training, for example, is ``base``, the first stage of
``trusted`` with any number of labels, and that of serial teaching of any order.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from dartcli.denoising import observe
from dartcli.training.configuration import Configuration
from dartcli.training.epochs import EpochRecord
from dartcli.training.program import State

if TYPE_CHECKING:
    from dartcli.training.components import Components
    from dartcli.training.loop import Outcome

KEPT: Final = 12
"""Trainings kept, those used last: more than teaching of order 3 comes back to."""

Cell = tuple[str, str]
"""Settings other than the strategy's, and digest of the data."""


@dataclass(frozen=True)
class FinishedStage:
    """A stage that was trained to its end."""

    epochs: Sequence[EpochRecord]
    outcome: Outcome
    weights: State
    """Weights of the last epoch."""


class SharedStages:
    """The stages that this process trained last, for other trainings on the same data."""

    def __init__(self) -> None:
        self._cell: Cell | None = None
        self._kept: OrderedDict[tuple[int, str], FinishedStage] = OrderedDict()

    def enter(self, configuration: Configuration, digest: str) -> None:
        """Forget all stages unless the data and all settings but the strategy's are the same."""
        apart = {"strategy", "teaching", "trusted"}
        cell = configuration.settings.model_dump_json(exclude=apart), digest
        if cell != self._cell:
            self._kept.clear()
        self._cell = cell

    def find(self, key: tuple[int, str] | None) -> FinishedStage | None:
        """Return the stage with ``key``; None if there is none, or no key."""
        if key not in self._kept or key is None:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def keep(self, key: tuple[int, str] | None, stage: FinishedStage) -> None:
        """Keep a stage, and forget the one that was used longest ago if there are too many."""
        if key is not None:
            self._kept[key] = stage
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)


def identify_stage(components: Components, start: int) -> tuple[int, str] | None:
    """Return what determines a stage on given data and settings; None if that is not known.

    ``start`` is the seed of its initial weights and batches.
    """
    strategy, recorded = components.strategy, components.training.recorded
    # a subclass that decides otherwise need not know of it
    is_fixed = vars(type(strategy)).get("is_fixed", False)
    if not is_fixed or len(recorded) > len(components.recorded_train):
        return None
    row = torch.arange(len(recorded), device=recorded.label.device)
    counter = torch.zeros((), dtype=torch.int64, device=row.device)
    user, item = recorded.fields[:, :2].unbind(1)
    logit = torch.zeros_like(recorded.label)
    view = observe(
        logit, recorded.label, row=row, iteration=counter, epoch=counter, user=user, item=item
    )
    with torch.no_grad():
        parts = [part.cpu().numpy().tobytes() for part in strategy.decide(view)]
    return start, hashlib.sha256(b"".join(parts)).hexdigest()
