"""FuxiCTR's factorization machine, put together as in its model zoo, which pip does not install."""

import numpy as np
from _curve import BATCH, FACTORS, LEARNING_RATE, SPLITS, WEIGHT_DECAY, Curve, read
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import FactorizationMachine, FeatureEmbedding
from fuxictr.pytorch.models import BaseModel

curve = Curve()
with curve.pause():
    ids, labels, sizes = read()
    for name in SPLITS:
        user, item = ids[name].T
        np.savez(f"{name}.npz", user=user, item=item, label=labels[name].astype(np.int64))


class FM(BaseModel):
    """The model zoo's FM."""

    def __init__(self, features: FeatureMap, **options: object) -> None:
        super().__init__(features, **options)
        self.embedding = FeatureEmbedding(features, FACTORS)
        self.fm = FactorizationMachine(features)
        self.compile("adam", "binary_crossentropy", LEARNING_RATE)
        self.reset_parameters()

    def forward(self, inputs):
        """Return the probability of every row."""
        fields = self.get_inputs(inputs)
        return {"y_pred": self.output_activation(self.fm(fields, self.embedding(fields)))}

    def eval_step(self) -> None:
        """Evaluate without checkpoints and early stopping."""
        curve.validate(lambda name: self.evaluate(parts[name], metrics=["AUC"])["AUC"])
        self.train()


features = FeatureMap("peers", ".")
for name, size in zip(("user", "item"), sizes, strict=True):
    features.features[name] = {"type": "categorical", "vocab_size": size, "source": ""}
features.labels, features.num_fields = ["label"], 2
loaders = RankDataLoader(features, "both", *SPLITS, batch_size=BATCH, num_workers=0)
parts = dict(zip(SPLITS, loaders, strict=True))
penalty = {"embedding_regularizer": WEIGHT_DECAY, "net_regularizer": WEIGHT_DECAY}
model = FM(features, **penalty, verbose=0, model_root=".", metrics=["AUC"])
model.load_weights = print  # there is no checkpoint to load at the end
curve.start()
model.fit(parts["train"], epochs=curve.limit, validation_data=parts["valid"])
curve.report("fuxictr")
