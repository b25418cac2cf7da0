"""Factorization machine.

Source: Rendle, "Factorization Machines", ICDM 2010, Eq. 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from dartcli import settings
from dartcli.models._layers import FieldEmbedding, split_logit


class FactorizationMachine(nn.Module):
    """Sum a bias, first-order weights, and dot products of all pairs of fields."""

    weight_decay: ClassVar[float] = 1e-5
    """Default under ``strict``: the best by validation as recorded on movielens-100k, jester-4, and
    adressa."""

    class Options(settings.Options):
        """Size and initialization of the embeddings."""

        factors: int = Field(16, ge=1, le=1_000_000)
        """Length of an embedding."""
        first_order_std: float = Field(0.0, ge=0, le=1000)
        """Standard deviation of the initial first-order weights; default: the protocol's."""

    def __init__(self, field_sizes: Sequence[int], options: Options) -> None:
        super().__init__()
        self.embedding = FieldEmbedding(field_sizes, options.factors, options.first_order_std)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, fields: Tensor) -> Tensor:
        """Map Long[N, F] field values to Float[N] logits."""
        logit: Tensor = self.embedding(fields, self.bias, pairwise=True)[0]
        return logit

    def split_logit(self, fields: Tensor, columns: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return what ``columns`` contribute; see :func:`dartcli.models._layers.split_logit`.

        The bias belongs to the side of the user, column 0.
        """
        vector, own = split_logit(self.embedding, fields, columns, interact=True)
        return vector, own + self.bias if 0 in columns else own


MODEL = FactorizationMachine
