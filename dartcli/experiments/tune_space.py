"""The space of a hyper-parameter search: settings, and the values that each may take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from dartcli.errors import UsageError
from dartcli.experiments.configure import resolve
from dartcli.experiments.sweep_plan import build_tree
from dartcli.settings import Options, Settings, Training, parse_value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from dartcli.training.configuration import Configuration


class Dimension(Options):
    """A setting to search over."""

    key: str
    """The setting, such as ``strategy.r``."""
    kind: Literal["float", "int", "choice"]
    """A range of numbers, of integers, or a list of values."""
    low: float = 0.0
    """Lower end of a range."""
    high: float = 0.0
    """Upper end of a range."""
    log: bool = False
    """Whether the logarithm is searched."""
    values: tuple[Any, ...] = ()
    """The values of a list."""

    def distribution(self) -> BaseDistribution:
        """Return the dimension as Optuna describes it."""
        from optuna import distributions

        if self.kind == "choice":
            return distributions.CategoricalDistribution(self.values)
        if self.kind == "int":
            return distributions.IntDistribution(int(self.low), int(self.high), log=self.log)
        return distributions.FloatDistribution(self.low, self.high, log=self.log)

    def contains(self, value: object) -> bool:
        """Return whether ``value`` is one of the values."""
        if self.kind == "choice":
            return value in self.values
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high

    def find_end(self, value: float) -> str | None:
        """Return ``lower`` or ``upper`` if ``value`` is within 5% of that end of a range."""
        if self.kind == "choice":
            return None
        low, high, here = (
            math.log(one) if self.log else one for one in (self.low, self.high, value)
        )
        place = (here - low) / (high - low)
        return "lower" if place <= 0.05 else "upper" if place >= 0.95 else None


def parse_space(texts: Iterable[str], tree: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """Parse ``r=0:1``, ``t_i=log:1:10000``, or ``strategy.tau_m=0.005,0.01,0.02``.

    A name without a dot is an option of the strategy, else of training, else of the model. A range
    is one of integers if the setting takes no fractions. ``tree`` has the settings around it.

    Raises
    ------
    UsageError
        If a text, a setting, or a value is invalid, or a setting is given twice.
    """
    configuration = resolve(tree)
    found = [_parse_dimension(text, tree, configuration) for text in texts]
    keys = [one.key for one in found]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"`--space` has {key} more than once. Give each setting once.")
    if not found:
        raise UsageError("nothing to search over. Give a `--space`, such as `--space r=0:1`.")
    return tuple(found)


def _parse_dimension(text: str, tree: Mapping[str, Any], configuration: Configuration) -> Dimension:
    name, equals, values = (part.strip() for part in text.partition("="))
    invalid = UsageError(
        f"invalid value for `--space`: {text!r}. Use KEY=LOW:HIGH, KEY=log:LOW:HIGH, or "
        "KEY=VALUE,VALUE,... such as `r=0:1`."
    )
    if not (name and equals and values):
        raise invalid
    key = _complete_key(name, configuration)
    log = values.startswith("log:")
    ends = [parse_value(part.strip()) for part in values.removeprefix("log:").split(":")]
    if len(ends) == 1 and not log:
        choices = tuple(parse_value(part.strip()) for part in values.split(","))
        for value in choices:
            resolve(tree, build_tree(key, value))
            if choices.count(value) > 1:
                raise UsageError(f"`--space` has {key}={value} more than once. Give it once.")
        return Dimension(key=key, kind="choice", values=choices)
    if len(ends) != 2 or any(isinstance(end, bool | str | list | dict | None) for end in ends):
        raise invalid
    low, high = ends
    if not (low < high and (low > 0 or not log)):
        raise invalid
    for end in ends:
        resolve(tree, build_tree(key, end))
    inside = low + (high - low) * 0.382_715
    whole = all(isinstance(end, int) for end in ends) and not _accepts(tree, key, inside)
    return Dimension(key=key, kind="int" if whole else "float", low=low, high=high, log=log)


def _accepts(tree: Mapping[str, Any], key: str, value: object) -> bool:
    try:
        resolve(tree, build_tree(key, value))
    except UsageError:
        return False
    return True


def _complete_key(name: str, configuration: Configuration) -> str:
    if "." in name or name in Settings.model_fields:
        return name
    options: dict[str, type[Options]] = {
        "strategy": type(configuration.strategy_options),
        "training": Training,
        "model": type(configuration.model_options),
    }
    for where, kind in options.items():
        if name in kind.model_fields:
            return f"{where}.{name}"
    offered = ", ".join(sorted({key for kind in options.values() for key in kind.model_fields}))
    raise UsageError(f"`--space`: there is no setting {name!r}. Available settings: {offered}.")
