"""Independent random streams from one seed."""

from __future__ import annotations

import numpy as np


def derived_seed(seed: int, *purpose: int) -> int:
    """Return a 63-bit seed for one ``purpose`` (such as stream and epoch) of ``seed``."""
    state = np.random.SeedSequence(seed, spawn_key=purpose).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
