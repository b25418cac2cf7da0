"""Plain training on the interactions as recorded (the thesis's "Base")."""

from __future__ import annotations

import torch

from dartcli.denoising import Decision, Observed, Strategy


class Base(Strategy):
    """Keeps every row: weight 1, label y."""

    def decide(self, observed: Observed) -> Decision:
        """Return weight 1 and the recorded label for every row."""
        return Decision(torch.ones_like(observed.label), observed.label)


STRATEGY = Base
