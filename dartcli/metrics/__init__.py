"""Metrics of scored rows (``classification``) and paired comparisons (``statistics``)."""

from __future__ import annotations

from dartcli.metrics.classification import (
    auc,
    auc_by_group,
    calibration_error,
    equal_groups,
    grouped_auc,
    log_loss,
)

__all__ = [
    "auc",
    "auc_by_group",
    "calibration_error",
    "equal_groups",
    "grouped_auc",
    "log_loss",
]
