"""Wide & Deep.

Source: Cheng et al., "Wide & Deep Learning for Recommender Systems", DLRS 2016.
"""

from __future__ import annotations

from torch import Tensor

from dartcli.models.deepfm import DeepFM


class WideAndDeep(DeepFM):
    """Sum a bias, first-order weights, and a perceptron over the embeddings."""

    def forward(self, fields: Tensor) -> Tensor:
        """Map Long[N, F] field values to Float[N] logits."""
        factors, first_order = self.embedding(fields)
        logit: Tensor = self.bias + first_order + self.perceptron(factors.flatten(1))
        return logit


MODEL = WideAndDeep
