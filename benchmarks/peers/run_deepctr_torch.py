"""DeepCTR-Torch's DeepFM without hidden layers, which is a factorization machine."""

from _curve import BATCH, FACTORS, LEARNING_RATE, WEIGHT_DECAY, Curve, read
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models import DeepFM
from sklearn.metrics import roc_auc_score
from torch.optim import Adam

curve = Curve()
ids, labels, sizes = read()
names = ("user", "item")
columns = [
    SparseFeat(name, vocabulary_size=size, embedding_dim=FACTORS)
    for name, size in zip(names, sizes, strict=True)
]
# the loss is a sum over the batch, so the penalty must be as many times as large
penalty = WEIGHT_DECAY * BATCH / 2
model = DeepFM(
    columns, columns, dnn_hidden_units=(), l2_reg_linear=penalty, l2_reg_embedding=penalty
)
model.compile(Adam(model.parameters(), lr=LEARNING_RATE), "binary_crossentropy")
inputs = {split: dict(zip(names, pairs.T, strict=True)) for split, pairs in ids.items()}


def measure(split: str) -> float:
    """Return the AUC on a split."""
    return roc_auc_score(labels[split], model.predict(inputs[split], BATCH))


curve.start()
for _ in range(curve.limit):
    model.fit(inputs["train"], labels["train"], BATCH, epochs=1, verbose=0)
    curve.validate(measure)
curve.report("deepctr-torch")
