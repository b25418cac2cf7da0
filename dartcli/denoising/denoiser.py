"""Use a denoising strategy as the loss function of your own training loop."""

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
    """Strategy that is called like a loss: ``loss = denoise(logits, labels, iteration=step)``.

    It is an ``nn.Module``: move it with ``.to(device)``, save it with ``state_dict()``, and pass
    its ``parameters()`` to the optimizer if the strategy has any.
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
        logits : Float[N]
            The model's outputs before any sigmoid.
        labels : Float[N], Int[N] or Bool[N]
            Recorded labels, 0 or 1.
        iteration : int or Int[]
            Number of the step, from 1; a tensor must be on the device of the logits.
        **ids
            ``epoch`` (int or Int[], from 1), ``row``, ``user`` and ``item`` (Int[N]), if the
            strategy needs them. Without ``row``, ties in the loss are broken by position.

        Returns
        -------
        Float[]
            Zero, with zero gradient, if every row is discarded or the batch is empty.

        Raises
        ------
        UsageError
            If the shapes differ or are not one-dimensional, the iteration is below 1, or the
            strategy needs ids that are missing.
        """
        linked, observed = self._observe(logits, labels, iteration, **ids)
        with torch.no_grad():
            decision = self.rule.decide(observed)
        return denoised_loss(linked, decision)

    def decide(
        self, logits: Tensor, labels: Tensor, *, iteration: int | Tensor, **ids: Any
    ) -> Decision:
        """Return how :meth:`forward` would train on each row; it takes the same parameters."""
        _, observed = self._observe(logits, labels, iteration, **ids)
        with torch.no_grad():
            return self.rule.decide(observed)

    def _observe(
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
                "logits and labels must be one-dimensional and of equal length, not of shapes "
                f"{tuple(logits.shape)} and {tuple(labels.shape)}. Use `.squeeze()` or `.view(-1)`."
            )
        if isinstance(iteration, int) and iteration < 1:
            raise UsageError(f"iteration is {iteration}, but iterations count from 1.")
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
    name : str
        A strategy of the catalog, such as ``"dart"``.
    iterations_per_epoch : int, optional
        Needed if an option counts epochs, such as ``t_m="3ep"``.
    table : TrainingTable, optional
        Training interactions, for strategies that use their statistics.
    **options
        The strategy's own options, such as ``r=0.5``.

    Raises
    ------
    UsageError
        If there is no such strategy or option, or the strategy cannot be used as a loss: it needs
        known false positives, a clean sample, several networks, or several stages.

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
            f"cannot use the strategy {name!r} as a loss: it only prepares the training table. "
            "Drop or relabel the known false positives in your own data."
        )
    if kind.needs_clean or kind.networks > 1 or kind.stages > 1:
        reason = (
            "inspects the whole model between epochs"
            if kind.needs_clean
            else f"trains {kind.networks} networks at once"
            if kind.networks > 1
            else f"needs {kind.stages} trainings in a row"
        )
        raise UsageError(
            f"cannot use the strategy {name!r} as a loss: it {reason}. "
            f"Use `dart train --strategy {name}`."
        )
    context = Context(iterations_per_epoch=iterations_per_epoch, table=table)
    return Denoiser(kind(validate(kind.Options, options, "strategy"), context))
