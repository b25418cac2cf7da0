"""Layers that models share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dartcli.denoising.processes import Processes
from dartcli.models._fused import FusedInteractions, FusedLookUp

SPARSE: Final = 4
"""Setting rows to zero one by one is faster than a whole table of this many times as many rows."""


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
        starts = torch.tensor([0, *itertools.accumulate(field_sizes[:-1])])
        self.register_buffer("offsets", starts, persistent=False)
        self.sparse_gradient = False
        """Whether the gradient is a sparse tensor of the rows that were looked up."""
        self.accumulates = False
        """Whether gradients in training mode are added to ``table.grad``, a tensor that is kept."""
        self.touched: list[Tensor] = []
        """Rows of which ``table.grad`` has changed since :meth:`clear_gradient`."""
        self.pending: list[tuple[Tensor, Tensor]] | None = None
        """With several processes: Long[N, F] rows and Float[N, F, K] gradients to exchange."""

    def add_gradient(self, rows: Tensor, gradient: Tensor, batch: int = 0) -> None:
        """Add Float[*rows.shape, K] to the gradient of ``rows``; ``batch`` is the batch's axis."""
        if self.pending is not None:
            self.pending.append((rows.movedim(batch, 0), gradient.movedim(batch, 0)))
            return
        assert self.table.grad is not None  # noqa: S101 - it is kept
        rows = rows.reshape(-1)
        gradient = gradient.reshape(len(rows), self.table.shape[1])
        if self.table.device.type == "cpu":
            self.table.grad.index_add_(0, rows, gradient)
        else:
            # sums in a fixed order, which index_add_ on a GPU does not
            self.table.grad += torch.ops.aten.embedding_dense_backward(
                gradient, rows, len(self.table), -1, scale_grad_by_freq=False
            )
        self.touched.append(rows)

    def add_sparse_gradient(self, rows: Tensor, gradient: Tensor) -> None:
        """Add Float[*rows.shape, K] to the gradient, as a sparse tensor."""
        more = torch.sparse_coo_tensor(
            rows.reshape(1, -1), gradient.flatten(0, -2), self.table.shape, check_invariants=False
        )
        self.table.grad = more if self.table.grad is None else self.table.grad + more

    def clear_gradient(self) -> None:
        """Set the kept gradient to zero."""
        assert self.table.grad is not None  # noqa: S101 - it is kept
        if sum(map(len, self.touched)) * SPARSE > len(self.table):
            self.table.grad.zero_()
        else:
            for rows in self.touched:
                self.table.grad.index_fill_(0, rows, 0.0)
        self.touched.clear()

    def look_up(self, fields: Tensor) -> Tensor:
        """Return Float[N, F, K], the table's rows of Long[N, F] field values."""
        values = fields + self.offsets
        if self.training and (self.accumulates or self.pending is not None):
            found: Tensor = FusedLookUp.apply(self.table, values, self.add_gradient)  # type: ignore[no-untyped-call]
            return found
        if self.sparse_gradient:
            return F.embedding(values, self.table, sparse=True)
        if self.table.device.type == "cpu":
            # the same rows as embedding, but its gradient is summed three times faster
            flat = self.table.index_select(0, values.view(-1))
            return flat.view(*values.shape, self.table.shape[1])
        # on a GPU embedding sums its gradient in a fixed order, index_select does not
        return F.embedding(values, self.table)


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

    interacting: Tensor

    def __init__(self, field_sizes: Sequence[int], factors: int, first_order_std: float) -> None:
        rows = sum(field_sizes)
        # filled in place: on the meta device, torch.cat and normal_ import PyTorch's compiler,
        # which takes a second
        table = torch.empty(rows, factors + 1)
        if factors:
            nn.init.xavier_uniform_(table[:, :factors])
        if not table.is_meta:
            table[:, factors].normal_(std=first_order_std)
        super().__init__(field_sizes, table)
        self.factors = factors
        interacting = torch.tensor([1.0] * factors + [0.0])
        self.register_buffer("interacting", interacting, persistent=False)

    def forward(
        self, fields: Tensor, bias: Tensor, *, pairwise: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the shallow part of a model and the rows that were looked up.

        Parameters
        ----------
        fields : Long[N, F]
        bias : Float[]
        pairwise : bool
            Whether to add the pairwise interactions.

        Returns
        -------
        total : Float[N]
            The bias, the first-order weights and, if wanted, the pairwise interactions.
        values : Float[F, N, factors + 1]
            For :meth:`extract_factors`.
        """
        if self.training and (self.accumulates or self.pending is not None):
            rows = (fields + self.offsets).t().contiguous()
            interacting = self.interacting if pairwise else None
            fused: tuple[Tensor, Tensor] = FusedInteractions.apply(  # type: ignore[no-untyped-call]
                self.table, bias, rows, interacting, self.add_gradient
            )
            return fused
        values = self.look_up(fields)
        total = bias + values[..., self.factors].sum(1)
        if pairwise:
            total = total + pairwise_interactions(values[..., : self.factors])
        return total, values.transpose(0, 1)

    def extract_factors(self, values: Tensor) -> Tensor:
        """Return Float[N, F, factors], the factors in the ``values`` of :meth:`forward`."""
        return values[..., : self.factors].transpose(0, 1)


def pairwise_interactions(factors: Tensor) -> Tensor:
    """Return Float[N], the sum of the dot products of all pairs of fields.

    ``factors`` is Float[N, F, K]; the cost is O(F K) per row. Source: Rendle, "Factorization
    Machines" (ICDM 2010), Lemma 3.1.
    """
    square_of_sum = factors.sum(dim=1).square().sum(dim=1)
    return 0.5 * (square_of_sum - factors.square().sum(dim=(1, 2)))


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
    """Batch normalization over the batch of all processes; accepts a single row in training."""

    running_mean: Tensor
    running_var: Tensor
    processes: Processes | None = None
    """The processes that share each batch in training; None = there is one."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalize Float[N, C]; one row has no variance, so it uses the running statistics."""
        shared = self.processes if self.training else None
        rows = shared.rows if shared else len(inputs)
        if self.training and rows == 1:
            return F.batch_norm(
                inputs, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        if shared is None:
            return super().forward(inputs)
        mean = _SharedSum.apply(inputs.sum(0), shared) / rows  # type: ignore[no-untyped-call]
        centered = inputs - mean
        squares: Tensor = _SharedSum.apply(centered.square().sum(0), shared)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(squares / (rows - 1), self.momentum or 0.0)
        return torch.addcmul(self.bias, centered * (squares / rows + self.eps).rsqrt(), self.weight)


class _SharedSum(torch.autograd.Function):
    """The sum over all processes; its gradient is summed in the same way."""

    @staticmethod
    def forward(context: Any, value: Tensor, processes: Processes) -> Tensor:
        context.processes = processes
        return processes.gather(value).sum(0)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return context.processes.gather(gradient).sum(0), None


class Dropout(nn.Dropout):
    """Dropout that draws for the rows of all processes, so that each drops its own."""

    processes: Processes | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Drop values of Float[N, C]."""
        if self.processes is None or not self.training:
            return super().forward(inputs)
        whole = inputs.new_empty(self.processes.rows, inputs.shape[1]).bernoulli_(1 - self.p)
        return inputs * whole[self.processes.mine] / (1 - self.p)


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
                Dropout(dropout),
            ]
            inputs = width
        layers.append(nn.Linear(inputs, 1))
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map Float[N, inputs] to Float[N]."""
        output: Tensor = self.layers(inputs)
        return output.squeeze(1)
