"""Settings: frozen, strict, the same as Python objects, JSON and TOML.

Unknown keys are refused everywhere. A component (data set, model, strategy) declares its own
options as a subclass of :class:`Options`; the settings of a run carry them as a plain mapping until
:func:`resolved_options` checks them, so this module knows no component.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from dartcli.errors import UsageError
from dartcli.files import SEAL, fits, reason

SCHEMA: Final = 1
"""Version of the settings document and of the run folder around it."""


class Options(BaseModel):
    """Base of all settings: frozen, unknown keys refused, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Protocol(Options):
    """How data are split, sampled, validated and reported."""

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
    patience: int
    """Epochs without a better validation AUC after which training stops."""
    epochs: int
    """Most epochs that a training may take."""


PROTOCOLS: Final[Mapping[str, Protocol]] = {
    "reference": Protocol(
        name="reference",
        resample_negatives=False,
        reshuffle=False,
        clean_validation=True,
        report="last",
        first_order_std=1.0,
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
        patience=20,
        epochs=200,
    ),
}


LONGEST: Final = 2**53


def checked_duration(value: object) -> int | str:
    """Return a duration as an integer (iterations) or as text such as ``"3ep"`` (epochs).

    Raises
    ------
    ValueError
        If it is neither, negative, or absurdly long.
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


Duration = Annotated[int | str, PlainValidator(checked_duration)]
"""A number of iterations (``5000``) or of epochs (``"3ep"``, ``"0.5ep"``)."""


def iterations(duration: int | str, iterations_per_epoch: int | None) -> float:
    """Return ``duration`` in iterations.

    Raises
    ------
    UsageError
        If it is given in epochs and ``iterations_per_epoch`` is not known.
    """
    if isinstance(duration, int):
        return float(duration)
    if iterations_per_epoch is None:
        raise UsageError(
            f"{duration!r} counts epochs, but the length of an epoch is not known here; "
            "pass iterations_per_epoch, or give a number of iterations."
        )
    return float(duration.removesuffix("ep")) * iterations_per_epoch


COMPONENTS: Final = ("dataset", "model", "strategy")
"""Settings that are a component: a name and its options."""


class Component(Options):
    """A data set, model or strategy by name, with its own options."""

    name: str = Field(min_length=1)
    """Name in the catalogue."""
    options: dict[str, Any] = {}
    """Options of that component; what is left out takes the component's default."""


class Training(Options):
    """How one model is fitted."""

    batch_size: int = Field(2048, ge=1, lt=2**31)
    """Rows in a mini-batch."""
    learning_rate: float = Field(1e-3, gt=0, le=1e30)
    """Adam's learning rate."""
    weight_decay: float = Field(1e-6, ge=0, le=1e30)
    """L2 penalty, coupled (Adam's own ``weight_decay``), on every parameter."""
    optimizer: Literal["adam", "sparse-adam"] = "adam"
    """``sparse-adam`` moves, and decays, only the rows of embedding tables that a batch touches:
    faster on large tables, other results."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Translate steps into compiled code (CPU) or a CUDA graph; ``auto`` does so on a CPU from
    step 20,001 on, where it has paid for itself. Results differ in the last digits of float32."""
    epochs: int | None = Field(None, ge=1, lt=2**31)
    """Most epochs; none = the protocol's."""
    patience: int | None = Field(None, ge=1, lt=2**31)
    """Epochs without a better validation AUC before stopping; none = the protocol's."""
    snapshots: tuple[Annotated[int, Field(ge=1, lt=2**63)], ...] = ()
    """Iterations after which the scores of the validation split are kept (``dart analyze
    loss-distribution`` draws them)."""


class Settings(Options):
    """Everything that determines a run."""

    version: Literal[1] = 1
    """Version of this document."""
    dataset: Component = Component(name="synthetic")
    """The data set."""
    protocol: Literal["reference", "strict"] = "strict"
    """``strict`` lets no clean label steer training; ``reference`` repeats the thesis."""
    model: Component = Component(name="fm")
    """The recommender."""
    strategy: Component = Component(name="dart")
    """What is done about suspected false positives."""
    training: Training = Training()
    """Optimiser and stopping."""
    seeds: tuple[Annotated[int, Field(lt=2**63)], ...] = (0,)
    """One training for each seed: initial weights, batches, sampled negatives, split."""
    split_seed: int | None = Field(None, ge=0, lt=2**63)
    """Seed of the split for all trainings; none = each training's own seed."""
    device: str = "auto"
    """``cpu``, ``cuda``, ``cuda:1``, ...; ``auto`` takes a GPU where there is one."""
    deterministic: bool | None = None
    """The same bytes whenever it is repeated on the same device; none = yes on a CPU, no on a
    GPU."""


OptionsType = TypeVar("OptionsType", bound=Options)


def parsed(kind: type[OptionsType], values: Mapping[str, Any], where: str) -> OptionsType:
    """Return ``kind(**values)``; a mistake becomes one sentence that begins with ``where``.

    Raises
    ------
    UsageError
        If a key is unknown or a value does not fit.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError(explained(error, kind, where)) from error


def explained(error: ValidationError, kind: type[BaseModel], where: str) -> str:
    """Turn the first fault that pydantic found into one sentence."""
    fault = error.errors(include_url=False)[0]
    path = ".".join([where, *(str(part) for part in fault["loc"])])
    if fault["type"] == "extra_forbidden":
        owner = kind
        for part in fault["loc"][:-1]:
            inner = owner.model_fields[str(part)].annotation if part in owner.model_fields else None
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                owner = inner
        offered = ", ".join(sorted(owner.model_fields)) or "none"
        return f"unknown setting {path}; the settings there are: {offered}."
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "missing":
        return f"{path} is missing; give it a value."
    return f"{path} is {fault['input']!r}: {message[0].lower()}{message[1:]}."


def resolved_options(
    kind: type[OptionsType], component: Component, where: str, defaults: Mapping[str, Any]
) -> OptionsType:
    """Return the options of ``component``; ``defaults`` fill the keys that ``kind`` knows."""
    fitting = {key: value for key, value in defaults.items() if key in kind.model_fields}
    return parsed(kind, {**fitting, **component.options}, where)


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn ``["strategy.r=0.5", "training.epochs=3"]`` into a nested mapping.

    A value is read as JSON where it is JSON (numbers, true, false, null, lists), else as text.
    Under ``dataset``, ``model`` and ``strategy`` any key other than ``name`` is an option of that
    component.

    Raises
    ------
    UsageError
        If an assignment has no ``=`` or an empty key.
    """
    tree: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise UsageError(
                f"--set takes KEY=VALUE such as strategy.r=0.5, but got {assignment!r}."
            )
        if parts[0] in COMPONENTS and parts[1:] != ["name"]:
            # a bare `strategy=lcd` names the component
            parts = [parts[0], "options", *parts[1:]] if parts[1:] else [parts[0], "name"]
        branch = tree
        for part in parts[:-1]:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise UsageError(
                    f"--set {assignment}: {key.strip()} lies below a setting that has a value "
                    "already; settings have no settings of their own."
                )
        branch[parts[-1]] = parse_value(text.strip())
    return tree


def parse_value(text: str) -> Any:
    """Return ``text`` read as JSON where it is JSON, else as it is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def merged(*trees: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; later ones win, and None never overrides.

    A component's options are dropped when a later mapping names another component: they would
    not belong to it.
    """
    result: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            if value is None:
                continue
            old = result.get(key)
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                renamed = None not in (old.get("name"), value.get("name")) and (
                    value["name"] != old["name"]
                )
                result[key] = merged({} if renamed else old, value)
            elif isinstance(value, Mapping):
                result[key] = merged(value)
            else:
                result[key] = value
    return result


def load_tree(path: Path) -> dict[str, Any]:
    """Return the settings document in ``path`` (``.toml``, or JSON) as a nested mapping.

    Raises
    ------
    UsageError
        If the file is missing, is neither TOML nor JSON, or holds something other than a table.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the settings file {path}: {reason(error)}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the settings file {path} is not UTF-8 text ({error}).") from error
    try:
        tree = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"cannot read the settings file {path}: {error}.") from error
    if not isinstance(tree, dict):
        raise UsageError(f"the settings file {path} holds no table of settings.")
    if SEAL in tree and not fits(tree):
        raise UsageError(
            f"the settings file {path} is not what was written: its seal does not fit; if you "
            f'changed it, remove its line "{SEAL}".'
        )
    tree.pop(SEAL, None)
    return tree


def parse_seeds(text: str) -> tuple[int, ...]:
    """Turn ``"0-4,7"`` into ``(0, 1, 2, 3, 4, 7)``.

    Raises
    ------
    UsageError
        If the text is no such list, names a seed twice, or names more than 10,000 seeds.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?", part)
        if match is None:
            raise UsageError(f"--seeds takes a list such as 0-9 or 0,1,5, but got {text!r}.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= 10_000:
            raise UsageError(f"--seeds {text!r}: the range {part.strip()} is empty or too long.")
        seeds.extend(range(first, last + 1))
    if len(set(seeds)) != len(seeds):
        raise UsageError(f"--seeds {text!r} names a seed twice.")
    if len(seeds) > 10_000:
        raise UsageError(f"--seeds {text!r} names {len(seeds):,} seeds; at most 10,000 are taken.")
    return tuple(seeds)


def seeds_text(seeds: Iterable[int]) -> str:
    """Return seeds as :func:`parse_seeds` reads them: ``0-2,5``."""
    groups: list[list[int]] = []
    for seed in seeds:
        if groups and seed == groups[-1][-1] + 1:
            groups[-1].append(seed)
        else:
            groups.append([seed])
    return ",".join(f"{g[0]}-{g[-1]}" if len(g) > 1 else str(g[0]) for g in groups)
