"""Lookups whose gradient is added to a buffer, and FM's interactions in closed form.

Autograd would build a gradient of the whole table in every step, out of several intermediate ones.
These functions pass the rows' gradients to a function that adds them. They can be differentiated
once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Add = Callable[[Tensor, Tensor, int], None]
"""Takes Long rows of a table, Float[*rows.shape, K] gradient, and the axis of the batch."""


class FusedLookUp(torch.autograd.Function):
    """The table's rows; their gradient is passed to ``add``."""

    @staticmethod
    def forward(context: Any, table: Tensor, rows: Tensor, add: Add) -> Tensor:
        """Return Float[*rows.shape, K] of Float[R, K] and Long rows of any shape."""
        context.save_for_backward(rows)
        context.add = add
        return table.index_select(0, rows.reshape(-1)).view(*rows.shape, table.shape[1])

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, None, None]:
        """Add the gradient of every row to that of the table."""
        (rows,) = context.saved_tensors
        context.add(rows, gradient, 0)
        return None, None, None


class FusedInteractions(torch.autograd.Function):
    """First-order weights and pairwise interactions of a joint table, with their gradient.

    Source: Rendle, "Factorization Machines" (ICDM 2010), Eq. 4: the gradient of the interactions by
    a factor is the sum of the *other* fields' factors.
    """

    @staticmethod
    def forward(
        context: Any,
        table: Tensor,
        bias: Tensor,
        rows: Tensor,
        interacting: Tensor | None,
        add: Add,
    ) -> tuple[Tensor, Tensor]:
        """Return the sum per row and what was looked up.

        Parameters
        ----------
        table : Float[R, K]
            Factors and, last, the first-order weight.
        bias : Float[]
        rows : Long[F, N]
            Contiguous: fields first, so that a field's values lie together.
        interacting : Float[K], optional
            1 for a factor and 0 for the first-order weight; None leaves the interactions out.
        add
            Receives the rows and their gradient.

        Returns
        -------
        total : Float[N]
        values : Float[F, N, K]
        """
        values = table.index_select(0, rows.view(-1)).view(*rows.shape, table.shape[1])
        total = values[..., -1].sum(0)
        if interacting is not None:
            before, *others = values.unbind()
            for number, field in enumerate(others, 1):
                total.addmv_(before * field, interacting)
                if number < len(others):
                    before = before + field
        total += bias
        context.save_for_backward(values, rows)
        context.add = add
        context.pairwise = interacting is not None
        context.set_materialize_grads(False)
        return total, values

    @staticmethod
    def backward(
        context: Any, of_total: Tensor, of_values: Tensor | None
    ) -> tuple[None, Tensor, None, None, None]:
        """Add the gradient of every row to that of the table; return that of the bias."""
        values, rows = context.saved_tensors
        factor = of_total.unsqueeze(1)
        gradient = torch.empty_like(values)
        if not context.pairwise:
            gradient.zero_()
        elif len(values) == 2:
            torch.mul(values[1], factor, out=gradient[0])
            torch.mul(values[0], factor, out=gradient[1])
        else:
            torch.sub(values.sum(0), values, out=gradient).mul_(factor)
        gradient[..., -1] = of_total
        if of_values is not None:
            gradient += of_values
        context.add(rows, gradient, 1)
        return None, of_total.sum(), None, None, None
