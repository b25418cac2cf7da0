"""FuxiCTR: a strategy as the loss function of a model, which returns probabilities.

Run it with `python examples/with_fuxictr.py` after `pip install fuxictr`.
"""

import torch
from _data import BATCH, EPOCHS, ITEMS, OPTIONS, STEPS, USERS, load, report
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FactorizationMachine, FeatureEmbedding
from fuxictr.pytorch.models import BaseModel

import dartcli


class Machine(BaseModel):
    """A factorization machine of FuxiCTR's own layers."""

    def __init__(self, features: FeatureMap) -> None:
        super().__init__(features, verbose=0, model_root="", metrics=["AUC"])
        self.embedding = FeatureEmbedding(features, 16)
        self.machine = FactorizationMachine(features)
        self.compile("adam", "binary_crossentropy", lr=0.01)
        denoise = dartcli.strategy(
            "dart", inputs="probabilities", iterations_per_epoch=STEPS, **OPTIONS
        )
        self.loss_fn = lambda probabilities, label, **_: denoise(probabilities, label)
        self._max_gradient_norm = 10.0

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Map a batch to its probabilities, as FuxiCTR's training step expects them."""
        inputs = self.get_inputs(inputs)
        logit = self.machine(inputs, self.embedding(inputs))
        return {"y_pred": self.output_activation(logit)}


def main() -> None:
    """Train, and print the AUC on clean test labels."""
    torch.manual_seed(0)
    features = FeatureMap("interactions", "")
    for name, size in (("user", USERS), ("item", ITEMS)):
        features.features[name] = {"type": "categorical", "source": "", "vocab_size": size}
    features.labels, features.default_emb_dim, features.num_fields = ["label"], 16, 2
    model = Machine(features)
    pairs, labels = load()
    for _ in range(EPOCHS):
        for row in torch.randperm(len(pairs)).split(BATCH):
            model.train_step({"user": pairs[row, 0], "item": pairs[row, 1], "label": labels[row]})
    test = load("test")[0]
    with torch.no_grad():
        report(model({"user": test[:, 0], "item": test[:, 1]})["y_pred"])


if __name__ == "__main__":
    main()
