"""DeepCTR-Torch: a strategy as the loss of `compile`; its models return probabilities.

Run it with `python examples/with_deepctr_torch.py` after `pip install deepctr-torch`.
"""

import torch
from _data import BATCH, EPOCHS, ITEMS, OPTIONS, STEPS, USERS, load, report
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models import DeepFM

import dartcli


def main() -> None:
    """Train, and print the AUC on clean test labels."""
    torch.manual_seed(0)
    pairs, labels = load()
    denoise = dartcli.strategy(
        "dart", inputs="probabilities", iterations_per_epoch=STEPS, **OPTIONS
    )

    def loss(probabilities: torch.Tensor, label: torch.Tensor, **_: str) -> torch.Tensor:
        # DeepCTR-Torch asks for the sum over the batch
        return denoise(probabilities, label) * len(label)

    columns = [SparseFeat("user", USERS, 16), SparseFeat("item", ITEMS, 16)]
    model = DeepFM(columns, columns, dnn_hidden_units=(32, 32), device="cpu")
    model.compile("adam", loss)
    names = ("user", "item")
    inputs = dict(zip(names, pairs.T.numpy(), strict=True))
    model.fit(inputs, labels.numpy(), batch_size=BATCH, epochs=EPOCHS, verbose=0)
    test = dict(zip(names, load("test")[0].T.numpy(), strict=True))
    report(torch.from_numpy(model.predict(test, BATCH)))


if __name__ == "__main__":
    main()
