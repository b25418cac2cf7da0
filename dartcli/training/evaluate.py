"""Scoring a table with a model, and what the scores are worth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dartcli import metrics
from dartcli.data.batches import FALSE_POSITIVE, Table

CHUNK = 1 << 17


def logits(model: nn.Module, table: Table) -> Tensor:
    """Return Float[N], the model's logits for every row, in evaluation mode, without gradient.

    The model is left in the mode it was found in.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts = [model(fields) for fields in table.fields.split(CHUNK)]
        return torch.cat(parts) if parts else torch.empty(0, device=table.label.device)
    finally:
        model.train(was_training)


def measures(logit: Tensor, table: Table) -> dict[str, float]:
    """Return the measures of one scored split against its clean labels.

    ``auc`` and ``log_loss`` count known false positives as negatives; ``auc_without_fp`` leaves
    them out. Where no false positive is known the labels are the recorded ones.
    """
    label = table.clean_label
    kept = table.kind != FALSE_POSITIVE
    return {
        "auc": metrics.auc(logit, label),
        "auc_without_fp": metrics.auc(logit[kept], label[kept]),
        "log_loss": metrics.log_loss(logit, label),
    }
