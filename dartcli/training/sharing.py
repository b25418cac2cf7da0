"""Train equal stages of a sweep once in each process.

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
from torch.nn import functional as F

from dartcli.denoising import observe
from dartcli.training.configuration import Configuration
from dartcli.training.epochs import EpochRecord
from dartcli.training.program import State

if TYPE_CHECKING:
    from dartcli.training.components import Components
    from dartcli.training.loop import Outcome

KEPT: Final = 12
"""Stages kept, those used last: more than teaching of order 3 comes back to."""
MOST_BYTES: Final = 1 << 30
"""Memory of the weights that are kept, at most."""


@dataclass(frozen=True)
class FinishedStage:
    """A stage that was trained to its end."""

    epochs: Sequence[EpochRecord]
    outcome: Outcome
    weights: State
    """Weights of the last epoch."""

    @property
    def nbytes(self) -> int:
        """Memory of its weights."""
        return sum(part.nbytes for part in (*self.weights.values(), *self.outcome.best.values()))


class SharedStages:
    """The stages that this process trained last, for other trainings on the same data."""

    def __init__(self) -> None:
        self._rest: tuple[str, str] | None = None
        self._kept: OrderedDict[str, FinishedStage] = OrderedDict()

    def enter(self, configuration: Configuration, digest: str) -> None:
        """Forget all stages unless the data and all settings but the strategy's are the same."""
        apart = {"strategy", "teaching", "trusted"}
        rest = configuration.settings.model_dump_json(exclude=apart), digest
        if rest != self._rest:
            self._kept.clear()
        self._rest = rest

    def find(self, key: str) -> FinishedStage | None:
        """Return the stage with ``key``; None if there is none."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: str, stage: FinishedStage) -> None:
        """Keep a stage; forget those used longest ago if they are too many or too large."""
        self._kept[key] = stage
        while len(self._kept) > KEPT or sum(one.nbytes for one in self._kept.values()) > MOST_BYTES:
            self._kept.popitem(last=False)


def identify_stage(components: Components, start: int) -> str | None:
    """Return what determines a stage on given data and settings; None if that is not known.

    ``start`` is the seed of its initial weights and batches.
    """
    strategy, training = components.strategy, components.training
    # a subclass may decide differently
    is_fixed = vars(type(strategy)).get("is_fixed", False)
    is_prepared = components.valid is not components.recorded_valid
    if not is_fixed or is_prepared or len(components.models) > 1:
        return None
    recorded = training.recorded
    row = torch.arange(len(training), device=recorded.label.device)
    # sampled negatives come after the recorded rows
    label = F.pad(recorded.label, (0, len(row) - len(recorded)))
    counter = torch.zeros((), dtype=torch.int64, device=row.device)
    view = observe(torch.zeros_like(label), label, row=row, iteration=counter, epoch=counter)
    digest = hashlib.sha256(str(start).encode())
    with torch.no_grad():
        # the records of an epoch depend on what is known of each row
        for part in (*strategy.decide(view), recorded.kind):
            digest.update(part.cpu().numpy().tobytes())
    return digest.hexdigest()
