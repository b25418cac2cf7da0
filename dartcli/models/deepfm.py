"""DeepFM: Guo et al., "DeepFM: a factorization-machine based neural network", IJCAI 2017."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor

from dartcli.models._layers import MultiLayerPerceptron, pairwise_interactions
from dartcli.models.fm import FactorizationMachine


class DeepFM(FactorizationMachine):
    """A factorization machine plus a multi-layer perceptron over the same embeddings."""

    class Options(FactorizationMachine.Options):
        """Size of the embeddings and of the perceptron."""

        hidden: tuple[int, ...] = (16, 16)
        """Units of each hidden layer."""
        dropout: float = Field(0.2, ge=0, lt=1)
        """Share of hidden units dropped in training."""

    def __init__(self, field_sizes: Sequence[int], options: Options) -> None:
        super().__init__(field_sizes, options)
        inputs = len(field_sizes) * options.factors
        self.perceptron = MultiLayerPerceptron(inputs, options.hidden, options.dropout)

    def forward(self, fields: Tensor) -> Tensor:
        """Map Long[N, F] field values to Float[N] logits."""
        factors, first_order = self.embedding(fields)
        shallow = self.bias + first_order + pairwise_interactions(factors)
        logit: Tensor = shallow + self.perceptron(factors.flatten(1))
        return logit


MODEL = DeepFM
