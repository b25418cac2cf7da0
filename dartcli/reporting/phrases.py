"""Numbers and names as sentences and tables show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

METRIC_HEADS: Final = {
    "test_auc": "test AUC",
    "test_auc_without_fp": "without FP",
    "test_auc_labeled": "labeled AUC",
    "test_log_loss": "log loss",
    "test_auc_per_user": "AUC per user",
    "test_auc_tail_items": "tail items",
    "test_auc_inactive_users": "inactive users",
    "test_recall_at_20": "Recall@20",
    "test_ndcg_at_20": "NDCG@20",
    "test_calibration_error": "calibration error",
    "flagged_share": "flagged",
    "identification_precision": "precision",
    "identification_recall": "recall",
}
"""Metric -> head of its column."""
THESIS: Final = (
    "Tang (2023), “DART: Resolving Training Biases for Recommender Systems via Data Discarding "
    "and Relabeling”"
)
"""The work that the protocol ``reference`` reproduces."""


def name_metric(metric: str) -> str:
    """Return the name of a metric in a sentence, such as ``test AUC``."""
    name = metric.replace("_", " ").replace("auc", "AUC").replace("fp", "FP")
    name = name.replace("test AUC labeled", "labeled test AUC")
    name = name.replace("valid AUC recorded", "recorded valid AUC")
    return name.replace("recall at ", "Recall@").replace("ndcg at ", "NDCG@")


def join_words(words: Iterable[str]) -> str:
    """Return distinct words as ``a, b and c``."""
    *most, last = dict.fromkeys(words)
    return f"{', '.join(most)} and {last}" if most else last


def label_run(name: str, strategy: str) -> str:
    """Return ``run_01 (dart)``; the name alone if it is that of the strategy."""
    return name if name == strategy else f"{name} ({strategy})"


def name_epochs(epochs: Iterable[int]) -> str:
    """Return the epochs of all seeds as ``epoch 2``, or ``epochs 2, 5 and 3``."""
    distinct = list(dict.fromkeys(epochs))
    return f"epoch{'s' if len(distinct) > 1 else ''} {join_words(map(str, distinct))}"


def list_options(options: Mapping[str, Any]) -> str:
    """Return options as ``tau_m 0.2, r 0.5``."""
    return ", ".join(f"{name} {value}" for name, value in options.items())


def percent(share: float | None) -> str:
    """Return a share such as ``27.4%``; a dash for None."""
    return "–" if share is None else f"{share:.1%}"


def count(number: int, noun: str) -> str:
    """Return ``1 seed`` or ``5 seeds``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def signed(value: float) -> str:
    """Return ``+0.0012``; a difference that four digits would hide as ``+2.0e-06``."""
    return f"{value + 0.0:+.1e}" if 0 < abs(value) < 0.00005 else f"{value + 0.0:+.4f}"


def p_value(p: float, *, name: str = "p") -> str:
    """Return ``p = 0.023`` or ``p < 0.001``."""
    return f"{name} < 0.001" if p < 0.001 else f"{name} = {p:.3f}"


def confidence_interval(bounds: tuple[float, float]) -> str:
    """Return ``95% CI -0.0010 to +0.0020``."""
    return f"95% CI {signed(bounds[0])} to {signed(bounds[1])}"


def scaled(value: float) -> str:
    """Return a difference in units of 1e-4, such as ``+1.2``."""
    return f"{round(1e4 * value, 1) + 0.0:+.1f}"


def interval_cell(bounds: tuple[float, float] | None) -> str | None:
    """Return an interval in units of 1e-4 for a table, such as ``[-1.0, +2.0]``."""
    return None if bounds is None else f"[{1e4 * bounds[0]:+.1f}, {1e4 * bounds[1]:+.1f}]"


def p_cell(p: float | None) -> str | None:
    """Return p for a table, such as ``0.023`` or ``<0.001``."""
    return p if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def relation(value: float, other: float, digits: int) -> str:
    """Return ``higher than``, ``lower than``, or ``equal to``, at the ``digits`` that are shown."""
    difference = round(value, digits) - round(other, digits)
    return "higher than" if difference > 0 else "lower than" if difference < 0 else "equal to"
