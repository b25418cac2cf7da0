"""Layers that models share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class JointTable(nn.Module):
    """One embedding table for the values of all fields.

    Parameters
    ----------
    field_sizes : sequence of int
        Number of values of each field.
    initial : Float[sum(field_sizes), K]
        Initial table: the rows of the first field, then those of the second, and so on.
    """

    offsets: Tensor

    def __init__(self, field_sizes: Sequence[int], initial: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(initial)
        starts = torch.tensor([0, *field_sizes[:-1]], dtype=torch.int64).cumsum(0)
        self.register_buffer("offsets", starts, persistent=False)
        self.sparse_gradient = False
        """Whether the gradient is a sparse tensor of the rows that were looked up."""

    def look_up(self, fields: Tensor) -> Tensor:
        """Return Float[N, F, K], the table's rows of Long[N, F] field values."""
        values = fields + self.offsets
        if self.sparse_gradient:
            return F.embedding(values, self.table, sparse=True)
        if self.table.device.type == "cpu":
            # the same rows as embedding, but its gradient is summed three times faster
            flat = self.table.index_select(0, values.view(-1))
            return flat.view(*values.shape, self.table.shape[1])
        # on a GPU embedding sums its gradient in a fixed order, index_select does not
        return F.embedding(values, self.table)


def init_factors(rows: int, factors: int) -> Tensor:
    """Return Float[rows, factors], drawn Xavier-uniform; empty if ``factors`` is 0."""
    table = torch.empty(rows, factors)
    return nn.init.xavier_uniform_(table) if factors else table


class FieldEmbedding(JointTable):
    """Factors and a first-order weight for every value of every field.

    A table row holds both, so one lookup fetches them together. Factors are drawn Xavier-uniform
    over all fields at once.

    Parameters
    ----------
    field_sizes : sequence of int
        Number of values of each field.
    factors : int
        Length of an embedding; 0 leaves the first-order weight only.
    first_order_std : float
        Standard deviation of the normal distribution of the first-order weights; 0 = all zero.
    """

    def __init__(self, field_sizes: Sequence[int], factors: int, first_order_std: float) -> None:
        rows = sum(field_sizes)
        joint = init_factors(rows, factors)
        first_order = nn.init.normal_(torch.empty(rows, 1), std=first_order_std)
        super().__init__(field_sizes, torch.cat([joint, first_order], dim=1))
        self.factors = factors

    def forward(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Return Float[N, F, factors] and Float[N], the sums of first-order weights.

        ``fields`` is Long[N, F].
        """
        factors, first_order = self.look_up(fields).split([self.factors, 1], dim=-1)
        return factors, first_order.sum(dim=(1, 2))


class _PairwiseInteractions(torch.autograd.Function):
    """:func:`pairwise_interactions` with its gradient in closed form."""

    @staticmethod
    def forward(factors: Tensor) -> Tensor:
        """Return Float[N]."""
        square_of_sum = factors.sum(dim=1).square().sum(dim=1)
        return 0.5 * (square_of_sum - factors.square().sum(dim=(1, 2)))

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Save the factors for the gradient."""
        del output  # PyTorch passes it by name
        context.save_for_backward(*inputs)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """Return Float[N, F, K]: the sum of the *other* fields' factors, times the gradient."""
        (factors,) = context.saved_tensors
        result: Tensor = (factors.sum(dim=1, keepdim=True) - factors) * gradient[:, None, None]
        return result


def pairwise_interactions(factors: Tensor) -> Tensor:
    """Return Float[N], the sum of the dot products of all pairs of fields.

    ``factors`` is Float[N, F, K]; the cost is O(F K) per row. Source: Rendle, "Factorization
    Machines" (ICDM 2010), Lemma 3.1.
    """
    interactions: Tensor = _PairwiseInteractions.apply(factors)  # type: ignore[no-untyped-call]
    return interactions


def split_logit(
    embedding: FieldEmbedding, fields: Tensor, columns: Sequence[int], *, interact: bool
) -> tuple[Tensor, Tensor]:
    """Return Float[N, K] and Float[N], the part of a logit that some fields contribute.

    ``fields`` is Long[N, F]; only ``columns`` are read. For two disjoint sets of columns, first
    order and pairs sum to ``own_1 + own_2 + <vector_1, vector_2>``. K is 0 unless ``interact``.
    """
    chosen = list(columns)
    rows = embedding.table[fields[:, chosen] + embedding.offsets[chosen]]
    factors, first_order = rows.split([embedding.factors, 1], dim=-1)
    own = first_order.sum(dim=(1, 2))
    return factors.sum(dim=1), own + pairwise_interactions(factors) if interact else own


class BatchNorm1d(nn.BatchNorm1d):
    """Batch normalization that also accepts a single row in training."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalize Float[N, C]; one row has no variance, so it uses the running statistics."""
        if self.training and len(inputs) == 1:
            return F.batch_norm(
                inputs, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(inputs)


class MultiLayerPerceptron(nn.Module):
    """Linear, batch normalization, ReLU and dropout per width, then linear to one number."""

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
