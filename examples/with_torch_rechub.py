"""torch-rechub: a strategy as the criterion of its trainer; its models return probabilities.

Run it with `python examples/with_torch_rechub.py` after `pip install torch-rechub`.
"""

import torch
from _data import BATCH, EPOCHS, ITEMS, OPTIONS, STEPS, USERS, load, report
from torch_rechub.basic.features import SparseFeature
from torch_rechub.models.ranking import DeepFM
from torch_rechub.trainers import CTRTrainer
from torch_rechub.utils.data import DataGenerator

import dartcli


def main() -> None:
    """Train, and print the AUC on clean test labels."""
    torch.manual_seed(0)
    names = ("user", "item")
    (pairs, labels), (test, clean) = load(), load("test")
    inputs, test_inputs = (
        dict(zip(names, table.T.numpy(), strict=True)) for table in (pairs, test)
    )
    batches, test_batches, _ = DataGenerator(inputs, labels.numpy()).generate_dataloader(
        x_val=test_inputs, y_val=clean.numpy(), x_test=test_inputs, y_test=clean.numpy(),
        batch_size=BATCH,
    )  # fmt: skip
    features = [SparseFeature("user", USERS, 16), SparseFeature("item", ITEMS, 16)]
    model = DeepFM(features, features, {"dims": [32, 32], "dropout": 0.2})
    trainer = CTRTrainer(model, optimizer_params={"lr": 0.003}, n_epoch=EPOCHS)
    trainer.criterion = dartcli.strategy(
        "dart", inputs="probabilities", iterations_per_epoch=STEPS, **OPTIONS
    )
    for epoch in range(EPOCHS):
        # without validation: the test split must not choose the epoch
        trainer.train_one_epoch(batches, log_interval=1000)
        print("epoch", epoch, trainer.criterion.last.counts())
    report(torch.tensor(trainer.predict(model, test_batches)))


if __name__ == "__main__":
    main()
