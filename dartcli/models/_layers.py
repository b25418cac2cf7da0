"""Layers that models share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class JointTable(nn.Module):
    """One table for the values of every field, a row each.

    ``initial`` is Float[rows, K], the table to start from; its rows are those of the first field,
    then those of the second, and so on.
    """

    offsets: Tensor

    def __init__(self, field_sizes: Sequence[int], initial: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(initial)
        starts = torch.tensor([0, *field_sizes[:-1]], dtype=torch.int64).cumsum(0)
        self.register_buffer("offsets", starts, persistent=False)
        self.sparse_gradient = False
        """The gradient is a sparse tensor of the rows that were looked up."""

    def rows(self, fields: Tensor) -> Tensor:
        """Look up Long[N, F] field values: Float[N, F, K]."""
        values = fields + self.offsets
        if self.sparse_gradient:
            return F.embedding(values, self.table, sparse=True)
        if self.table.device.type == "cpu":
            # the same gather; its gradient is summed three times faster than embedding's
            flat = self.table.index_select(0, values.view(-1))
            return flat.view(*values.shape, self.table.shape[1])
        # embedding's gradient is summed in a fixed order on a GPU, index_select's is not
        return F.embedding(values, self.table)


def xavier(rows: int, factors: int) -> Tensor:
    """Return Float[rows, factors], Xavier-uniform; empty for no factors."""
    table = torch.empty(rows, factors)
    return nn.init.xavier_uniform_(table) if factors else table


class FieldEmbedding(JointTable):
    """Factors and a first-order weight for every value of every field, one row of one table each.

    A row holds ``factors`` numbers and the first-order weight beside them, so one gather fetches
    both. Factors start Xavier-uniform over the joint table (all fields together), the first-order
    weights normal with standard deviation ``first_order_std`` (0 = all zero).
    """

    def __init__(self, field_sizes: Sequence[int], factors: int, first_order_std: float) -> None:
        rows = sum(field_sizes)
        joint = xavier(rows, factors)
        first_order = nn.init.normal_(torch.empty(rows, 1), std=first_order_std)
        super().__init__(field_sizes, torch.cat([joint, first_order], dim=1))
        self.factors = factors

    def forward(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Look up Long[N, F] field values: Float[N, F, factors] and Float[N], first-order sums."""
        factors, first_order = self.rows(fields).split([self.factors, 1], dim=-1)
        return factors, first_order.sum(dim=(1, 2))


class _PairwiseInteractions(torch.autograd.Function):
    """The formula of :func:`pairwise_interactions` with its gradient in closed form."""

    @staticmethod
    def forward(factors: Tensor) -> Tensor:
        """Return Float[N]."""
        square_of_sum = factors.sum(dim=1).square().sum(dim=1)
        return 0.5 * (square_of_sum - factors.square().sum(dim=(1, 2)))

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keep what the gradient needs."""
        del output  # the name is torch's
        context.save_for_backward(*inputs)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """Return Float[N, F, K]: the sum of the *other* fields' factors, times the gradient."""
        (factors,) = context.saved_tensors
        result: Tensor = (factors.sum(dim=1, keepdim=True) - factors) * gradient[:, None, None]
        return result


def pairwise_interactions(factors: Tensor) -> Tensor:
    """Return Float[N]: the sum over field pairs of the dot products of Float[N, F, K] factors.

    Source: Rendle, "Factorization Machines" (2010), Lemma 3.1, in O(F K).
    """
    interactions: Tensor = _PairwiseInteractions.apply(factors)  # type: ignore[no-untyped-call]
    return interactions


class BatchNorm1d(nn.BatchNorm1d):
    """Batch normalization that takes a single row, too: by the running statistics."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalize Float[N, C]; a batch of one row has no variance of its own."""
        if self.training and len(inputs) == 1:
            return F.batch_norm(
                inputs, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(inputs)


class MultiLayerPerceptron(nn.Module):
    """Linear, batch normalization, ReLU and dropout for each width, then linear to one number."""

    def __init__(self, inputs: int, widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in widths:
            layers += [
                nn.Linear(inputs, width),
                BatchNorm1d(width),
                nn.ReLU(),
                nn.Dropout(dropout),
            ]
            inputs = width
        layers.append(nn.Linear(inputs, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map Float[N, inputs] to Float[N]."""
        output: Tensor = self.layers(inputs)
        return output.squeeze(1)
