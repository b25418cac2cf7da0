"""Column names shared by all tables of interactions."""

from __future__ import annotations

from typing import Final

USER: Final = "user"
"""The user: a raw id in a raw table, a dense unsigned integer in a prepared one."""

ITEM: Final = "item"
"""The item: a raw id in a raw table, a dense unsigned integer in a prepared one."""

LABEL: Final = "label"
"""Implicit feedback: 1 = interaction, 0 = sampled negative, or shown without an interaction."""

NOISY: Final = "noisy"
"""Known false positive: true or false for a positive, false for a negative, null = unknown."""

RATING: Final = "rating"
"""Explicit feedback on the scale of the source (stars, -10 to 10, ...); null if there is none."""

WANTED: Final = "wanted"
"""Answer in a file of labels: 1 = the user wanted the item, 0 = not; ``noisy`` is its negation."""

TIME: Final = "time"
"""Time of the interaction, in the type of the source."""

RESERVED: Final = (USER, ITEM, LABEL, NOISY, RATING, TIME)
