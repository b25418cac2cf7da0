"""Decide whether a training holds its table in memory, or reads it from disk in windows."""

from __future__ import annotations

import logging
import os
from dataclasses import replace

from dartcli.data.manifest import Prepared
from dartcli.storage.system import available_memory
from dartcli.training.configuration import Configuration

logger = logging.getLogger(__name__)


def settle_window(configuration: Configuration, prepared: Prepared) -> Configuration:
    """Return ``configuration`` with a window if the training table does not fit into memory.

    The settings that are saved with the run then name it, so they repeat the run on any machine.
    """
    from dartcli.data.stream import choose_window
    from dartcli.training.components import can_stream

    window = configuration.settings.training.window
    if window is None and can_stream(configuration):
        available = available_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        window = choose_window(prepared, available)
    if window is not None:
        logger.info(
            f"reading training interactions from disk, {window:,} of "
            f"{prepared.manifest.rows['train']:,} at a time; they are shuffled within such windows "
            "(training.window)"
        )
    return with_window(configuration, window)


def with_window(configuration: Configuration, window: int | None) -> Configuration:
    """Return ``configuration`` with the setting ``training.window``."""
    settings = configuration.settings
    training = settings.training.model_copy(update={"window": window})
    changed = settings.model_copy(update={"training": training})
    return replace(configuration, settings=changed)
