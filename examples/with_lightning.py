"""A LightningModule with a strategy as its loss; the strategy is moved and saved with it.

Run it with `python examples/with_lightning.py` after `pip install lightning`.
"""

import lightning
import torch
from _data import BATCH, EPOCHS, OPTIONS, STEPS, load, report
from plain_pytorch import Factors
from torch.utils.data import DataLoader, TensorDataset

import dartcli


class Recommender(lightning.LightningModule):
    """Matrix factorization that is trained on what DART makes of the labels."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Factors()
        self.denoise = dartcli.strategy("dart", iterations_per_epoch=STEPS, **OPTIONS)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """Return the loss; `global_step` counts optimizer steps, also with accumulation."""
        pairs, labels, row = batch
        loss = self.denoise(self.model(pairs), labels, row=row, iteration=self.global_step + 1)
        if self.denoise.last is not None:
            self.log_dict({k: float(v) for k, v in self.denoise.last.counts().items()})
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam; `self.parameters()` include those of a strategy that has any."""
        return torch.optim.Adam(self.parameters(), lr=0.01)


def main() -> None:
    """Train, and print the AUC on clean test labels."""
    torch.manual_seed(0)
    pairs, labels = load()
    data = TensorDataset(pairs, labels, torch.arange(len(pairs)))
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=EPOCHS, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    module = Recommender()
    trainer.fit(module, DataLoader(data, BATCH, shuffle=True))
    with torch.no_grad():
        report(module.model(load("test")[0]))


if __name__ == "__main__":
    main()
