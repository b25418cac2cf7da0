"""A denoising strategy as a loss function, for somebody else's training loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dartcli import catalog
from dartcli.denoising.loss import denoised_loss, observe
from dartcli.denoising.strategy import Context, Decision, Observed, Strategy, TrainingTable
from dartcli.errors import UsageError
from dartcli.settings import validate


class Denoiser(nn.Module):
    """A strategy that is called like a loss: ``loss = denoise(logits, labels, iteration=step)``.

    It is an ``nn.Module``: move it with ``.to(device)``, save it with ``state_dict()``, and pass
    its ``parameters()`` to the optimizer where the strategy has any.
    """

    def __init__(self, rule: Strategy) -> None:
        super().__init__()
        self.rule = rule

    def forward(
        self, logits: Tensor, labels: Tensor, *, iteration: int | Tensor, **ids: Any
    ) -> Tensor:
        """Return Float[], the loss to optimize: ``sum(weight * bce) / count(weight > 0)``.

        Parameters
        ----------
        logits
            Float[N], the model's outputs before any sigmoid.
        labels
            [N], recorded labels, 0 or 1, of any number type or Bool.
        iteration
            Number of the step, from 1: a Python int, or Int[] on the device of the logits.
        **ids
            ``epoch`` (int or Int[]), ``row``, ``user``, ``item`` (Int[N]), where the strategy
            needs them. Without ``row``, ties in the loss are settled by position in the batch.

        Raises
        ------
        UsageError
            If shapes do not fit, or the iteration is below 1.
        """
        linked, observed = self._observed(logits, labels, iteration, **ids)
        with torch.no_grad():
            decision = self.rule.decide(observed)
        return denoised_loss(linked, decision)

    def decide(
        self, logits: Tensor, labels: Tensor, *, iteration: int | Tensor, **ids: Any
    ) -> Decision:
        """Return what :meth:`forward` would do with each row; parameters as there."""
        _, observed = self._observed(logits, labels, iteration, **ids)
        with torch.no_grad():
            return self.rule.decide(observed)

    def _observed(
        self,
        logits: Tensor,
        labels: Tensor,
        iteration: int | Tensor,
        *,
        epoch: int | Tensor = 1,
        row: Tensor | None = None,
        user: Tensor | None = None,
        item: Tensor | None = None,
    ) -> tuple[Tensor, Observed]:
        if logits.dim() != 1 or labels.shape != logits.shape:
            raise UsageError(
                f"logits and labels must be one-dimensional and of one length, but have the "
                f"shapes {tuple(logits.shape)} and {tuple(labels.shape)}; "
                "use .squeeze() or .view(-1)."
            )
        if isinstance(iteration, int) and iteration < 1:
            raise UsageError(f"iteration is {iteration}: iterations count from 1.")
        linked = self.rule.link(logits)
        if row is None:
            row = torch.arange(len(logits), device=logits.device)
        return linked, observe(
            linked,
            labels.to(logits.dtype),
            row=row,
            iteration=torch.as_tensor(iteration, device=logits.device),
            epoch=torch.as_tensor(epoch, device=logits.device),
            user=user,
            item=item,
        )


def strategy(
    name: str,
    *,
    iterations_per_epoch: int | None = None,
    table: TrainingTable | None = None,
    **options: Any,
) -> Denoiser:
    """Return the strategy ``name`` as a loss for your own training loop.

    Parameters
    ----------
    name
        A strategy of the catalog, such as ``"dart"``.
    iterations_per_epoch
        Needed where an option counts epochs, such as ``t_m="3ep"``.
    table
        Statistics of the training interactions, for the strategies that use them.
    **options
        The strategy's own options, such as ``r=0.5``.

    Raises
    ------
    UsageError
        If there is no such strategy or option, or it needs the known false positives, which a
        loss function cannot use.

    Examples
    --------
    >>> import torch, dartcli
    >>> denoise = dartcli.strategy("dart", r=0.5, tau_m=0.5, t_i=0, t_m=1)
    >>> logits = torch.tensor([-2.0, 3.0, 1.0, -1.0, 0.5], requires_grad=True)
    >>> labels = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])
    >>> denoise.decide(logits, labels, iteration=1).label  # the first row is relabeled
    tensor([0., 1., 1., 1., 0.])
    """
    kind: type[Strategy] = catalog.load("strategies", name)
    if kind.reads_noisy:
        raise UsageError(
            f"the strategy {name!r} trains on a cleaned table and is no loss function; "
            "leave the known false positives out of your own data instead."
        )
    if kind.needs_clean:
        raise UsageError(
            f"the strategy {name!r} looks at the whole model and a clean sample between epochs, "
            "and is no loss function; use dart train."
        )
    if kind.networks > 1:
        raise UsageError(
            f"the strategy {name!r} trains {kind.networks} networks that decide for each other, "
            "and is no loss function of one; use dart train."
        )
    context = Context(iterations_per_epoch=iterations_per_epoch, table=table)
    return Denoiser(kind(validate(kind.Options, options, "strategy"), context))
