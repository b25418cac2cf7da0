"""DeepFM.

Source: Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction",
IJCAI 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from dartcli.models._layers import MultiLayerPerceptron
from dartcli.models.fm import FactorizationMachine


class DeepFM(FactorizationMachine):
    """Add a multi-layer perceptron over the same embeddings to a factorization machine."""

    weight_decay: ClassVar[float] = 1e-4

    class Options(FactorizationMachine.Options):
        """Size of the embeddings and the perceptron."""

        hidden: tuple[int, ...] = (16, 16)
        """Units of each hidden layer; empty = linear."""
        dropout: float = Field(0.2, ge=0, lt=1)
        """Probability with which training drops a hidden unit."""

    def __init__(self, field_sizes: Sequence[int], options: Options) -> None:
        super().__init__(field_sizes, options)
        inputs = len(field_sizes) * options.factors
        # the perceptron is no inner product of two sides
        self.split_logit = None  # type: ignore[assignment]
        self.perceptron = MultiLayerPerceptron(inputs, options.hidden, options.dropout)

    def forward(self, fields: Tensor) -> Tensor:
        """Map Long[N, F] field values to Float[N] logits."""
        shallow, values = self.embedding(fields, self.bias, pairwise=True)
        logit: Tensor = shallow + self.perceptron(self.embedding.extract_factors(values).flatten(1))
        return logit


MODEL = DeepFM
