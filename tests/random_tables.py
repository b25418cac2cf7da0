"""Generate training tables."""

import torch

from dartcli.data.tensors import FALSE_POSITIVE, NEGATIVE, TRUE_POSITIVE, Interactions

USERS, ITEMS, ROWS = 30, 20, 400


def table(seed: int, rows: int = ROWS) -> Interactions:
    """Return interactions with uniformly random users, items, and known kinds."""
    generator = torch.Generator().manual_seed(seed)
    fields = torch.stack(
        [
            torch.randint(0, USERS, (rows,), generator=generator),
            torch.randint(0, ITEMS, (rows,), generator=generator),
        ],
        dim=1,
    )
    kind = torch.randint(0, 3, (rows,), generator=generator).to(torch.int8)
    assert {NEGATIVE, TRUE_POSITIVE, FALSE_POSITIVE} == {0, 1, 2}
    return Interactions(fields, (kind != NEGATIVE).float(), kind)
