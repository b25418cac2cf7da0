"""Torch-RecHub's DeepFM without hidden layers, which is close to a factorization machine."""

from _curve import BATCH, FACTORS, LEARNING_RATE, SPLITS, WEIGHT_DECAY, Curve, read
from torch_rechub.basic.features import SparseFeature
from torch_rechub.models.ranking import DeepFM
from torch_rechub.trainers import CTRTrainer
from torch_rechub.utils.data import DataGenerator

curve = Curve()
ids, labels, sizes = read()
names = ("user", "item")
features = [
    SparseFeature(name, vocab_size=size, embed_dim=FACTORS)
    for name, size in zip(names, sizes, strict=True)
]
model = DeepFM(features, features, {"dims": []})
trainer = CTRTrainer(
    model, optimizer_params={"lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}, device="cpu"
)
inputs = {split: dict(zip(names, pairs.T, strict=True)) for split, pairs in ids.items()}
loaders = DataGenerator(inputs["train"], labels["train"]).generate_dataloader(
    inputs["valid"], labels["valid"], inputs["test"], labels["test"], batch_size=BATCH
)
parts = dict(zip(SPLITS, loaders, strict=True))

curve.start()
for _ in range(curve.limit):
    trainer.train_one_epoch(parts["train"])
    curve.validate(lambda split: trainer.evaluate(model, parts[split]))
curve.report("torch-rechub")
