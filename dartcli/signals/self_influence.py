"""Self-influence: the squared norm of the gradient of a row's own loss.

In closed form for a factorization machine of user and item: the gradient of the logit is 1 for the
bias and both first-order weights, and each entity's factors are the gradient of the other's. With
other models, it uses their embeddings in the same way. Source: Pruthi et al., "Estimating Training
Data Influence by Tracing Gradient Descent" (NeurIPS 2020).
"""

from __future__ import annotations

from torch import Tensor

from dartcli.denoising import Evidence, Signal


def _compute(found: Evidence) -> Tensor:
    user = found.user_factors.square().sum(1)[found.user]
    item = found.item_factors.square().sum(1)[found.item]
    return (found.logit.sigmoid() - 1).square() * (3 + user + item)


SIGNAL = Signal(title="The interaction alone moves the model far.", compute=_compute)
