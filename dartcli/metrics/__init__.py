"""Metrics of scored rows and of ranked lists, and paired comparisons (``statistics``)."""

from __future__ import annotations

from dartcli.metrics.classification import (
    auc,
    auc_by_group,
    calibration_error,
    equal_groups,
    grouped_auc,
    log_loss,
    precision_at,
)
from dartcli.metrics.top_k import find_top_k, recall_and_ndcg

__all__ = [
    "auc",
    "auc_by_group",
    "calibration_error",
    "equal_groups",
    "find_top_k",
    "grouped_auc",
    "log_loss",
    "precision_at",
    "recall_and_ndcg",
]
