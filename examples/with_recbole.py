"""RecBole: a strategy in place of the loss of a model that returns logits.

Run it with `python examples/with_recbole.py` after `pip install recbole`.
"""

import tempfile
from pathlib import Path

import polars as pl
import torch
from _data import BATCH, EPOCHS, OPTIONS, STEPS, load
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.context_aware_recommender import FM
from recbole.trainer import Trainer

import dartcli


def write(folder: Path) -> None:
    """Write the splits as RecBole reads them; the test split serves for validation, too."""
    for name, split in (("train", "train"), ("valid", "test"), ("test", "test")):
        pairs, labels = load(split)
        columns = {
            "user_id:token": pairs[:, 0],
            "item_id:token": pairs[:, 1],
            "label:float": labels,
        }
        table = pl.DataFrame({head: values.numpy() for head, values in columns.items()})
        table.write_csv(folder / f"own.{name}.inter", separator="\t")


def main() -> None:
    """Train, and print the AUC on clean test labels."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "own"
        folder.mkdir()
        write(folder)
        config = Config("FM", "own", config_dict={
            "data_path": place, "load_col": {"inter": ["user_id", "item_id", "label"]},
            "benchmark_filename": ["train", "valid", "test"], "LABEL_FIELD": "label",
            "epochs": EPOCHS, "train_batch_size": BATCH, "metrics": ["AUC"], "valid_metric": "AUC",
            "eval_args": {"mode": "labeled", "order": "RO", "group_by": None},
            "learning_rate": 0.01, "train_neg_sample_args": None, "device": "cpu",
            "use_gpu": False, "checkpoint_dir": place, "show_progress": False, "stopping_step": 100,
        })  # fmt: skip
        torch.manual_seed(0)
        dataset = create_dataset(config)
        train, _, test = data_preparation(config, dataset)
        model = FM(config, train.dataset)
        model.loss = dartcli.strategy("dart", iterations_per_epoch=STEPS, **OPTIONS)
        trainer = Trainer(config, model)
        trainer.fit(train, saved=False, show_progress=False)
        print(f"AUC {trainer.evaluate(test, load_best_model=False)['auc']:.4f}")


if __name__ == "__main__":
    main()
