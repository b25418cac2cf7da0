"""Interactions for the examples: synthetic ones, or those of the dataset that DATASET names."""

import os

import polars as pl
import torch

import dartcli
from dartcli import metrics

EPOCHS, BATCH = int(os.environ.get("EPOCHS", "5")), 1024
OPTIONS = {"r": 0.5, "tau_m": 0.1, "t_m": "3ep"}
"""Options of the strategy ``dart`` in every example."""


def load(name: str = "train") -> tuple[torch.Tensor, torch.Tensor]:
    """Return Long[N, 2] users and items, and Float[N] labels; of "test", the clean labels."""
    table = PREPARED.split(name)  # type: ignore[arg-type]
    label = pl.col("label").cast(pl.Float32)
    clean = label * (1 - pl.col("noisy").fill_null(value=False).cast(pl.Float32))
    chosen = table.select(clean if name == "test" else label)
    pairs = table.select(pl.col("user", "item").cast(pl.Int64))
    return pairs.to_torch(), chosen.to_torch().squeeze(1)


def report(score: torch.Tensor) -> None:
    """Print the AUC of Float[N] scores of the test split."""
    print(f"AUC {metrics.auc(score.flatten(), load('test')[1]):.4f}")


# this protocol draws the negatives once, so they are rows of the table
PREPARED = dartcli.preprocess(os.environ.get("DATASET", "synthetic"), protocol="reference")
USERS, ITEMS = PREPARED.field_sizes[:2]
STEPS = -(-len(load()[0]) // BATCH)
"""Steps in an epoch."""
