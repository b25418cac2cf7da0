"""What a stage hands on to the next: evidence of its finished model, and what labels make of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from dartcli import metrics
from dartcli.data.seeds import derived_seed
from dartcli.data.tensors import FALSE_POSITIVE, TRUE_POSITIVE, UNKNOWN_POSITIVE
from dartcli.denoising import Evidence, Strategy
from dartcli.metrics.statistics import extrapolate_size
from dartcli.models._layers import JointTable
from dartcli.signals._detector import Detection, detect
from dartcli.training.components import Components
from dartcli.training.epochs import EpochRecord
from dartcli.training.results import StageMetrics, finite_or_none
from dartcli.training.scoring import score_positives

logger = logging.getLogger(__name__)

STREAM: Final = 7
"""Stream of randomness of the starts that are not those of the seed."""
TOP_SHARE: Final = 0.04
"""Share of the training positives whose precision is measured."""
BINS: Final = 10
"""Bins of the calibration error."""


@dataclass(frozen=True)
class Identification:
    """What a finished model and trusted labels tell about the training positives."""

    evidence: Evidence
    """Evidence of the model."""
    trusted: Tensor
    """Long[T], positions of the trusted positives in the evidence."""
    detection: Detection | None
    """What the detector found; None if the trusted labels are too few or all alike."""

    @property
    def probability(self) -> Tensor | None:
        """Float[P], probability of being a false positive; None if labels do not tell."""
        if self.detection is None or not self.detection.is_informative:
            return None
        return self.detection.probability


def identify(
    model: nn.Module, components: Components, *, with_labels: bool = True
) -> Identification:
    """Collect the evidence of ``model``, and fit the detector if labels are granted.

    The ground truth of no row but ``components.trusted`` is read; of none without ``with_labels``.
    """
    evidence = collect_evidence(model, components)
    trusted, kind = components.trusted.cpu(), components.recorded_train.kind.cpu()
    if not with_labels:
        trusted = trusted[:0]
    rows = torch.searchsorted(evidence.row, trusted)
    detection = detect(evidence, rows, kind[trusted] == FALSE_POSITIVE) if len(rows) else None
    return Identification(evidence, rows, detection)


def measure_detection(found: Identification, components: Components) -> dict[str, float | None]:
    """Return how well the detector does, also on ground truth that was not granted, as metrics.

    For measurement only: nothing that is trained may depend on the result.
    """
    detection, probability = found.detection, found.probability
    if detection is None:
        return {}
    losses: dict[str, float | None] = {
        "detector_log_loss": detection.log_loss,
        "detector_prior_log_loss": detection.prior_log_loss,
    }
    kind = components.recorded_train.kind.cpu()[found.evidence.row]
    hidden = components.recorded_train.is_labeled.cpu()[found.evidence.row]
    hidden[found.trusted] = False
    if probability is None or not bool(hidden.any()):
        return losses
    score, label = probability[hidden].double(), kind[hidden] == FALSE_POSITIVE
    return losses | {
        "detector_auc": finite_or_none(metrics.auc(score, label)),
        "detector_precision": metrics.precision_at(score, label, [TOP_SHARE])[0],
        "detector_calibration_error": metrics.calibration_error(score.logit(), label, BINS),
    }


def collect_evidence(model: nn.Module, components: Components) -> Evidence:
    """Return what ``model`` tells about the training positives."""
    table, counts = components.recorded_train, components.counts
    row, logit = score_positives(model, table)
    user, item = (
        _read_factors(model, field, size) for field, size in enumerate((counts.users, counts.items))
    )
    return Evidence(
        row=row.cpu(),
        user=table.fields[row, 0].cpu(),
        item=table.fields[row, 1].cpu(),
        logit=logit.cpu(),
        user_counts=counts.user_counts.cpu(),
        item_counts=counts.item_counts.cpu(),
        user_factors=user,
        item_factors=item,
    )


def _read_factors(model: nn.Module, field: int, codes: int) -> Tensor:
    """Return Float[codes, K], all factors in the tables of the codes of a field."""
    parts = [torch.empty(codes, 0)]
    for layer in model.modules():
        if isinstance(layer, JointTable):
            start = int(layer.offsets[field])
            width = getattr(layer, "factors", layer.table.shape[1])
            parts.append(layer.table.detach()[start : start + codes, :width].cpu())
    return torch.cat(parts, dim=1)


def seed_of(strategy: Strategy, seed: int, stage: int) -> int:
    """Return the seed of the initial weights and batches of ``stage``."""
    start = strategy.choose_start(stage)
    return derived_seed(seed, STREAM, start) if start else seed


def measure_stages(components: Components, earlier: Sequence[EpochRecord]) -> list[StageMetrics]:
    """Return what each stage before the last one took, and what it flagged for later ones."""
    kind = components.recorded_train.kind
    positives, false = int((kind >= TRUE_POSITIVE).sum()), int((kind == FALSE_POSITIVE).sum())
    result = []
    for stage in dict.fromkeys(record.stage for record in earlier):
        last = max((one for one in earlier if one.stage == stage), key=lambda one: one.epoch)
        flagged = components.strategy.flagged_by(stage)
        share = precision = recall = None
        if flagged is not None:
            mine = kind[flagged[: len(kind)]]
            correct = int((mine == FALSE_POSITIVE).sum())
            judged = int((mine != UNKNOWN_POSITIVE).sum())
            share = len(mine) / positives
            precision = correct / judged if false and judged else None
            recall = correct / false if false else None
        result.append(
            StageMetrics(
                stage=stage,
                epochs=last.epoch,
                iterations=last.iteration,
                flagged_share=share,
                precision=precision,
                recall=recall,
            )
        )
    return result


def report_detection(found: Identification) -> None:
    """Log what the trusted labels are worth, before anything is trained on them."""
    labels = len(found.trusted)
    detection = found.detection
    if not labels:
        logger.warning(
            "no trusted labels are granted, so this is plain training, equal to `base`. Grant some "
            "with `--trusted 500`."
        )
    elif detection is None:
        logger.warning(
            f"the {labels:,} trusted labels are all alike, or of one user or one item, so they do "
            "not tell false positives from others: this is plain training, equal to `base`."
        )
    else:
        gain, width = detection.gain, 1.96 * detection.error
        numbers = (
            f"on users and items left out in turn, AUC {detection.auc:.3f} (by chance 0.5 ± "
            f"{1.96 * detection.auc_error:.3f}) and log loss {detection.log_loss:.4f}, against "
            f"{detection.prior_log_loss:.4f} for the share of false positives (gain {gain:.4f}, "
            f"95% CI {gain - width:.4f} to {gain + width:.4f}; {labels:,} labels)"
        )
        if detection.is_informative:
            logger.info(f"detector: {numbers}")
        else:
            logger.warning(
                f"the trusted labels do not tell false positives from others: {numbers}. This is "
                f"plain training, equal to `base`. {_suggest_labels(detection)}"
            )
        if not detection.looks_random:
            logger.warning(
                "the trusted interactions do not look like a random sample: "
                f"{detection.clipped:.1%} of the features of the other interactions are outside "
                f"their range, and about {detection.clipped_by_chance:.1%} are expected by chance. "
                "What they tell may not hold for the others. Label some at random with `dart "
                "label`."
            )


def _suggest_labels(detection: Detection) -> str:
    """Return how many labels would probably be informative, if what each tells stays."""
    if detection.support <= 0:
        return f"How many labels would help cannot be estimated; try {2 * detection.trusted:,}."
    needed = extrapolate_size(detection.trusted, 1.0, detection.support)
    return f"At this rate, about {max(needed, detection.trusted + 1):,.0f} labels would be enough."
