"""Names of the columns that every table of interactions shares."""

from __future__ import annotations

from typing import Final

USER: Final = "user"
"""The user: raw id in a raw table, dense unsigned integer in a processed one."""

ITEM: Final = "item"
"""The item: raw id in a raw table, dense unsigned integer in a processed one."""

LABEL: Final = "label"
"""Implicit feedback: 1 = interaction recorded, 0 = sampled negative or shown without a click."""

NOISY: Final = "noisy"
"""Known false positive: true or false for positives, false for negatives, null = unknown."""

RATING: Final = "rating"
"""Explicit feedback as the source has it (stars, -10 to 10, ...); null where there is none."""

TIME: Final = "time"
"""When the interaction happened, as the source has it."""

RESERVED: Final = (USER, ITEM, LABEL, NOISY, RATING, TIME)
