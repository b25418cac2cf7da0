"""Settings with every name looked up and every option typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from dartcli.data.dataset import DataOptions, Dataset
    from dartcli.denoising import Strategy
    from dartcli.settings import Options, Protocol, Settings


@dataclass(frozen=True)
class Configuration:
    """What :func:`dartcli.experiments.configure.configure` makes of settings, once per run.

    The options of a component are validated here and handed on as objects of its own class.
    """

    settings: Settings
    """Complete settings, defaults filled in; saved with the run."""
    protocol: Protocol
    """The protocol that ``settings.protocol`` names."""
    dataset: Dataset
    """The dataset."""
    dataset_options: DataOptions
    """Options of its reader."""
    model: type[nn.Module]
    """The model's class, called with field sizes and options."""
    model_options: Options
    """Options of the model."""
    strategy: type[Strategy]
    """The strategy's class."""
    strategy_options: Options
    """Options of the strategy."""

    @property
    def stages(self) -> int:
        """Trainings in a row for each seed, at most."""
        teaching = self.settings.teaching
        return self.strategy.stages if teaching.mode is None else teaching.order + 1
