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
        wide, values = self.embedding(fields, self.bias)
        logit: Tensor = wide + self.perceptron(self.embedding.extract_factors(values).flatten(1))
        return logit


MODEL = WideAndDeep
