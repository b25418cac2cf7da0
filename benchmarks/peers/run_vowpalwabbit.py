"""Vowpal Wabbit's low-rank quadratic features: online steps of one row, adaptive rates."""

import numpy as np
from _curve import FACTORS, Curve, read
from sklearn.metrics import roc_auc_score
from vowpalwabbit import Workspace

curve = Curve()
with curve.pause():
    ids, labels, sizes = read()
    lines = {
        split: [
            f"{2 * int(label) - 1} |u {user} |i {item}"
            for (user, item), label in zip(pairs.tolist(), labels[split].tolist(), strict=True)
        ]
        for split, pairs in ids.items()
    }
bits = int(np.ceil(np.log2(sum(sizes) * (FACTORS + 1)))) + 1
model = Workspace(f"--loss_function logistic --lrq ui{FACTORS} -b {bits} --random_seed 1 --quiet")
random = np.random.default_rng(0)


def measure(split: str) -> float:
    """Return the AUC on a split."""
    return roc_auc_score(labels[split], [model.predict(line) for line in lines[split]])


curve.start()
for _ in range(curve.limit):
    for row in random.permutation(len(lines["train"])):
        model.learn(lines["train"][row])
    curve.validate(measure)
curve.report("vowpalwabbit")
