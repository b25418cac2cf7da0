"""Binary cross-entropy and the loss that a decision leads to."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dartcli.denoising.strategy import Decision, Observed


def bce(logit: Tensor, label: Tensor) -> Tensor:
    """Return Float[N], the binary cross-entropy (Eq. 2) of each row, in nats.

    ``logit`` is Float[N] and ``label`` Float[N] of the same type, 0 to 1: soft labels are allowed.
    The result is finite for any finite logit.
    """
    return F.binary_cross_entropy_with_logits(logit, label, reduction="none")


def denoised_loss(logit: Tensor, decision: Decision) -> Tensor:
    """Return Float[], the loss to optimize: ``sum(weight * bce) / count(weight > 0)``.

    ``logit`` is Float[N] and carries the gradient; the decision is a constant. The loss and its
    gradient are zero if every row is discarded or the batch is empty.
    """
    kept = (decision.weight > 0).sum().clamp(min=1)
    return (decision.weight * bce(logit, decision.label)).sum() / kept


def objective_gradient(
    observed: Observed, logit: Tensor, decision: Decision
) -> tuple[Tensor, Tensor]:
    """Return :func:`denoised_loss`, and its gradient by the logit in closed form.

    Parameters
    ----------
    observed : Observed
        What :func:`observe` returned for ``logit``.
    logit : Float[N]
    decision : Decision

    Returns
    -------
    objective : Float[]
    gradient : Float[N]
        ``(probability - label) * weight / count(weight > 0)``.
    """
    weight, label = decision
    weight = weight / weight.count_nonzero().clamp_(min=1)
    loss = observed.loss
    if label is not observed.label:
        # cross-entropy is linear in the label, and minus the logit its slope
        loss = torch.addcmul(loss, observed.label - label, logit.detach())
    return torch.dot(weight, loss), (observed.probability - label).mul_(weight)


def observe(
    logit: Tensor,
    label: Tensor,
    *,
    row: Tensor,
    iteration: Tensor,
    epoch: Tensor,
    user: Tensor | None = None,
    item: Tensor | None = None,
) -> Observed:
    """Return what a strategy sees of a batch, without gradient.

    ``logit`` is Float[N] after :meth:`Strategy.link`; the other parameters are the fields of
    :class:`Observed`.
    """
    with torch.no_grad():
        logit = logit.detach()
        return Observed(
            loss=bce(logit, label),
            label=label,
            probability=logit.sigmoid(),
            row=row,
            iteration=iteration,
            epoch=epoch,
            user=user,
            item=item,
        )
