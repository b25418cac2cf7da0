"""The schema of settings, the same for Python objects, JSON, and TOML.

A component (dataset, model, strategy) declares its options as a subclass of :class:`Options`. The
settings of a run hold them as a plain mapping until
:func:`dartcli.settings.parsing.resolve_options` validates them, so this module knows no component.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from dartcli.errors import UsageError

SCHEMA: Final = 1
"""Version of the settings document and of the run folder around it."""


class Options(BaseModel):
    """Base of all settings: frozen, without unknown keys, NaN, or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )
    strict_defaults: ClassVar[Mapping[str, Any]] = {}
    """Defaults of a component's options that differ under the protocol ``strict``."""


class Protocol(Options):
    """How data are split, sampled, and validated, and which epoch is reported."""

    name: Literal["reference", "strict"]
    """Name on the command line."""
    resample_negatives: bool
    """Training negatives are drawn anew every epoch, excluding training positives only."""
    reshuffle: bool
    """Batches are drawn in a new order every epoch."""
    clean_validation: bool
    """Known false positives count as negatives in the validation labels."""
    report: Literal["last", "best"]
    """Which epoch's weights are kept and measured."""
    first_order_std: float
    """Standard deviation of the initial first-order weights; 0 = start from zero."""
    weight_decay: float | None
    """L2 penalty; None = the model's ``weight_decay``."""
    patience: int
    """Epochs without a better validation AUC before training stops."""
    epochs: int
    """Maximum number of epochs."""


PROTOCOLS: Final[Mapping[str, Protocol]] = {
    "reference": Protocol(
        name="reference",
        resample_negatives=False,
        reshuffle=False,
        clean_validation=True,
        report="last",
        first_order_std=1.0,
        weight_decay=1e-6,
        patience=2,
        epochs=100,
    ),
    "strict": Protocol(
        name="strict",
        resample_negatives=True,
        reshuffle=True,
        clean_validation=False,
        report="best",
        first_order_std=0.0,
        weight_decay=None,
        patience=20,
        epochs=200,
    ),
}


def find_protocol(name: str) -> Protocol:
    """Return the protocol ``name``.

    Raises
    ------
    UsageError
        If there is none.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"no protocol named {name!r}. Choose {' or '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


LONGEST: Final = 2**53
"""Longest duration in iterations: exact in float64."""


def check_duration(value: object) -> int | str:
    """Return a duration as an integer (iterations) or as text such as ``"3ep"`` (epochs).

    Raises
    ------
    ValueError
        If it is neither, negative, or too long.
    """
    text = str(value).strip()
    if isinstance(value, int | str) and not isinstance(value, bool):
        if re.fullmatch(r"\d{1,16}", text) and int(text) <= LONGEST:
            return int(text)
        if re.fullmatch(r"\d{1,9}(\.\d{1,9})?ep", text):
            return text
    if re.fullmatch(r"-\d+", text):
        raise ValueError("must not be negative")
    raise ValueError("must be a number of iterations such as 5000, or of epochs such as 3ep")


Duration = Annotated[int | str, PlainValidator(check_duration)]
"""A number of iterations (``5000``) or of epochs (``"3ep"``, ``"0.5ep"``)."""


def iterations(duration: int | str, iterations_per_epoch: int | None) -> float:
    """Return ``duration`` in iterations.

    Raises
    ------
    UsageError
        If it is given in epochs and ``iterations_per_epoch`` is None.
    """
    if isinstance(duration, int):
        return float(duration)
    if iterations_per_epoch is None:
        raise UsageError(
            f"{duration!r} is a number of epochs, but the length of an epoch is unknown. Pass "
            "`iterations_per_epoch`, or give a number of iterations."
        )
    return float(duration.removesuffix("ep")) * iterations_per_epoch


def check_share(value: object) -> float | str:
    """Return a share from 0 to 1, or ``"auto"``.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if value == "auto":
        return "auto"
    try:
        share = float("nan") if isinstance(value, bool) else float(str(value))
    except ValueError:
        share = float("nan")
    if not 0 <= share <= 1:
        raise ValueError("must be a number from 0 to 1, or auto")
    return share


Share = Annotated[float | str, PlainValidator(check_share)]
"""A share from 0 to 1, or ``"auto"``: estimated while training."""


def check_number(value: object) -> int | str:
    """Return a number of trusted labels, or ``"all"``.

    Raises
    ------
    ValueError
        If it is neither, or negative.
    """
    if value == "all":
        return "all"
    text = str(value).strip()
    if (
        isinstance(value, int | str)
        and not isinstance(value, bool)
        and re.fullmatch(r"\d{1,16}", text)
    ):
        return int(text)
    raise ValueError("must be a number of labels, 0 or greater, or all")


Number = Annotated[int | str, PlainValidator(check_number)]
"""A number of trusted labels (``500``), or ``"all"``."""


COMPONENTS: Final = ("dataset", "model", "strategy")
"""Settings that are a component: a name and options."""


class Component(Options):
    """A dataset, model, or strategy by name, with its options."""

    name: str = Field(min_length=1)
    """Name in the catalog."""
    options: dict[str, Any] = {}
    """Options of the component; missing ones take its defaults."""


class Training(Options):
    """How a model is trained."""

    batch_size: int = Field(2048, ge=1, lt=2**31)
    """Rows per batch."""
    learning_rate: float = Field(1e-3, gt=0, le=1e30)
    """Learning rate of Adam."""
    weight_decay: float | None = Field(None, ge=0, le=1e30)
    """L2 penalty, coupled (Adam's own ``weight_decay``), on every parameter; None = the model's
    under ``strict``, 1e-6 under ``reference``."""
    optimizer: Literal["adam", "sparse-adam"] = "adam"
    """``sparse-adam`` updates only the table rows in the batch: faster on large tables; results
    differ from Adam."""
    window: int | None = Field(None, ge=1, lt=2**31)
    """Training interactions in memory at once; None = all of them. ``dart train`` sets it if they
    do not fit: they are then read from disk, in an order that is random within a window."""
    ranking: Literal["global", "local"] = "global"
    """With several processes: strategies see the whole batch, as with one (``global``), or each
    process decides for its own rows (``local``): one exchange a step less, results differ."""
    cuda_graph: bool = True
    """On a GPU, capture the step as a CUDA graph and replay it; without effect on a CPU."""
    epochs: int | None = Field(None, ge=1, lt=2**31)
    """Maximum number of epochs; None = the protocol's."""
    patience: int | None = Field(None, ge=1, lt=2**31)
    """Epochs without a better validation AUC before stopping; None = the protocol's."""
    snapshots: tuple[Annotated[int, Field(ge=1, lt=2**63)], ...] = ()
    """Iterations after which the scores of the validation split are kept, for ``dart analyze
    loss-distribution``."""


class Teaching(Options):
    """Differential teaching: identify false positives by whole trainings, then train anew."""

    mode: Literal["serial", "parallel"] | None = None
    """``serial``: each training flags interactions for the next. ``parallel``: trainings with other
    seeds vote. None = no teaching: the strategy flags while it trains."""
    order: int = Field(1, ge=1, le=9)
    """Number of trainings that identify; another one follows, which is reported."""
    vote: Literal["majority", "all"] = "majority"
    """How many of the identifying trainings must flag an interaction, if ``parallel``."""


class Settings(Options):
    """Everything that determines the results of a run."""

    version: Literal[1] = 1
    """Version of this document."""
    dataset: Component = Component(name="synthetic")
    """Dataset."""
    protocol: Literal["reference", "strict"] = "strict"
    """``strict`` hides clean labels from training and selection; ``reference`` is the thesis's."""
    model: Component = Component(name="fm")
    """Recommender."""
    strategy: Component = Component(name="dart")
    """Denoising strategy: how suspected false positives are treated."""
    training: Training = Training()
    """Batches, optimizer, and stopping."""
    teaching: Teaching = Teaching()
    """Whether the strategy flags interactions in trainings of its own."""
    init: str | None = Field(None, min_length=1)
    """Run whose weights training starts from; None = fresh weights."""
    trusted: Number = 0
    """Training positives whose ground truth may be trained on, or ``all`` that have one. They are
    drawn by the seed; the first 200 are among the first 500."""
    trusted_valid: int = Field(0, ge=0, lt=2**53)
    """Validation positives whose ground truth may be used to select the epoch under ``strict``,
    drawn by the seed."""
    seeds: tuple[Annotated[int, Field(lt=2**63)], ...] = (0,)
    """One training per seed: initial weights, batches, sampled negatives, split."""
    split_seed: int | None = Field(None, ge=0, lt=2**63)
    """Seed of the split for all trainings; None = the seed of each training."""
    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1``, ...; ``auto`` = a GPU if there is one."""
    deterministic: bool | None = None
    """Reproduce the same bytes on the same device; None = yes on a CPU, no on a GPU."""
