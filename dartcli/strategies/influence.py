"""Influence: relabel the positives that increase the loss on a small clean sample.

Source: Eq. 1 of the thesis; Koh and Liang, "Understanding Black-box Predictions via Influence
Functions" (ICML 2017); relabeling as in Kong et al., "Resolving Training Biases via
Influence-based Data Relabeling" (ICLR 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor, nn

from dartcli import settings
from dartcli.denoising import Context, Decision, Observed, Strategy, bce, compute_rank_keys
from dartcli.errors import UsageError

CHUNK: Final = 1 << 16
"""Rows that are differentiated at once, which bounds memory."""


class Influence(Strategy):
    """Relabel positives with ``phi(z, clean) > 0``, at most the share ``tau_m`` of all.

    ``phi(z, clean) = -g_clean^T (H + damping I)^-1 g_z`` (Eq. 1) is how the mean loss on the clean
    sample changes with the weight of row z; ``g`` are gradients, and ``H`` is the Hessian of the
    mean training loss. One system is solved for all rows, by conjugate gradients on products with
    H; they stop early if the curvature is not positive (the loss of FM is not convex).

    It needs ``clean_rows`` rows of the validation split with their true labels, hence explicit
    feedback; validation does without these rows. It costs about ``4 * iterations`` passes over the
    training rows every ``every`` epochs. Eq. 1 holds at a minimum of a convex loss: exactly for lr,
    approximately for fm, and without guarantee for networks with layers.
    """

    needs_clean: ClassVar[bool] = True

    class Options(settings.Options):
        """Clean sample, and precision of the solver."""

        clean_rows: int = Field(1000, ge=1)
        """Rows of the validation split whose true labels are used."""
        tau_m: float = Field(0.05, ge=0, le=1)
        """Largest share of the training positives that is relabeled."""
        burn_in: int = Field(5, ge=1)
        """Epochs of plain training at the start: Eq. 1 assumes a model that is nearly fitted."""
        every: int = Field(10, ge=1)
        """Epochs between two computations of the influence."""
        damping: float = Field(0.01, gt=0)
        """Added to the diagonal of H."""
        iterations: int = Field(20, ge=1)
        """Most conjugate-gradient steps."""
        tolerance: float = Field(1e-3, gt=0)
        """Norm of the residual, relative to the right-hand side, at which the solver stops."""

    options: Options
    needs_study = True
    relabeled: Tensor

    def __init__(self, options: Options, context: Context) -> None:
        super().__init__(options, context)
        if context.clean is None or context.table is None:
            raise UsageError(
                "cannot use the strategy influence: it needs a clean sample and the training "
                "interactions. Use `dart train` on a dataset with explicit feedback."
            )
        rows = context.table.rows
        self.register_buffer("relabeled", torch.zeros(rows, dtype=torch.bool))

    def decide(self, observed: Observed) -> Decision:
        """Return weight 1, and label 0 for the rows last found harmful."""
        label = observed.label.masked_fill(self.relabeled[observed.row], 0.0)
        return Decision(torch.ones_like(label), label)

    def study(self, epoch: int, model: nn.Module, fields: Tensor, label: Tensor) -> None:
        """Choose the rows to relabel after ``burn_in`` epochs, and again every ``every``."""
        since = epoch - 1 - self.options.burn_in
        if since < 0 or since % self.options.every:
            return
        harm = self.compute_influence(model, fields, label)
        most = int(self.options.tau_m * int((label > 0).sum()))
        row = torch.arange(len(label), device=label.device)
        keys = compute_rank_keys(harm, row, (label > 0) & (harm > 0))
        worst = torch.argsort(keys, descending=True)[:most]
        self.relabeled.zero_()
        self.relabeled[worst] = harm[worst] > 0

    def compute_influence(self, model: nn.Module, fields: Tensor, label: Tensor) -> Tensor:
        """Return Float[M], ``phi(z, clean)`` of each row; positive if the row does harm.

        ``fields`` is Long[M, F] and ``label`` Float[M]. The model is differentiated in evaluation
        mode, and returned to its mode.
        """
        clean = self.context.clean
        assert clean is not None  # noqa: S101 - the constructor has checked it
        was_training = model.training
        model.eval()
        try:
            parameters = [p for p in model.parameters() if p.requires_grad]
            with torch.enable_grad():
                loss = bce(model(clean.fields), clean.label).mean()
                target = torch.autograd.grad(loss, parameters, materialize_grads=True)
            direction = self._solve(model, parameters, target, fields, label)
            chunks = zip(fields.split(CHUNK), label.split(CHUNK), strict=True)
            return torch.cat(
                [-_differentiate(model, parameters, direction, *chunk) for chunk in chunks]
            )
        finally:
            model.train(was_training)

    def _solve(
        self,
        model: nn.Module,
        parameters: list[nn.Parameter],
        target: tuple[Tensor, ...],
        fields: Tensor,
        label: Tensor,
    ) -> list[Tensor]:
        """Return ``(H + damping I)^-1 target`` by conjugate gradients."""
        solution = [torch.zeros_like(part) for part in target]
        residual = list(target)
        search = list(target)
        square = _dot(residual, residual)
        enough = self.options.tolerance**2 * square
        for _ in range(self.options.iterations):
            if not bool(square > enough):
                break
            product = _multiply_hessian(model, parameters, search, fields, label)
            curved = [p + self.options.damping * d for p, d in zip(product, search, strict=True)]
            curvature = _dot(search, curved)
            if not bool(curvature > 0):
                break
            length = square / curvature
            solution = [s + length * d for s, d in zip(solution, search, strict=True)]
            residual = [r - length * c for r, c in zip(residual, curved, strict=True)]
            before, square = square, _dot(residual, residual)
            search = [r + square / before * d for r, d in zip(residual, search, strict=True)]
        return solution


def _multiply_hessian(
    model: nn.Module,
    parameters: list[nn.Parameter],
    vector: list[Tensor],
    fields: Tensor,
    label: Tensor,
) -> list[Tensor]:
    """Return ``H vector``, with H the Hessian of the mean loss of all rows."""
    total = [torch.zeros_like(part) for part in vector]
    for rows, labels in zip(fields.split(CHUNK), label.split(CHUNK), strict=True):
        with torch.enable_grad():
            loss = bce(model(rows), labels).sum() / len(label)
            first = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
            second = torch.autograd.grad(_dot(first, vector), parameters, materialize_grads=True)
        total = [t + s for t, s in zip(total, second, strict=True)]
    return total


def _differentiate(
    model: nn.Module,
    parameters: list[nn.Parameter],
    direction: list[Tensor],
    fields: Tensor,
    label: Tensor,
) -> Tensor:
    """Return Float[N], the derivative of each row's loss along ``direction``.

    Two backward passes give one number per row: ``J^T u`` is linear in u, and its derivative along
    ``direction`` is ``J direction``.
    """
    with torch.enable_grad():
        loss = bce(model(fields), label)
        dummy = torch.zeros_like(loss, requires_grad=True)
        pulled = torch.autograd.grad(
            loss, parameters, grad_outputs=dummy, create_graph=True, materialize_grads=True
        )
        (result,) = torch.autograd.grad(_dot(pulled, direction), dummy)
    return result


def _dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    products = [(a * b).sum() for a, b in zip(one, other, strict=True)]
    return torch.stack(products).sum()


STRATEGY = Influence
