"""modern-fm's classifier: mini-batches of one-hot rows, Adam, float64, in Rust."""

import numpy as np
from _curve import BATCH, FACTORS, LEARNING_RATE, WEIGHT_DECAY, Curve, one_hot, read
from modern_fm import FMClassifier
from sklearn.metrics import roc_auc_score

curve = Curve()
ids, labels, sizes = read()
rows = one_hot(ids, sizes)
model = FMClassifier(
    n_factors=FACTORS, optimizer="adam", learning_rate=LEARNING_RATE, batch_size=BATCH,
    l2_linear=WEIGHT_DECAY, l2_factors=WEIGHT_DECAY, n_jobs=1, random_state=0,
)  # fmt: skip
random = np.random.default_rng(0)

curve.start()
for _ in range(curve.limit):
    # `fit` shuffles, but cannot be validated with labels of our own after every epoch
    order = random.permutation(len(labels["train"]))
    model.partial_fit(rows["train"][order], labels["train"][order], classes=[0, 1])
    curve.validate(lambda split: roc_auc_score(labels[split], model.decision_function(rows[split])))
curve.report("modern-fm")
