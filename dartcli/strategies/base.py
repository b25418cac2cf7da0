"""Base: plain training on the recorded interactions, as in the thesis."""

from __future__ import annotations

from typing import ClassVar

import torch

from dartcli.denoising import Decision, Observed, Strategy


class Base(Strategy):
    """Keep every row: plain training."""

    is_fixed: ClassVar[bool] = True

    def decide(self, observed: Observed) -> Decision:
        """Return weight 1 and the recorded label for every row."""
        return Decision(torch.ones_like(observed.label), observed.label)


STRATEGY = Base
