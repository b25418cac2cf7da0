"""NeuMF.

Source: He et al., "Neural Collaborative Filtering", WWW 2017, Eq. 12.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from dartcli import settings
from dartcli.models._layers import JointTable, MultiLayerPerceptron


class NeuralMatrixFactorization(nn.Module):
    """Add generalized matrix factorization of user and item to a perceptron over all fields.

    The two parts have separate embeddings, side by side in one table. Adding their outputs is
    equivalent to the paper's joint output layer.
    """

    class Options(settings.Options):
        """Size of the two parts."""

        factors: int = Field(16, ge=1, le=1_000_000)
        """Length of an embedding in each part."""
        hidden: tuple[int, ...] = (16, 16)
        """Units of each hidden layer; empty = linear."""
        dropout: float = Field(0.2, ge=0, lt=1)
        """Probability with which training drops a hidden unit."""

    def __init__(self, field_sizes: Sequence[int], options: Options) -> None:
        super().__init__()
        rows = sum(field_sizes)
        table = torch.empty(rows, 2 * options.factors)
        for part in table.split(options.factors, dim=1):
            nn.init.xavier_uniform_(part)
        self.embedding = JointTable(field_sizes, table)
        self.output = nn.Linear(options.factors, 1, bias=False)
        inputs = len(field_sizes) * options.factors
        self.perceptron = MultiLayerPerceptron(inputs, options.hidden, options.dropout)

    def forward(self, fields: Tensor) -> Tensor:
        """Map Long[N, F] field values to Float[N] logits."""
        of_product, of_perceptron = self.embedding.look_up(fields).chunk(2, dim=-1)
        product = of_product[:, 0] * of_product[:, 1]
        logit: Tensor = self.output(product).squeeze(1) + self.perceptron(of_perceptron.flatten(1))
        return logit


MODEL = NeuralMatrixFactorization
