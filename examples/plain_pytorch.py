"""A plain PyTorch loop with autocast, gradient accumulation, and torch.compile.

Run it with `python examples/plain_pytorch.py`.
"""

import torch
from _data import BATCH, EPOCHS, ITEMS, OPTIONS, STEPS, USERS, load, report
from torch import nn

import dartcli

ACCUMULATE = 2


class Factors(nn.Module):
    """Matrix factorization with biases: logits of pairs of user and item."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, 17), nn.Embedding(ITEMS, 17)
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        """Map Long[N, 2] to Float[N]."""
        user, item = self.user(pairs[:, 0]), self.item(pairs[:, 1])
        return (user[:, 1:] * item[:, 1:]).sum(dim=1) + user[:, 0] + item[:, 0]


def main() -> None:
    """Train, and print the AUC on clean test labels."""
    torch.manual_seed(0)
    pairs, labels = load()
    model = Factors()
    denoise = dartcli.strategy("dart", iterations_per_epoch=STEPS, **OPTIONS)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    @torch.compile
    def compute_loss(batch: torch.Tensor, label: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(batch)
        # the strategy counts its own steps; the rows break ties in the same way in any order
        return denoise(logits, label, row=row)

    for _ in range(EPOCHS):
        for step, row in enumerate(torch.randperm(len(pairs)).split(BATCH), start=1):
            loss = compute_loss(pairs[row], labels[row], row) / ACCUMULATE
            loss.backward()
            if step % ACCUMULATE == 0:
                optimizer.step()
                optimizer.zero_grad()
        if denoise.last is not None:
            print(denoise.last.counts())
    with torch.no_grad():
        report(model(load("test")[0]))


if __name__ == "__main__":
    main()
