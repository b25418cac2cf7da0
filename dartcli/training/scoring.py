"""Score tables with a model, and compute the metrics of the scores."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from dartcli import metrics
from dartcli.data.columns import ITEM, LABEL, NOISY, RATING, USER
from dartcli.data.tensors import FALSE_POSITIVE, UNKNOWN_POSITIVE, Interactions
from dartcli.denoising import TrainingTable
from dartcli.training.grants import estimate_clean_auc

CHUNK = 1 << 14
"""Rows scored at once."""


def score(model: nn.Module, table: Interactions) -> Tensor:
    """Return Float[N], the model's logit of every row, in evaluation mode without gradient.

    The model is left in the mode it was in.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts = [model(fields) for fields in table.fields.split(CHUNK)]
        return torch.cat(parts) if parts else torch.empty(0, device=table.label.device)
    finally:
        model.train(was_training)


def score_positives(model: nn.Module, table: Interactions) -> tuple[Tensor, Tensor]:
    """Return Long[P], the rows of the positives, and Float[P], their logits."""
    row = torch.nonzero(table.label > 0)[:, 0]
    part = Interactions(table.fields[row], table.label[row], table.kind[row])
    return row, score(model, part)


def compute_metrics(logit: Tensor, table: Interactions) -> dict[str, float]:
    """Return the metrics of a scored split against its clean labels.

    ``auc``, ``log_loss``, ``calibration_error``, and ``auc_per_user`` (the mean within users,
    weighted by rows) count known false positives as negatives; ``auc_without_fp`` leaves them out
    and is NaN if no positive has ground truth. If no false positive is known, the labels are the
    recorded ones. ``auc_labeled`` is estimated from the positives with ground truth if others have
    none, else NaN.
    """
    label = table.clean_label
    kept = table.kind != FALSE_POSITIVE
    is_known = bool(table.is_labeled.any())
    has_unknown = bool((table.kind == UNKNOWN_POSITIVE).any())
    labeled = float("nan")
    if is_known and has_unknown:
        labeled = estimate_clean_auc(logit, table, torch.nonzero(table.is_labeled)[:, 0])
    user = table.fields[:, 0]
    users = int(user.max()) + 1 if len(user) else 0
    return {
        "auc": metrics.auc(logit, label),
        "auc_without_fp": metrics.auc(logit[kept], label[kept]) if is_known else float("nan"),
        "auc_labeled": labeled,
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


def score_table(
    split: str,
    table: Interactions,
    logit: Tensor,
    rating: pl.Series | None,
    counts: TrainingTable,
) -> pl.DataFrame:
    """Return the scores of one split as :meth:`dartcli.experiments.run.Run.scores` has them.

    Parameters
    ----------
    split
        Name of the split.
    table, logit
        N rows, and Float[N], their logits.
    rating
        Explicit feedback of the rows; None if the source has none.
    counts
        Statistics of the recorded training interactions.
    """
    user, item = (table.fields[:, column] for column in (0, 1))
    columns = {
        USER: (user, np.uint32),
        ITEM: (item, np.uint32),
        LABEL: (table.label, np.uint8),
        NOISY: (table.kind == FALSE_POSITIVE, np.bool_),
        "logit": (logit.float(), np.float32),
        "user_positives": (counts.user_counts[user], np.uint32),
        "item_positives": (counts.item_counts[item], np.uint32),
    }
    frame = pl.DataFrame(
        {name: values.cpu().numpy().astype(dtype) for name, (values, dtype) in columns.items()}
    )
    unknown = pl.Series((table.kind == UNKNOWN_POSITIVE).cpu().numpy())
    ratings = pl.lit(None) if rating is None else rating
    return frame.select(
        pl.lit(split).alias("split"),
        USER,
        ITEM,
        LABEL,
        pl.when(unknown).then(None).otherwise(pl.col(NOISY)).alias(NOISY),
        ratings.cast(pl.Float32).alias(RATING),
        "logit",
        "user_positives",
        "item_positives",
    )
