"""Scoring a table with a model, and what the scores are worth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dartcli import metrics
from dartcli.data.tensors import FALSE_POSITIVE, Interactions
from dartcli.denoising import TrainingTable

CHUNK = 1 << 17


def score(model: nn.Module, table: Interactions) -> Tensor:
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


def compute_metrics(logit: Tensor, table: Interactions) -> dict[str, float]:
    """Return the measures of one scored split against its clean labels.

    ``auc``, ``log_loss``, ``calibration_error`` and ``auc_per_user`` (the mean within users,
    weighted by rows) count known false positives as negatives; ``auc_without_fp`` leaves them out.
    Where no false positive is known the labels are the recorded ones.
    """
    label = table.clean_label
    kept = table.kind != FALSE_POSITIVE
    user = table.fields[:, 0]
    users = int(user.max()) + 1 if len(user) else 0
    return {
        "auc": metrics.auc(logit, label),
        "auc_without_fp": metrics.auc(logit[kept], label[kept]),
        "log_loss": metrics.log_loss(logit, label),
        "calibration_error": metrics.calibration_error(logit, label),
        "auc_per_user": metrics.grouped_auc(logit, label, user, users),
    }


def compute_group_metrics(
    logit: Tensor, table: Interactions, counts: TrainingTable, groups: int
) -> dict[str, float]:
    """Return the AUC on the rows of the least popular items, and of the least active users.

    They are the first of ``groups`` groups that hold equal shares of the training positives.
    """
    result = {}
    for name, column, of_code in (
        ("auc_tail_items", 1, counts.item_counts),
        ("auc_inactive_users", 0, counts.user_counts),
    ):
        first = metrics.equal_groups(of_code, groups)[table.fields[:, column]] == 0
        result[name] = metrics.auc(logit[first], table.clean_label[first])
    return result
