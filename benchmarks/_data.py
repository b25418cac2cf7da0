"""Generate interactions of known sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dartcli.data.tensors import FALSE_POSITIVE, NEGATIVE, TRUE_POSITIVE, Interactions
from dartcli.errors import UsageError
from dartcli.training import device as devices

SIZES = {
    "movielens-100k": (943, 1_682, 160_000),
    "jester": (73_421, 100, 3_300_000),
    "book-crossing": (77_805, 185_973, 693_872),
}
"""Name -> users, items, and rows of the training split, half of them negatives."""
BATCH = 2048
FACTORS = 16


@dataclass(frozen=True)
class Sized:
    """Generated interactions on a device."""

    name: str
    users: int
    items: int
    table: Interactions
    device: torch.device

    @property
    def iterations(self) -> int:
        """Steps per epoch."""
        return -(-len(self.table) // BATCH)

    def described(self) -> dict[str, Any]:
        """Return the fields that describe it in a benchmark's document."""
        return {
            "size": self.name,
            "users": self.users,
            "items": self.items,
            "rows": len(self.table),
            "batch_size": BATCH,
            "device": devices.describe(self.device),
        }


def sized(options: Mapping[str, Any]) -> Sized:
    """Generate interactions of the size and on the device that ``options`` name.

    Raises
    ------
    UsageError
        If the size does not exist.
    """
    name = str(options.get("size", "movielens-100k"))
    if name not in SIZES:
        raise UsageError(f"no size {name!r}. Choose from {', '.join(SIZES)}.")
    device = devices.resolve(str(options.get("device", "cpu")))
    users, items, rows = SIZES[name]
    return Sized(name, users, items, made_up(users, items, rows, device), device)


def row_counts(options: Mapping[str, Any], default: str) -> list[int]:
    """Parse the option ``rows``: numbers of rows in millions, such as ``"0.1,5,20"``.

    Raises
    ------
    UsageError
        If it is not such a list, or a number is below 0.01 or above 1000.
    """
    text = str(options.get("rows") or default)
    try:
        millions = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"invalid --rows {text!r}. Use millions, such as 5,20,50.") from error
    if not all(0.01 <= number <= 1000 for number in millions):
        raise UsageError(f"invalid --rows {text!r}: each must be between 0.01 and 1000 million.")
    return [round(1e6 * number) for number in millions]


def made_up(users: int, items: int, rows: int, device: torch.device) -> Interactions:
    """Generate interactions with uniform ids: half positives, a quarter of them false."""
    random = np.random.default_rng(0)
    fields = np.stack([random.integers(users, size=rows), random.integers(items, size=rows)], 1)
    kind = random.choice(
        np.array([NEGATIVE, TRUE_POSITIVE, FALSE_POSITIVE], dtype=np.int8),
        size=rows,
        p=(0.5, 0.375, 0.125),
    )
    return Interactions(
        fields=torch.from_numpy(fields).to(device),
        label=torch.from_numpy((kind != NEGATIVE).astype(np.float32)).to(device),
        kind=torch.from_numpy(kind).to(device),
    )
