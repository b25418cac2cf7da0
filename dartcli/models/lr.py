"""Logistic regression.

Source: Kumar et al., "Predicting clicks: CTR estimation of advertisements using logistic regression
classifier", IACC 2015.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from dartcli import settings
from dartcli.models._layers import FieldEmbedding, split_logit


class LogisticRegression(nn.Module):
    """Sum a bias and one weight for the value of each field."""

    class Options(settings.Options):
        """Initialization of the weights."""

        first_order_std: float = Field(0.0, ge=0, le=1000)
        """Standard deviation of the initial weights; default: the protocol's."""

    def __init__(self, field_sizes: Sequence[int], options: Options) -> None:
        super().__init__()
        self.embedding = FieldEmbedding(field_sizes, 0, options.first_order_std)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, fields: Tensor) -> Tensor:
        """Map Long[N, F] field values to Float[N] logits."""
        logit: Tensor = self.embedding(fields, self.bias)[0]
        return logit

    def split_logit(self, fields: Tensor, columns: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return what ``columns`` contribute; see :func:`dartcli.models._layers.split_logit`.

        The bias belongs to the side of the user, column 0.
        """
        vector, own = split_logit(self.embedding, fields, columns, interact=False)
        return vector, own + self.bias if 0 in columns else own


MODEL = LogisticRegression
