"""The detector: from signals and trusted labels to the probability of being a false positive.

A logistic regression on what a finished model tells about a row, and on how many of the user's and
of the item's other trusted interactions are false positives. It is guarded, because labels are
rarely drawn at random: features are clipped to the range of the labeled rows, the penalty is
strong, and what the labels tell is tested on users, and on items, that have no labels in the fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dartcli import metrics
from dartcli.denoising import Evidence, mean_by_code

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

PSEUDO_COUNTS: Final = 5.0
"""Labels at the prior that are added to those of a user or an item."""
PERCENTILES: Final = (1.0, 99.0)
"""Of the labeled rows; features are clipped to the range between."""
STRENGTHS: Final = (0.01, 0.1)
"""Inverse strengths of the penalty: prior standard deviations of 0.1 and 0.32 of the coefficients.
The weaker penalty is used only if it is better in cross-validation by ``CLEARLY``. Chosen by the
lower log loss alone, it made training on real data worse with up to 500 labels, and no better with
2,000."""
CLEARLY: Final = 2.0
"""Standard errors of a paired difference in log loss, or of an AUC above that of chance."""
SIMILAR: Final = 1.25
"""Labels look random if at most as many times the share by chance is outside of the range."""
FOLDS: Final = 5
CHUNK: Final = 1 << 18
"""Rows whose features are in memory at once."""


@dataclass(frozen=True)
class Detection:
    """What the detector found, and how well on users and items without labels."""

    probability: Tensor
    """Float[P], probability of being a false positive; a trusted row has its own label."""
    trusted: int
    """Number of trusted labels."""
    prior: float
    """Share of false positives among them."""
    log_loss: float
    """Of the probabilities of left-out rows, in nats: the mean over leaving out users and items,
    weighted by the unlabeled rows whose item has labels, and has none."""
    prior_log_loss: float
    """Of the share of false positives in the other folds, for the same rows."""
    error: float
    """Standard error of the difference of the two."""
    auc: float
    """Of the probabilities of left-out rows, minus the prior of their fold; weighted likewise."""
    auc_error: float
    """Standard error of an AUC by chance, as in a Mann-Whitney test."""
    clipped: float
    """Share of the features of unlabeled rows that were outside of the range."""
    strength: float
    """Inverse strength of the penalty, one of ``STRENGTHS``."""

    @property
    def gain(self) -> float:
        """How much lower the log loss of left-out rows is than that of the prior."""
        return self.prior_log_loss - self.log_loss

    @property
    def clipped_by_chance(self) -> float:
        """What ``clipped`` would be if the labeled rows were drawn at random."""
        return 2 * (PERCENTILES[0] / 100 * (self.trusted - 1) + 1) / (self.trusted + 1)

    @property
    def looks_random(self) -> bool:
        """Whether hardly more features are outside than by chance."""
        return self.clipped <= SIMILAR * self.clipped_by_chance

    @property
    def support(self) -> float:
        """How strong the evidence is that labels tell something; above 1, it is enough.

        Enough is one standard error of the log loss, or, if the labels look random, two of the AUC.
        The AUC needs fewer labels, but does not show that other rows are like the labeled ones.
        """
        by_loss = self.gain / max(self.error, 1e-12)
        by_rank = (self.auc - 0.5) / (CLEARLY * self.auc_error)
        return max(by_loss, by_rank) if self.looks_random else by_loss

    @property
    def is_informative(self) -> bool:
        """Whether the labels tell false positives from others."""
        return self.support > 1


def detect(found: Evidence, rows: Tensor, false: Tensor) -> Detection | None:
    """Fit the detector on trusted labels and apply it to every training positive.

    Parameters
    ----------
    found
        Evidence of P positives, from a model that has not seen the labels.
    rows : Long[T]
        The trusted ones, as positions from 0 to P - 1, distinct.
    false : Bool[T]
        Whether each is a false positive.

    Returns
    -------
    Detection or None
        None if the labels are all alike, or are of one user or one item, so that none can be left
        out.
    """
    from threadpoolctl import threadpool_limits

    table = _Table(found, rows.numpy(), false.numpy().astype(np.float64))
    if any(len(np.unique(values)) < 2 for values in (table.false, *table.codes)):
        return None
    # sums in a matrix product depend on the number of threads in their last bits
    with threadpool_limits(1):
        strength, validation = _choose_strength(table)
        everything = np.arange(len(table.rows))
        model = _Guarded(table.describe(table.rows, everything), table.false, strength)
        probability, clipped = np.empty(len(found.row), dtype=np.float32), 0.0
        for start in range(0, len(probability), CHUNK):
            part = np.arange(start, min(start + CHUNK, len(probability)))
            features = table.describe(part, everything)
            probability[part] = model.predict(features)
            outside = (features < model.low) | (features > model.high)
            clipped += float(outside[~np.isin(part, table.rows)].mean(axis=1).sum())
    probability[table.rows] = table.false
    wanted = len(table.rows) - table.false.sum()
    return Detection(
        probability=torch.from_numpy(probability),
        trusted=len(table.rows),
        prior=float(table.false.mean()),
        log_loss=float(validation.of_fit.mean()),
        prior_log_loss=float(validation.of_prior.mean()),
        error=_standard_error(validation.of_prior - validation.of_fit),
        auc=validation.auc,
        auc_error=float(np.sqrt((len(table.rows) + 1) / (12 * wanted * table.false.sum()))),
        clipped=clipped / max(len(probability) - len(table.rows), 1),
        strength=strength,
    )


class _Table:
    """Features of training positives, given some of the trusted labels."""

    def __init__(self, found: Evidence, rows: Rows, false: Floats) -> None:
        self.rows, self.false = rows, false
        self.loss, self.logit = found.loss.double().numpy(), found.logit.double().numpy()
        self.sides = [
            (
                code.numpy(),
                mean_by_code(found.loss, code, len(counts)).numpy(),
                counts.clamp(min=1).double().log().numpy(),
                factors.double().numpy(),
            )
            for code, counts, factors in (
                (found.user, found.user_counts, found.user_factors),
                (found.item, found.item_counts, found.item_factors),
            )
        ]
        self.codes = [code[rows] for code, *_ in self.sides]

    def describe(self, rows: Rows, known: Rows) -> Floats:
        """Return Float64[R, F], the features of ``rows`` given the trusted labels ``known``.

        ``known`` are positions in ``self.rows``. A row's own label is not among its features.
        """
        loss, logit = self.loss[rows], self.logit[rows]
        columns, factors = [loss, logit], []
        for code, mean, log_count, of_code in self.sides:
            mine = code[rows]
            columns += [mean[mine], loss - mean[mine], log_count[mine]]
            columns.append(rate_entities(code, self.rows[known], self.false[known], rows))
            factors.append(of_code[mine])
        return np.column_stack([*columns, *factors])


def rate_entities(code: Rows, labeled: Rows, false: Floats, rows: Rows) -> Floats:
    """Return Float64[R], the logit of the false-positive rate of the user, or item, of ``rows``.

    ``code`` is Int64[P], the user or item of each positive; ``labeled`` are T positions of distinct
    positives, and ``false`` Float64[T] is 1 for a false positive. The rate is smoothed, and a row's
    own label is left out.
    """
    prior, codes = false.mean(), int(code.max()) + 1
    is_known, is_false = np.zeros((2, len(code)))
    is_known[labeled], is_false[labeled] = 1, false
    count, hits = (
        np.bincount(code[labeled], one[labeled], codes)[code[rows]] - one[rows]
        for one in (is_known, is_false)
    )
    rate = (hits + PSEUDO_COUNTS * prior) / (count + PSEUDO_COUNTS)
    rate = rate.clip(1e-6, 1 - 1e-6)
    return np.asarray(np.log(rate / (1 - rate)))


class _Guarded:
    """Logistic regression on features clipped to, and standardized on, the labeled rows."""

    def __init__(self, features: Floats, false: Floats, strength: float) -> None:
        from sklearn.linear_model import LogisticRegression

        self.low, self.high = np.percentile(features, PERCENTILES, axis=0)
        inside = features.clip(self.low, self.high)
        self.mean, scale = inside.mean(axis=0), inside.std(axis=0)
        self.scale = np.where(scale > 0, scale, 1.0)
        self.regression: Any = LogisticRegression(C=strength, max_iter=2000)
        self.regression.fit(self._standardize(features), false)

    def _standardize(self, features: Floats) -> Floats:
        return np.asarray((features.clip(self.low, self.high) - self.mean) / self.scale)

    def predict(self, features: Floats) -> Floats:
        """Return the probability of each row."""
        return np.asarray(self.regression.predict_proba(self._standardize(features))[:, 1])


@dataclass(frozen=True)
class _Validation:
    """How labels are predicted by fits on other users and items."""

    of_fit: Floats
    """Float64[T], log loss of the fit."""
    of_prior: Floats
    """Float64[T], log loss of the share of false positives in the other folds."""
    auc: float
    """Of the probabilities minus that share."""


def _choose_strength(table: _Table) -> tuple[float, _Validation]:
    """Return the strength to fit with, and how well it predicts."""
    strong, weak = STRENGTHS
    by_strong, by_weak = _cross_validate(table, strong), _cross_validate(table, weak)
    gain = by_strong.of_fit - by_weak.of_fit
    if gain.mean() > CLEARLY * _standard_error(gain):
        return weak, by_weak
    return strong, by_strong


def _cross_validate(table: _Table, strength: float) -> _Validation:
    """Predict each label by a fit on other users, and by one on other items.

    A row whose item has labels is like a label whose user is left out, and any other like one whose
    item is; the results of the two are weighted accordingly.
    """
    from sklearn.model_selection import GroupKFold

    unlabeled = np.delete(table.sides[1][0], table.rows)
    known = float(np.isin(unlabeled, table.codes[1]).mean()) if len(unlabeled) else 1.0
    of_fit, of_prior = np.zeros((2, len(table.rows)))
    auc = 0.0
    for code, weight in zip(table.codes, (known, 1 - known), strict=True):
        folds = GroupKFold(min(FOLDS, len(np.unique(code))))
        above = np.zeros(len(table.rows))
        for kept, left in folds.split(code, groups=code):
            false = table.false[kept]
            prior = np.full(len(left), (false.sum() + 0.5) / (len(false) + 1))
            probability = prior
            if false.min() < false.max():
                model = _Guarded(table.describe(table.rows[kept], kept), false, strength)
                probability = model.predict(table.describe(table.rows[left], kept))
            above[left] = probability - prior
            of_fit[left] += weight * _log_loss(probability, table.false[left])
            of_prior[left] += weight * _log_loss(prior, table.false[left])
        auc += weight * metrics.auc(torch.from_numpy(above), torch.from_numpy(table.false))
    return _Validation(of_fit, of_prior, auc)


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _log_loss(probability: Floats, label: Floats) -> Floats:
    probability = probability.clip(1e-12, 1 - 1e-12)
    return np.asarray(-np.where(label > 0, np.log(probability), np.log(1 - probability)))
