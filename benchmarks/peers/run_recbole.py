"""RecBole's factorization machine, its data loader, trainer, and evaluation."""

import logging
from pathlib import Path

from _curve import BATCH, FACTORS, LEARNING_RATE, SPLITS, WEIGHT_DECAY, Curve, read
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.context_aware_recommender.fm import FM
from recbole.trainer import Trainer

curve = Curve()
with curve.pause():
    ids, labels, _ = read()
    Path("data/peers").mkdir(parents=True)
    for name in SPLITS:
        rows = zip(*ids[name].T.tolist(), labels[name].tolist(), strict=True)
        with Path(f"data/peers/peers.{name}.inter").open("w") as file:
            file.write("user_id:token\titem_id:token\tlabel:float\n")
            file.writelines(f"{u}\t{i}\t{y:g}\n" for u, i, y in rows)
config = Config(
    model="FM",
    dataset="peers",
    config_dict={
        "data_path": "data", "benchmark_filename": list(SPLITS), "LABEL_FIELD": "label",
        "load_col": {"inter": ["user_id", "item_id", "label"]}, "embedding_size": FACTORS,
        "train_batch_size": BATCH, "learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY,
        "epochs": curve.limit, "stopping_step": curve.limit, "use_gpu": False,
        "eval_args": {"mode": "labeled", "order": "RO", "split": {"RS": [8, 1, 1]}},
        "train_neg_sample_args": None, "metrics": ["AUC"], "valid_metric": "AUC",
        "metric_decimal_place": 9,
    },
)  # fmt: skip
logging.disable(logging.WARNING)
parts = dict(zip(SPLITS, data_preparation(config, create_dataset(config)), strict=True))
trainer = Trainer(config, FM(config, parts["train"].dataset))


def add(_epoch: int, valid_auc: float) -> None:
    """Add the validation AUC that the trainer measured, and measure the test split."""
    if curve.add(valid_auc):
        with curve.pause():
            curve.test_auc = trainer.evaluate(parts["test"], load_best_model=False)["auc"]


trainer._train_epoch = curve.time(trainer._train_epoch)
trainer.fit(parts["train"], parts["valid"], saved=False, callback_fn=add)
curve.report("recbole")
